#include "backburn/eval/finetuning.h"

#include "backburn/base/cancel.h"

namespace backburn::eval {
namespace {

// One step, whose figures it returns.
using OneStep = std::function<Json(train::Learner& learner)>;

std::vector<std::vector<int32_t>> chat_prompts(const model::Model& model, std::span<const TaskQuestion> questions) {
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(questions.size());
  for (const auto& each : questions) ids.push_back(model::chat_prompt(model, each.question));
  return ids;
}

OneStep supervised_step(const model::Model& model, std::span<const TaskQuestion> questions,
                        const FinetuneOptions& options, uint64_t seed) {
  std::vector<train::Example> examples;
  for (const auto& each : questions) {
    examples.push_back(train::written_example(model, model::chat_prompt(model, each.question), each.answer));
  }
  return [=, &options](train::Learner& learner) -> Json {
    throw_if_stopped();
    const double rate = train::learning_rate_at(options.grpo.optimizer, learner.step, options.grpo.max_steps);
    const auto batch = train::examples_of_step(examples, options.train_batch_size, learner.step, seed);
    const double loss = train::add_supervised_gradient(learner.network(), batch, 1.0, 1.0);
    const double norm = train::update(learner, options.grpo.optimizer, options.grpo.max_steps);
    return {{"loss", loss}, {"grad_norm", norm}, {"learning_rate", rate}};
  };
}

OneStep grpo_step(const model::Model& model, std::span<const TaskQuestion> questions, const FinetuneOptions& options,
                  uint64_t seed) {
  auto prompts = chat_prompts(model, questions);
  const auto reward = [questions](const train::Group& group) {
    std::vector<double> rewards;
    for (const auto& text : group.texts) rewards.push_back(is_correct(questions[group.prompt], text) ? 1 : 0);
    return rewards;
  };
  return [=, &options, ahead = train::Ahead()](train::Learner& learner) mutable {
    const auto prompts_of = [&](int64_t) { return prompts; };
    return train::grpo_step(learner, prompts_of, options.grpo, seed, reward, ahead).metrics.to_json();
  };
}

}  // namespace

void bind(Options& options, const std::string& prefix, FinetuneOptions& finetune) {
  const std::string at = prefix + ".";
  options.add(at + "method", finetune.method, "supervised, or RL with an exact match as its reward", {"sft", "grpo"});
  options.add(at + "task", finetune.task, "JSON lines of {\"question\", \"answer\"}; empty: generated arithmetic");
  options.add(at + "train_questions", finetune.train_questions, "at most", at_least_1);
  options.add(at + "test_questions", finetune.test_questions, "at most", at_least_1);
  options.add(at + "eval_steps", finetune.eval_steps, "steps between two measurements of accuracy", at_least_1);
  options.add(at + "train_batch_size", finetune.train_batch_size, "sft: answers in a step", at_least_1);
  train::bind(options, prefix, finetune.grpo);
}

BenignTask task_of(const FinetuneOptions& options, uint64_t seed) {
  return options.task.empty() ? arithmetic_task(options.train_questions, options.test_questions, seed)
                              : read_task(options.task, options.train_questions, options.test_questions);
}

std::vector<bool> answered_correctly(const model::Model& model, const model::Network& network,
                                     std::span<const TaskQuestion> questions, int64_t max_completion_length) {
  const auto answers = greedy_answers(network, chat_prompts(model, questions), max_completion_length).examples;
  std::vector<bool> correct;
  for (size_t i = 0; i < answers.size(); ++i) {
    correct.push_back(is_correct(questions[i], model.tokenizer.decode(answers[i].answer)));
  }
  return correct;
}

train::Learner finetune(const model::Model& model, std::span<const TaskQuestion> questions,
                        const FinetuneOptions& options, uint64_t seed, const std::filesystem::path& checkpoint,
                        const FinetuneStep& on_step) {
  const bool by_rl = options.method == "grpo";
  auto learner =
      by_rl ? train::make_grpo_learner(model, options.grpo, seed) : train::make_learner(model, options.grpo.lora, seed);
  const auto step =
      by_rl ? grpo_step(model, questions, options, seed) : supervised_step(model, questions, options, seed);
  train::run_steps(learner, options.grpo.max_steps, checkpoint, [&] {
    const Json figures = step(learner);
    if (on_step) on_step(learner, figures);
  });
  return learner;
}

}  // namespace backburn::eval
