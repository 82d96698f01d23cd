#include "backburn/model/rotary.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>

#include "backburn/base/error.h"

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

// YaRN: the same idea, gradual in the number of the dimension.
at::Tensor yarn_frequencies(const ModelConfig& config, const at::Tensor& frequencies) {
  const RopeScaling& scaling = config.rope_scaling;
  const auto pairs = static_cast<double>(frequencies.size(0));
  // The pair that turns so many times in the original context.
  const auto pair_of = [&](double turns) {
    const auto original = static_cast<double>(scaling.original_max_position_embeddings);
    return pairs * std::log(original / (turns * 2 * M_PI)) / std::log(config.rope_theta);
  };
  double first = pair_of(scaling.beta_fast), last = pair_of(scaling.beta_slow);
  if (scaling.truncate) first = std::floor(first), last = std::ceil(last);
  first = std::max(first, 0.0);
  last = std::min(last, 2 * pairs - 1);
  if (first == last) last += 0.001;
  const auto stretched = ((at::arange(frequencies.size(0), at::kFloat) - first) / (last - first)).clamp(0, 1);
  return frequencies * (1 - stretched + stretched / scaling.factor);
}

at::Tensor longrope_frequencies(const RopeScaling& scaling, const at::Tensor& frequencies) {
  return frequencies / at::tensor(scaling.short_factor, at::kFloat);
}

void refuse_beyond_trained_length(const ModelConfig& config, const at::Tensor& positions) {
  const RopeScaling& scaling = config.rope_scaling;
  if ((scaling.type != "dynamic" && scaling.type != "longrope") || positions.numel() == 0) return;
  const int64_t length =
      scaling.type == "dynamic" ? config.max_position_embeddings : scaling.original_max_position_embeddings;
  if (const auto last = positions.max().item<int64_t>(); last >= length) {
    fail(
        "a sequence of {} tokens: with RoPE scaling \"{}\" this model is computed up to {} tokens; shorten prompts or "
        "answers",
        last + 1, scaling.type, length);
  }
}

}  // namespace

double rope_attention_factor(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.type != "yarn" && scaling.type != "longrope") return 1;
  if (scaling.attention_factor != 0) return scaling.attention_factor;
  const auto original = static_cast<double>(scaling.original_max_position_embeddings);
  const double factor =
      scaling.factor != 0 ? scaling.factor : static_cast<double>(config.max_position_embeddings) / original;
  if (factor <= 1) return 1;
  return scaling.type == "yarn" ? 0.1 * std::log(factor) + 1 : std::sqrt(1 + std::log(factor) / std::log(original));
}

RotaryTable rotary_table(const ModelConfig& config, const at::Tensor& positions, bool local) {
  const bool own_theta = local && config.local_rope_theta != 0;
  const std::string scaling = own_theta ? "default" : config.rope_scaling.type;
  const int64_t dimensions = config.rotary_dim == 0 ? config.head_dim : config.rotary_dim;
  auto frequencies = at::pow(own_theta ? config.local_rope_theta : config.rope_theta,
                             at::arange(0, dimensions, 2, at::kFloat).div_(static_cast<double>(dimensions)).neg_());
  if (scaling == "linear") frequencies = frequencies / config.rope_scaling.factor;
  if (scaling == "llama3") frequencies = llama3_frequencies(config.rope_scaling, frequencies);
  if (scaling == "yarn") frequencies = yarn_frequencies(config, frequencies);
  if (scaling == "longrope") frequencies = longrope_frequencies(config.rope_scaling, frequencies);
  if (!own_theta) refuse_beyond_trained_length(config, positions);
  const auto angles = at::outer(positions.to(at::kFloat), frequencies.to(positions.device()));
  const double factor = own_theta ? 1 : rope_attention_factor(config);
  if (factor == 1) return {angles.cos(), angles.sin()};
  return {angles.cos() * factor, angles.sin() * factor};
}

}  // namespace backburn::model
