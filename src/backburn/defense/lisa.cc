#include "backburn/defense/lisa.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "backburn/defense/anchored.h"
#include "backburn/defense/refusal_sft.h"

namespace backburn::defense {
namespace {

std::vector<at::Tensor> parameters_now(const train::Learner& learner) {
  std::vector<at::Tensor> copies;
  for (const auto& parameter : learner.parameters()) copies.push_back(parameter.detach().clone());
  return copies;
}

}  // namespace

double add_proximal_gradient(const train::Learner& learner, std::span<const at::Tensor> point, double rho) {
  const at::NoGradGuard no_grad;
  const auto parameters = learner.parameters();
  double square = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto drift = parameters[i].detach() - point[i];
    square += drift.square().sum().item<double>();
    const auto pull = drift * rho;
    parameters[i].mutable_grad() = parameters[i].grad().defined() ? parameters[i].grad() + pull : pull;
  }
  return rho / 2 * square;
}

train::Learner run_lisa(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  const auto refusals = refusal_examples(inputs);
  std::vector<at::Tensor> other_state;  // the weights with which it ended
  const auto gradient = [&](const train::Learner& learner) {
    const int64_t place = learner.step % train::checkpoint_steps;
    if (place == 0 || place == options.lisa.alignment_steps) other_state = parameters_now(learner);
    StepLoss loss;
    if (place < options.lisa.alignment_steps) {
      const auto batch = train::examples_of_step(refusals, sft.train_batch_size, learner.step, inputs.seed);
      loss.loss = train::add_supervised_gradient(learner.network(), batch, 1.0, 1.0);
    } else {
      loss.kl = add_anchor(learner, inputs.benign, sft.anchor, inputs.seed);
    }
    loss.loss += add_proximal_gradient(learner, other_state, options.lisa.rho);
    return loss;
  };
  return run_supervised(train::make_learner(*inputs.model, sft.lora, inputs.seed), inputs, sft, "lisa", on_step,
                        gradient);
}

}  // namespace backburn::defense
