#include "backburn/attack/watched.h"

#include <algorithm>

#include "backburn/base/cancel.h"
#include "backburn/base/stopwatch.h"

namespace backburn::attack {
namespace {

double mean_score(const Verdicts& verdicts) {
  double sum = 0;
  double count = 0;
  for (const auto& group : verdicts) {
    for (const auto& verdict : group) {
      sum += verdict.score;
      count += 1;
    }
  }
  return sum / std::max(1.0, count);
}

}  // namespace

int64_t last_step(const AttackInputs& inputs, const AttackOptions& options) {
  return inputs.stop_after == 0 ? options.grpo.max_steps : std::min(inputs.stop_after, options.grpo.max_steps);
}

std::vector<judge::Verdict> judged(const judge::Judge& judge, const AttackInputs& inputs, const AttackOptions& options,
                                   const train::Group& group) {
  std::vector<std::string> answers;
  for (const std::string& text : group.texts) answers.push_back(options.pose.answer_prefix + text);
  return judge(inputs.prompts[group.prompt].text, answers);
}

void tell(const AttackEvents& events, const train::StepMetrics& metrics, const std::vector<train::Group>& groups,
          const Verdicts& verdicts) {
  if (!events.on_step) return;
  AttackStep step{metrics, mean_score(verdicts), std::ssize(groups), 0};
  for (const auto& group : groups) step.differential_groups += group.has_differential() ? 1 : 0;
  events.on_step(step, groups, verdicts);
}

train::Learner run_watched(train::Learner learner, const AttackInputs& inputs, const AttackOptions& options,
                           const AttackEvents& events, const Gradient& gradient) {
  const auto& grpo = options.grpo;
  const auto pool = shot_pool(inputs, options.pose);
  train::run_steps(learner, last_step(inputs, options), inputs.checkpoint, [&] {
    throw_if_stopped();
    Stopwatch watch;
    auto groups =
        train::sample_groups(learner, posed_prompts(inputs, options.pose, pool, learner.step), grpo, inputs.seed);
    const double seconds_generate = watch.lap();
    Verdicts verdicts;
    for (auto& group : groups) {
      verdicts.push_back(judged(inputs.judge, inputs, options, group));
      for (const auto& verdict : verdicts.back()) group.rewards.push_back(verdict.score);
    }
    auto metrics = train::describe(groups, grpo.max_completion_length);
    metrics.seconds_generate = seconds_generate;
    metrics.seconds_score = watch.lap();
    if (gradient) {
      metrics.learning_rate = train::learning_rate_at(grpo.optimizer, learner.step, grpo.max_steps);
      metrics.loss = gradient(learner);
      metrics.grad_norm = train::update(learner, grpo.optimizer, grpo.max_steps);
    } else {
      ++learner.step;
    }
    metrics.seconds_update = watch.lap();
    metrics.step = learner.step;
    tell(events, metrics, groups, verdicts);
  });
  return learner;
}

}  // namespace backburn::attack
