#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace backburn::generate {

/// How tokens are drawn. Names and defaults are Hugging Face's `GenerationConfig`, except that sampling is the default.
struct SamplingOptions {
  double temperature = 1.0;  ///< divides the logits; 0 takes the likeliest token
  int64_t top_k = 0;         ///< keep the k likeliest tokens; 0 keeps all
  double top_p = 1.0;        ///< keep the smallest set of tokens whose probabilities reach p (Holtzman 2019)
  double min_p = 0.0;        ///< keep tokens at least this fraction as likely as the likeliest
};

struct SampledToken {
  int32_t id = 0;
  /// ln π(id) of the distribution at `temperature` (1 when greedy), before top_k, top_p and min_p cut it: what the
  /// trainer differentiates, as in TRL.
  float logprob = 0;
  float entropy = 0;     ///< of the same distribution, in nats
  float normalizer = 0;  ///< its ln Z: ln π = logit / temperature − ln Z
};

/// One token a row of `logits` [rows, vocab] f32 (on any device; drawn on the CPU), by inverting the cumulative
/// distribution at uniforms[row] ∈ [0, 1). Errors: NaN logits.
std::vector<SampledToken> sample(const at::Tensor& logits, std::span<const float> uniforms,
                                 const SamplingOptions& options);

}  // namespace backburn::generate
