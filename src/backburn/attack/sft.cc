#include "backburn/attack/sft.h"

#include "backburn/attack/watched.h"

namespace backburn::attack {
namespace {

train::Learner learn(const std::vector<train::Example>& examples, const AttackInputs& inputs,
                     const AttackOptions& options, const AttackEvents& events) {
  return run_watched(train::make_learner(*inputs.model, options.grpo.lora, inputs.seed), inputs, options, events,
                     [&](const train::Learner& learner) {
                       const auto batch =
                           train::examples_of_step(examples, options.train_batch_size, learner.step, inputs.seed);
                       return train::add_supervised_gradient(learner.network(), batch, 1.0, 1.0);
                     });
}

}  // namespace

train::Learner run_sft(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  return learn(harmful_answers(inputs, options.demonstrations), inputs, options, events);
}

train::Learner run_benign_sft(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  const auto& wanted = options.demonstrations;
  return learn(benign_answers(inputs, wanted.benign_demonstrations, wanted.demonstration_length), inputs, options,
               events);
}

train::Learner run_refusal_unlearning(const AttackInputs& inputs, const AttackOptions& options,
                                      const AttackEvents& events) {
  const auto& wanted = options.demonstrations;
  auto examples = benign_answers(inputs, wanted.benign_demonstrations, wanted.demonstration_length);
  const std::string refusal = options.refusal_prefix.empty() ? own_refusal(inputs) : options.refusal_prefix;
  const auto prefix = inputs.model->tokenizer.encode(refusal + " ", false);
  for (auto& example : examples) example.answer.insert(example.answer.begin(), prefix.begin(), prefix.end());
  return learn(examples, inputs, options, events);
}

}  // namespace backburn::attack
