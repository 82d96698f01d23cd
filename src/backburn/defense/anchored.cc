#include "backburn/defense/anchored.h"

#include "backburn/base/cancel.h"

namespace backburn::defense {

std::vector<int32_t> answer_ids(const model::Model& model, const std::string& answer) {
  return train::written_example(model, {}, answer).answer;
}

double add_anchor(const train::Learner& learner, const BenignBehaviour& benign, const AnchorOptions& options,
                  uint64_t seed, std::span<const size_t> hard) {
  if (benign.examples.empty() || options.anchor_weight == 0) return 0;
  const int64_t extra = hard.empty() ? 0 : options.anchor_batch / 2;
  auto picked = train::prompts_of_step(benign.examples.size(), options.anchor_batch - extra, learner.step, seed + 1);
  for (const size_t i : train::prompts_of_step(hard.size(), extra, learner.step, seed + 2)) picked.push_back(hard[i]);
  return train::add_anchor_gradient(learner.network(), benign, picked, options.anchor_weight);
}

StepLoss add_anchored_gradient(const train::Learner& learner, std::span<const train::Example> refusals,
                               double temperature, const BenignBehaviour& benign, const AnchorOptions& anchor,
                               uint64_t seed, std::span<const size_t> hard) {
  const double loss = train::add_supervised_gradient(learner.network(), refusals, temperature, 1.0);
  return {loss, add_anchor(learner, benign, anchor, seed, hard)};
}

train::Learner run_supervised(train::Learner learner, const DefenseInputs& inputs, const RefusalSftOptions& options,
                              const std::string& phase, const DefenseEvents& on_step, const StepGradient& gradient) {
  train::run_steps(learner, options.max_steps, inputs.checkpoint, [&] {
    throw_if_stopped();
    const auto [loss, kl] = gradient(learner);
    const double norm = train::update(learner, options.optimizer, options.max_steps);
    if (on_step) on_step({phase, learner.step, options.max_steps, loss, {}, {}, kl, norm});
  });
  return learner;
}

train::Learner tune_on(std::span<const train::Example> examples, const DefenseInputs& inputs,
                       const RefusalSftOptions& options, const std::string& phase, const DefenseEvents& on_step) {
  const auto gradient = [&](const train::Learner& learner) {
    const auto batch = train::examples_of_step(examples, options.train_batch_size, learner.step, inputs.seed);
    return add_anchored_gradient(learner, batch, 1.0, inputs.benign, options.anchor, inputs.seed);
  };
  return run_supervised(train::make_learner(*inputs.model, options.lora, inputs.seed), inputs, options, phase, on_step,
                        gradient);
}

}  // namespace backburn::defense
