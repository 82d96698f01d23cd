#include "backburn/defense/booster.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "backburn/defense/anchored.h"
#include "backburn/defense/harmful_answers.h"
#include "backburn/defense/refusal_sft.h"

namespace backburn::defense {
namespace {

struct HarmfulGradient {
  double loss = 0;
  std::vector<at::Tensor> gradients;  // one a parameter
};

// Takes the gradients out of the parameters, which must have none before.
HarmfulGradient harmful_gradient(const train::Learner& learner, std::span<const train::Example> harmful) {
  HarmfulGradient result{train::add_supervised_gradient(learner.network(), harmful, 1.0, 1.0), {}};
  for (const auto& parameter : learner.adapter.parameters()) {
    result.gradients.push_back(parameter.grad().defined() ? parameter.grad() : at::zeros_like(parameter));
    parameter.mutable_grad().reset();
  }
  return result;
}

double norm_of(std::span<const at::Tensor> tensors) {
  double square = 0;
  for (const auto& tensor : tensors) square += tensor.square().sum().item<double>();
  return std::sqrt(square);
}

}  // namespace

double add_attenuation_gradient(const train::Learner& learner, std::span<const train::Example> harmful, double alpha,
                                double lambda) {
  const auto parameters = learner.adapter.parameters();
  std::vector<at::Tensor> before, gradients_before;
  {
    const at::NoGradGuard no_grad;
    for (const auto& parameter : parameters) {
      before.push_back(parameter.detach().clone());
      gradients_before.push_back(parameter.grad());
      parameter.mutable_grad().reset();
    }
  }
  const auto here = harmful_gradient(learner, harmful);
  const double step = alpha / std::max(1e-12, norm_of(here.gradients));
  const auto move = [&](const auto& to) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters.size(); ++i) {
      at::Tensor parameter = parameters[i].detach();  // shares the memory
      parameter.copy_(to(i));
    }
  };
  move([&](size_t i) { return before[i] - here.gradients[i] * step; });
  const auto there = harmful_gradient(learner, harmful);
  move([&](size_t i) { return before[i]; });
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto gradient = (here.gradients[i] - there.gradients[i]) * lambda;
    if (gradients_before[i].defined()) gradient = gradient + gradients_before[i];
    parameters[i].mutable_grad() = gradient;
  }
  return here.loss - there.loss;
}

train::Learner run_booster(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  auto learner = train::make_learner(*inputs.model, sft.lora, inputs.seed);
  const auto harmful = harmful_answers(inputs, options.harmful);
  const auto examples = refusal_examples(inputs);
  train::run_steps(learner, sft.max_steps, inputs.checkpoint, [&] {
    const auto batch = train::examples_of_step(examples, sft.train_batch_size, learner.step, inputs.seed);
    const auto loss = add_anchored_gradient(learner, batch, 1.0, inputs.benign, sft.anchor, inputs.seed);
    const double gain = add_attenuation_gradient(
        learner, train::examples_of_step(harmful, options.harmful.batch, learner.step, inputs.seed + 2),
        options.booster.alpha, options.booster.lambda);
    const double norm = train::update(learner, sft.optimizer, sft.max_steps);
    if (on_step) {
      on_step({"booster",
               learner.step,
               sft.max_steps,
               loss.refusal + options.booster.lambda * gain,
               {},
               {},
               loss.kl,
               norm});
    }
  });
  return learner;
}

}  // namespace backburn::defense
