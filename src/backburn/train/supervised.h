#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backburn/model/transformer.h"

namespace backburn::train {

/// A prompt and the answer that a model shall give (or gave), token by token.
struct Example {
  std::vector<int32_t> prompt;
  std::vector<int32_t> answer;  ///< the stop token included
};

/// Adds the gradient of `weight` · L to the adapter's, L = −(1/answer tokens) Σ ln π_T(answer | prompt), the mean over all
/// answer tokens of the batch (what TRL's SFTTrainer does with completion_only_loss), at temperature T. Returns L.
double add_supervised_gradient(const model::Network& network, std::span<const Example> examples, double temperature,
                               double weight);

/// Adds the gradient of `weight` · D, D = the mean over answer tokens of KL(teacher ‖ network) over the whole vocabulary:
/// the network is held to what the teacher would say at each place of the teacher's own answers. Returns D in nats.
double add_anchor_gradient(const model::Network& network, const model::Network& teacher,
                           std::span<const Example> examples, double weight);

/// Without gradient: Σ ln π_T(answer | prompt) per example, in nats.
std::vector<double> answer_logprobs(const model::Network& network, std::span<const Example> examples,
                                    double temperature = 1.0);

/// Without gradient: the mean over all answer tokens of KL(teacher ‖ network), nats per token.
double mean_divergence(const model::Network& network, const model::Network& teacher, std::span<const Example> examples);

}  // namespace backburn::train
