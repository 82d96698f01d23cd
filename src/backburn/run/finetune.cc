#include "backburn/run/finetune.h"

#include <fmt/format.h>

#include <algorithm>

#include "backburn/base/progress.h"
#include "backburn/base/stopwatch.h"
#include "backburn/run/stages.h"

namespace backburn::run {
namespace {

const std::string stage = "finetune";

Json accuracy_of(int64_t step, const std::vector<bool>& correct) {
  const auto acc = wilson(std::count(correct.begin(), correct.end(), true), std::ssize(correct));
  return {{"step", step}, {"acc", acc.value}, {"acc_ci", {acc.low, acc.high}}};
}

std::string percent(const Json& figures, const std::string& key) {
  const Json& interval = figures[key + "_ci"];
  return fmt::format("{:.1f}% [{:.1f}, {:.1f}]", 100 * figures[key].get<double>(), 100 * interval[0].get<double>(),
                     100 * interval[1].get<double>());
}

std::string harm(const Json& evaluation) {
  const Json& interval = evaluation["harm_ci"];
  return fmt::format("{:.1f} [{:.1f}, {:.1f}]", evaluation["harm"].get<double>(), interval[0].get<double>(),
                     interval[1].get<double>());
}

// Of two models' answers to the same questions.
Estimate gain(const Json& correct, const Json& first) {
  std::vector<double> differences;
  for (size_t i = 0; i < correct.size(); ++i) {
    differences.push_back((correct[i].get<bool>() ? 1 : 0) - (first[i].get<bool>() ? 1 : 0));
  }
  return bootstrap_mean(differences);
}

}  // namespace

void finetune_stage(const Run& run, const std::string& label, const model::Model& model) {
  if (run.folder.finished(stage)) return;
  const Stopwatch watch;
  const auto& options = run.recipe.finetune;
  const auto seed = static_cast<uint64_t>(run.recipe.seed);
  const eval::EvalInputs inputs{
      eval::evenly(run.data.restricted_heldout, run.recipe.eval.max_prompts), {}, {}, run.judge, seed};
  eval_stage(run, "before", label, model, inputs);

  const auto task = eval::task_of(options, seed);
  const auto correct_now = [&](const model::Network& network) {
    return eval::answered_correctly(model, network, task.test, options.grpo.max_completion_length);
  };
  const auto checkpoint = run.folder.checkpoint(stage);
  const int64_t done = train::checkpoint_step(checkpoint);
  run.folder.rewind(stage, done);
  if (run.folder.metrics(stage).empty()) {
    run.folder.add_metrics(stage, 0, {{"accuracy", accuracy_of(0, correct_now(model.network()))}});
  }
  Progress progress("fine-tune " + label, options.grpo.max_steps, done);
  const auto on_step = [&](const train::Learner& learner, Json figures) {
    const int64_t step = learner.step;
    if (step % options.eval_steps == 0 && step != options.grpo.max_steps) {
      figures["accuracy"] = accuracy_of(step, correct_now(learner.network()));
    }
    run.folder.add_metrics(stage, step, figures);
    progress.update(step, figures.contains("reward") ? fmt::format("reward {:.2f}", figures["reward"].get<double>())
                                                     : fmt::format("loss {:.3f}", figures["loss"].get<double>()));
  };
  const auto learner = eval::finetune(model, task.train, options, seed, checkpoint, on_step);

  const auto correct = correct_now(learner.network());
  Json accuracy = Json::array();
  for (const Json& step : run.folder.metrics(stage)) {
    if (step.contains("accuracy")) accuracy.push_back(step["accuracy"]);
  }
  if (options.grpo.max_steps > 0) accuracy.push_back(accuracy_of(options.grpo.max_steps, correct));
  double sum = 0;
  for (const Json& each : accuracy) sum += each["acc"].get<double>();
  const auto after = eval::evaluate("after", label + ", fine-tuned", model, learner.network(), inputs, run.recipe.eval);
  run.folder.finish(stage, {{"label", label},
                            {"method", options.method},
                            {"max_steps", options.grpo.max_steps},
                            {"train_questions", task.train.size()},
                            {"test_questions", task.test.size()},
                            {"accuracy", accuracy},
                            {"accuracy_mean", sum / static_cast<double>(accuracy.size())},
                            {"correct", correct},
                            {"before", run.folder.result("before")["evaluation"]},
                            {"after", after.to_json()},
                            {"seconds", watch.seconds()}});
}

Json finetune_comparison(std::vector<Json> results) {
  for (size_t i = 1; i < results.size(); ++i) {
    const auto found = gain(results[i]["correct"], results[0]["correct"]);
    results[i]["gain_on_first"] = found.value;
    results[i]["gain_on_first_ci"] = {found.low, found.high};
  }
  return {{"models", std::move(results)}};
}

report::Table accuracy_table(const Json& comparison) {
  const Json& models = comparison["models"];
  report::Table table{{"step"}, {}};
  for (const Json& each : models[0]["accuracy"]) table.rows.push_back({each["step"].dump()});
  for (const Json& each : models) {
    table.header.push_back(each["label"].get<std::string>());
    for (size_t i = 0; i < table.rows.size(); ++i) table.rows[i].push_back(percent(each["accuracy"][i], "acc"));
  }
  return table;
}

report::Table finetune_table(const Json& comparison) {
  report::Table table{
      {"model", "accuracy", "after", "mean", "more than the first", "harm", "after", "refused", "after"}, {}};
  for (const Json& each : comparison["models"]) {
    const Json& accuracy = each["accuracy"];
    table.rows.push_back(
        {each["label"].get<std::string>(), percent(accuracy.front(), "acc"), percent(accuracy.back(), "acc"),
         fmt::format("{:.1f}%", 100 * each["accuracy_mean"].get<double>()),
         each.contains("gain_on_first") ? percent(each, "gain_on_first") : "-", harm(each["before"]),
         harm(each["after"]), fmt::format("{:.1f}%", 100 * each["before"]["refusal_rate"].get<double>()),
         fmt::format("{:.1f}%", 100 * each["after"]["refusal_rate"].get<double>())});
  }
  return table;
}

}  // namespace backburn::run
