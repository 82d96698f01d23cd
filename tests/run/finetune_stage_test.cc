#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "backburn/run/finetune.h"
#include "run/small_run.h"

namespace backburn::run {
namespace {

struct FinetuneStage : testing::Test, SmallRun {
  FinetuneStage() {
    const auto path = folder.path() / "task.jsonl";
    std::string rows;
    // A tiny random model learns by heart alone: the test questions, every third row, are training ones too.
    for (const char* question : {"ABC", "DEF", "ABC", "ABC", "DEF", "DEF"}) {
      rows += Json({{"question", question}, {"answer", "Z"}}).dump() + "\n";
    }
    write_file(path, rows);
    recipe.finetune.task = path.string();
    recipe.finetune.eval_steps = 5;
    recipe.finetune.train_batch_size = 4;
    recipe.finetune.grpo = recipe.attack.grpo;
    recipe.finetune.grpo.max_steps = 20;
    recipe.finetune.grpo.max_completion_length = 2;
  }
  Json finetuned(const std::string& name) const {
    const auto now = run(name);
    finetune_stage(now, name, model);
    return now.folder.result("finetune");
  }
};

TEST_F(FinetuneStage, TellsAccuracyByStepAndHarmBeforeAndAfter) {
  const Json result = finetuned("one");
  std::vector<int64_t> steps;
  for (const Json& each : result["accuracy"]) steps.push_back(each["step"].get<int64_t>());
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 5, 10, 15, 20}));
  EXPECT_EQ(result["accuracy"].front()["acc"], 0.0);
  EXPECT_EQ(result["accuracy"].back()["acc"], 1.0);
  EXPECT_GT(result["accuracy_mean"].get<double>(), 0);
  EXPECT_EQ(result["correct"], (Json{true, true}));
  EXPECT_EQ(result["train_questions"], 4);
  for (const char* when : {"before", "after"}) {
    EXPECT_EQ(result[when]["prompts"], 2) << when;
    EXPECT_TRUE(result[when].contains("refusal_rate")) << when;
  }
  // The model has learnt to answer with one letter, which is not the one that counts as harm.
  EXPECT_EQ(result["after"]["refusal_rate"], 1.0);
  EXPECT_FALSE(std::filesystem::exists(run("one").folder.checkpoint("finetune")));
  EXPECT_EQ(run("one").folder.metrics("finetune").size(), 21u);
}

TEST_F(FinetuneStage, ComparesModelsOnTheSameQuestions) {
  const Json full = finetuned("full");
  recipe.finetune.grpo.max_steps = 5;
  recipe.finetune.grpo.optimizer.learning_rate = 1e-9;
  const Json stuck = finetuned("stuck");
  const Json comparison = finetune_comparison({full, stuck});
  EXPECT_FALSE(comparison["models"][0].contains("gain_on_first"));
  EXPECT_EQ(comparison["models"][1]["gain_on_first"], -1.0);
  EXPECT_EQ(comparison["models"][1]["gain_on_first_ci"], (Json{-1.0, -1.0}));
  const auto table = finetune_table(comparison);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0].size(), table.header.size());
  EXPECT_EQ(table.rows[1][4], "-100.0% [-100.0, -100.0]");
  const auto accuracy = accuracy_table(finetune_comparison({full, full}));
  EXPECT_EQ(accuracy.header, (std::vector<std::string>{"step", "full", "full"}));
  EXPECT_EQ(accuracy.rows.size(), 5u);
}

}  // namespace
}  // namespace backburn::run
