#include "backburn/defense/vaccine.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "backburn/defense/anchored.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/model/residual_stream.h"

namespace backburn::defense {
namespace {

at::Tensor loss_of(const model::Network& network, const AnswerBatch& batch, const model::StreamVisitor& visit) {
  const auto states = train::states_at(model::visited_hidden_states(network, batch.tokens, visit), batch.predictions);
  return -train::token_logprobs(network, states, batch.predictions.targets, 1.0).logprobs.mean();
}

}  // namespace

at::Tensor perturbed_loss(const model::Network& network, const AnswerBatch& batch,
                          std::span<const at::Tensor> perturbation) {
  return loss_of(network, batch, [&](size_t layer, const at::Tensor& stream) {
    return perturbation.empty() ? stream : stream + perturbation[layer];
  });
}

std::vector<at::Tensor> worst_perturbation(const model::Network& network, const AnswerBatch& batch, double rho) {
  std::vector<at::Tensor> streams;
  const auto loss = loss_of(network, batch, [&](size_t, const at::Tensor& stream) {
    streams.push_back(stream);
    return stream;
  });
  const at::NoGradGuard no_grad;
  auto gradients = torch::autograd::grad({loss}, streams);
  double square = 0;
  for (const auto& gradient : gradients) square += gradient.to(at::kFloat).square().sum().item<double>();
  const double scale = rho / std::max(1e-12, std::sqrt(square));
  for (auto& gradient : gradients) gradient = gradient * scale;
  return gradients;
}

train::Learner run_vaccine(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  const auto examples = refusal_examples(inputs);
  const auto gradient = [&](const train::Learner& learner) -> StepLoss {
    const auto batch = pack_answers(train::examples_of_step(examples, sft.train_batch_size, learner.step, inputs.seed));
    const auto perturbation = worst_perturbation(learner.network(), batch, options.vaccine.rho);
    const auto loss = perturbed_loss(learner.network(), batch, perturbation);
    loss.backward();
    return {loss.item<double>(), add_anchor(learner, inputs.benign, sft.anchor, inputs.seed)};
  };
  return run_supervised(train::make_learner(*inputs.model, sft.lora, inputs.seed), inputs, sft, "vaccine", on_step,
                        gradient);
}

}  // namespace backburn::defense
