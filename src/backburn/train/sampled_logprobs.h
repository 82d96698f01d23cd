#pragma once

#include <span>
#include <vector>

#include "backburn/generate/sampler.h"
#include "backburn/train/supervised.h"

namespace backburn::train {

/// ln π of each token of one answer, in nats.
using AnswerLogprobs = std::vector<double>;

/// Without gradient: ln π(token | prompt, the answer's tokens before it), [sampling][example][token], where π is what
/// generate::sample draws from: the distribution at the temperature, cut by top_k, top_p and min_p and divided by the
/// mass that is left; −∞ where a token of the answer is cut. In f64 from the network's f32 logits, so that 1 − π is
/// exact for a π near 1. Errors: a temperature that is not positive (std::logic_error).
std::vector<std::vector<AnswerLogprobs>> sampled_logprobs(const model::Network& network,
                                                          std::span<const Example> examples,
                                                          std::span<const generate::SamplingOptions> samplings);

}  // namespace backburn::train
