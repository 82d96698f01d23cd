#pragma once

#include <span>
#include <vector>

#include "backburn/generate/sampler.h"
#include "backburn/train/supervised.h"

namespace backburn::train {

/// Without gradient: Σ ln π(answer | prompt) in nats, [sampling][example], where π is what generate::sample draws from:
/// the distribution at the temperature, cut by top_k, top_p and min_p and divided by the mass that is left; −∞ where a
/// token of the answer is cut. In f64 from the network's f32 logits, so that 1 − π is exact for a π near 1. Errors: a
/// temperature that is not positive (std::logic_error).
std::vector<std::vector<double>> sampled_logprobs(const model::Network& network, std::span<const Example> examples,
                                                  std::span<const generate::SamplingOptions> samplings);

}  // namespace backburn::train
