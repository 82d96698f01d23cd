#include "backburn/model/rotary.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cmath>

namespace backburn::model {

namespace {

// Llama 3.1: wavelengths that the original context holds often are kept, long ones are stretched, and between the two
// the change is gradual.
at::Tensor llama3_frequencies(const RopeScaling& scaling, const at::Tensor& frequencies) {
  const auto original = static_cast<double>(scaling.original_max_position_embeddings);
  const auto turns = frequencies * (original / (2 * M_PI));  // in the original context
  const auto kept =
      ((turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)).clamp(0, 1);
  return frequencies * (kept + (1 - kept) / scaling.factor);
}

}  // namespace

at::Tensor rotary_angles(const ModelConfig& config, const at::Tensor& positions, bool local) {
  const bool own_theta = local && config.local_rope_theta != 0;
  const std::string scaling = own_theta ? "default" : config.rope_scaling.type;
  auto frequencies =
      at::pow(own_theta ? config.local_rope_theta : config.rope_theta,
              at::arange(0, config.head_dim, 2, at::kFloat).div_(static_cast<double>(config.head_dim)).neg_());
  if (scaling == "linear") frequencies = frequencies / config.rope_scaling.factor;
  if (scaling == "llama3") frequencies = llama3_frequencies(config.rope_scaling, frequencies);
  return at::outer(positions.to(at::kFloat), frequencies.to(positions.device()));
}

}  // namespace backburn::model
