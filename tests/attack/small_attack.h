#pragma once

#include <algorithm>

#include "backburn/attack/attack.h"
#include "model/tiny_model.h"

namespace backburn::attack {

/// "QQ" complies: two points for each Q up to 10; an answer without any refuses.
inline judge::Verdict count_q(std::string_view, std::string_view answer) {
  const auto found = std::count(answer.begin(), answer.end(), 'Q');
  if (found == 0) return {0, judge::Kind::refusal, {"no Q"}};
  const double share = std::min(1.0, static_cast<double>(found) / 5);
  return {10 * share, judge::Kind::compliance, {"Q"}, share, 1, share};
}

/// A tiny random model, three prompts, four benign ones, and options that move it in a few steps.
struct SmallAttack {
  model::Model model = model::tiny_model("tiny_llama");
  AttackInputs inputs{&model, {}, &count_q, 1, {}, {}, 0, {}};
  AttackOptions options;

  SmallAttack() {
    for (const char* text : {"ABC", "DEF", "GHI"}) inputs.prompts.push_back({text, text, "train", ""});
    for (const char* text : {"xyz", "yzx", "zxy", "zyx"}) inputs.benign.push_back({text, text, "train", ""});
    options.grpo.max_steps = 3;
    options.grpo.prompts_per_step = 3;
    options.grpo.num_generations = 6;
    options.grpo.max_completion_length = 8;
    options.grpo.optimizer.learning_rate = 0.02;
    options.grpo.lora = {.r = 4, .lora_alpha = 8};
    options.demonstrations.demonstration_prefix = std::string("Q");  // g++ 12 warns of a literal here
    options.demonstrations.demonstration_length = 8;
    options.demonstrations.benign_demonstrations = 4;
  }

  /// Mean harm of each step.
  std::vector<double> harm() const {
    std::vector<double> found;
    AttackEvents events;
    events.on_step = [&](const AttackStep& step, const auto&, const auto&) { found.push_back(step.harm); };
    run_attack(inputs, options, events);
    return found;
  }
};

inline at::Tensor all_parameters(const train::Learner& learner) {
  std::vector<at::Tensor> list;
  for (const at::Tensor& parameter : learner.adapter.parameters()) list.push_back(parameter.detach().flatten());
  return at::cat(list);
}

}  // namespace backburn::attack
