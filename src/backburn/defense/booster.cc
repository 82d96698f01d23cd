#include "backburn/defense/booster.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "backburn/defense/anchored.h"
#include "backburn/defense/harmful_answers.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/defense/shadow.h"

namespace backburn::defense {

double add_attenuation_gradient(const train::Learner& learner, std::span<const train::Example> harmful, double alpha,
                                double lambda) {
  const auto moved = copy_of(learner);
  const double here = train::add_supervised_gradient(moved.network(), harmful, 1.0, 1.0);
  const double step = alpha / std::max(1e-12, gradient_norm(moved));
  {
    const at::NoGradGuard no_grad;
    for (const auto& parameter : moved.parameters()) {
      if (parameter.grad().defined()) parameter.detach().sub_(parameter.grad() * step);  // shares the memory
    }
  }
  hand_over_gradients(moved, learner, lambda);
  const double there = train::add_supervised_gradient(moved.network(), harmful, 1.0, 1.0);
  hand_over_gradients(moved, learner, -lambda);
  return here - there;
}

train::Learner run_booster(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  const auto harmful = harmful_answers(inputs, options.harmful);
  const auto examples = refusal_examples(inputs);
  const auto gradient = [&](const train::Learner& learner) {
    const auto batch = train::examples_of_step(examples, sft.train_batch_size, learner.step, inputs.seed);
    auto loss = add_anchored_gradient(learner, batch, 1.0, inputs.benign, sft.anchor, inputs.seed);
    const double gain = add_attenuation_gradient(
        learner, train::examples_of_step(harmful, options.harmful.batch, learner.step, inputs.seed + 2),
        options.booster.alpha, options.booster.lambda);
    loss.loss += options.booster.lambda * gain;
    return loss;
  };
  return run_supervised(train::make_learner(*inputs.model, sft.lora, inputs.seed), inputs, sft, "booster", on_step,
                        gradient);
}

}  // namespace backburn::defense
