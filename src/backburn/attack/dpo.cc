#include "backburn/attack/dpo.h"

#include "backburn/attack/watched.h"
#include "backburn/train/preference.h"

namespace backburn::attack {

train::Learner run_dpo(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  auto chosen = harmful_answers(inputs, options.demonstrations);
  std::vector<std::vector<int32_t>> prompts;
  prompts.reserve(chosen.size());
  for (const auto& example : chosen) prompts.push_back(example.prompt);
  auto rejected = greedy_answers(*inputs.model, prompts, options.demonstrations.demonstration_length);
  const auto pairs = train::preferences(inputs.model->network(), std::move(chosen), std::move(rejected));
  return run_watched(train::make_learner(*inputs.model, options.grpo.lora, inputs.seed), inputs, options, events,
                     [&](const train::Learner& learner) {
                       const auto picked = train::prompts_of_step(pairs.chosen.size(), options.train_batch_size,
                                                                  learner.step, inputs.seed);
                       return train::add_dpo_gradient(learner.network(), pairs, picked, options.dpo_beta).loss;
                     });
}

}  // namespace backburn::attack
