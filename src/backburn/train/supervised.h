#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backburn/model/load.h"

namespace backburn::train {

/// A prompt and the answer that a model shall give (or gave), token by token.
struct Example {
  std::vector<int32_t> prompt;
  std::vector<int32_t> answer;  ///< the stop token included
};

/// A written answer to a prompt, closed by the model's first stop token.
Example written_example(const model::Model& model, std::vector<int32_t> prompt, const std::string& answer);

/// Those of the examples, in that order.
std::vector<Example> these(std::span<const Example> examples, std::span<const size_t> which);

/// The examples of step `step`, everyone in turn (see prompts_of_step).
std::vector<Example> examples_of_step(std::span<const Example> examples, int64_t batch, int64_t step, uint64_t seed);

/// Adds the gradient of `weight` · L to the adapter's, L = −(1/answer tokens) Σ ln π_T(answer | prompt), the mean over
/// all answer tokens of the batch (what TRL's SFTTrainer does with completion_only_loss), at temperature T. Returns L.
double add_supervised_gradient(const model::Network& network, std::span<const Example> examples, double temperature,
                               double weight);

/// Adds the gradient of Σ weights[i] · ln π_T(answer i | prompt i) to the adapter's.
void add_weighted_gradient(const model::Network& network, std::span<const Example> examples,
                           std::span<const double> weights, double temperature = 1.0);

/// Examples, and what a teacher makes of them: its hidden states at the places that predict their answers, computed
/// once.
struct Taught {
  std::vector<Example> examples;
  std::vector<at::Tensor> states;  ///< per example [answer tokens, hidden]
  at::Tensor head;                 ///< [vocab, hidden], the teacher's; undefined: quantised
};
Taught taught(const model::Network& teacher, std::vector<Example> examples);
/// … where sampling the answers has found the states already.
Taught taught(const model::Network& teacher, std::vector<Example> examples, std::vector<at::Tensor> states);

/// Adds the gradient of `weight` · D, D = the mean over the answer tokens of the examples `picked` of KL(teacher ‖
/// network) over the whole vocabulary: the network is held to what the teacher would say at each place. Returns D
/// in nats.
double add_anchor_gradient(const model::Network& network, const Taught& taught, std::span<const size_t> picked,
                           double weight);

/// Without gradient: Σ ln π_T(answer | prompt) in nats, [temperature][example].
std::vector<std::vector<double>> answer_logprobs(const model::Network& network, std::span<const Example> examples,
                                                 std::span<const double> temperatures);
/// … at one temperature.
std::vector<double> answer_logprobs(const model::Network& network, std::span<const Example> examples,
                                    double temperature = 1.0);

/// Without gradient, how a network stands to a teacher on all examples: means over their answer tokens.
struct Drift {
  double perplexity = 1;  ///< exp of the mean −ln π(answer) under the network
  double divergence = 0;  ///< KL(teacher ‖ network), nats
};
Drift drift(const model::Network& network, const Taught& taught);

}  // namespace backburn::train
