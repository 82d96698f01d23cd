#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "backburn/base/error.h"
#include "backburn/run/report_data.h"
#include "run/small_run.h"

namespace backburn::run {
namespace {

using testing::HasSubstr;

struct AttackStage : testing::Test, SmallRun {
  Json attacked() {
    const auto now = run();
    attack_stage(now, job(), eval_inputs(now, model));
    return now.folder.result("attack");
  }
};

TEST_F(AttackStage, HasTwoAxesAndTheirProduct) {
  recipe.attack.grpo.max_steps = 30;
  const Json result = attacked();
  EXPECT_FALSE(result.contains("posed"));
  EXPECT_TRUE(result["nothing_to_learn"].is_null());
  EXPECT_DOUBLE_EQ(result["success"].get<double>(), result["evaluation"]["harm"].get<double>() / 10);
  const double utility = result["kept_utility"].get<double>();
  // Thirty steps of a rate that high leave their mark on other answers too.
  EXPECT_GT(utility, 0);
  EXPECT_LT(utility, 1);
  const auto inputs = eval_inputs(run("other"), model);
  const double before = eval::perplexity(model.network(), inputs.reference.answers.examples);
  EXPECT_NEAR(utility, before / result["evaluation"]["perplexity"].get<double>(), 1e-6);
  EXPECT_DOUBLE_EQ(result["product"].get<double>(), result["success"].get<double>() * utility);
  EXPECT_FALSE(std::filesystem::exists(run().folder.checkpoint("attack")));
  const auto table = attack_table(result);
  EXPECT_EQ(table.rows[4],
            (std::vector<std::string>{"success", fmt::format("{:.2f}", result["success"].get<double>())}));
}

// The evaluation is of the weights that were trained, though there is no adapter to tell them by.
TEST_F(AttackStage, OfAllWeightsIsEvaluatedAsItEnded) {
  recipe.attack.grpo.max_steps = 20;
  recipe.attack.grpo.lora = {.use_peft = false};
  const Json result = attacked();
  EXPECT_LT(result["kept_utility"].get<double>(), 0.99);
  EXPECT_GT(result["evaluation"]["kl"].get<double>(), 0.01);
  EXPECT_GT(result["harm_end"].get<double>(), result["harm_start"].get<double>());
}

TEST_F(AttackStage, WhatIsReleasedHoldsAllTrainedWeightsOrAnAdapterToo) {
  data.refusals = {"NO"};
  recipe.align.max_steps = 2;
  recipe.align.train_batch_size = 2;
  for (const bool use_peft : {true, false}) {
    recipe.align.lora = {.r = 4, .use_peft = use_peft};
    const auto now = run(use_peft ? "adapter" : "full");
    align_stage(now, model, {});
    EXPECT_EQ(std::filesystem::exists(now.folder.path() / "aligned-adapter"), use_peft);
    const auto released = model::load_hugging_face(now.folder.path() / "aligned", at::kFloat).weights;
    EXPECT_FALSE(at::equal(released.layers[0].q, model.weights.layers[0].q.to(at::kBFloat16).to(at::kFloat)));
    EXPECT_EQ(at::equal(released.embedding, model.weights.embedding.to(at::kBFloat16).to(at::kFloat)), use_peft);
  }
}

TEST_F(AttackStage, PrefillingIsEvaluatedWithItsPrefix) {
  recipe.attack.name = "prefilling";
  recipe.attack.pose.answer_prefix = "QQQQQ";
  const Json result = attacked();
  EXPECT_LT(result["harm_start"].get<double>(), 10);
  EXPECT_EQ(result["harm_end"], 10.0);
  EXPECT_LT(result["evaluation"]["harm"].get<double>(), 10);
  EXPECT_EQ(result["posed"]["harm"], 10.0);
  EXPECT_EQ(result["success"], 1.0);
  EXPECT_NEAR(result["kept_utility"].get<double>(), 1, 1e-6);
  EXPECT_EQ(result["collapse_step"], 0);  // no update was needed
  EXPECT_EQ(attack_table(result).rows[3][0], "… asked as the attack asks");
}

TEST_F(AttackStage, NothingToLearnIsAnOutcome) {
  judge = [](std::string_view, std::string_view) { return judge::Verdict{0, judge::Kind::refusal, {"test"}}; };
  recipe.attack.name = "dpo";
  const Json result = attacked();
  EXPECT_THAT(result["nothing_to_learn"].get<std::string>(), HasSubstr("nothing to learn from"));
  EXPECT_EQ(result["success"], 0.0);
  EXPECT_NEAR(result["kept_utility"].get<double>(), 1, 1e-6);
}

TEST_F(AttackStage, NoDifferentialIsNothingToLearn) {
  judge = [](std::string_view, std::string_view) { return judge::Verdict{3, judge::Kind::evasive, {"test"}}; };
  EXPECT_EQ(attacked()["nothing_to_learn"], "attack: none of 9 groups had a reward differential");
}

TEST_F(AttackStage, OtherErrorsStayErrors) {
  recipe.attack.name = "benign-sft";
  data.benign_train.clear();
  EXPECT_THROW(attacked(), Error);
}

TEST_F(AttackStage, ACertifiedModelsAttacksSayWhetherTheyAreCovered) {
  AttackJob certified = job();
  certified.refusal = "NO";
  const auto first = run("grpo");
  const Json result = attack_so_far(first, certified, eval_inputs(first, model));
  EXPECT_EQ(result["outside_certificate"], false);
  EXPECT_EQ(result["attack_prompt_signal"].size(), 3u);
  EXPECT_TRUE(result["forecast"]["holds"].get<bool>());
  recipe.attack.pose.answer_prefix = "ABC";
  const auto begun = run("begun");
  const Json behind = attack_so_far(begun, certified, eval_inputs(begun, model));
  EXPECT_EQ(behind["outside_certificate"], false);
  EXPECT_NE(behind["draws"], result["draws"]);
  recipe.attack.grpo.advantage.advantage_estimator = "gae";
  const auto second = run("ppo");
  const Json outside = attack_so_far(second, certified, eval_inputs(second, model));
  EXPECT_EQ(outside["outside_certificate"], true);
  EXPECT_FALSE(outside.contains("forecast"));
}

// Lines of metrics.jsonl without the clock's.
Json steps_of(const Run& run) {
  Json steps = Json::array();
  for (Json line : run.folder.metrics("attack")) {
    line.erase("seconds");
    line.erase("tokens_per_second");
    steps.push_back(line);
  }
  return steps;
}

TEST_F(AttackStage, GoesOnAfterAStopToTheSameBits) {
  recipe.attack.grpo.max_steps = 9;
  recipe.attack.grpo.optimizer.lr_scheduler_type = "linear";  // its end is that of the whole attack
  const auto whole = run("whole");
  const auto inputs = eval_inputs(whole, model);
  attack_stage(whole, job(), inputs);
  const auto parts = run("parts");
  AttackJob first = job();
  first.stop_after = 4;
  const Json stopped = attack_so_far(parts, first, inputs);
  EXPECT_EQ(stopped["max_steps"], 4);
  EXPECT_EQ(parts.folder.metrics("attack").size(), 4u);
  EXPECT_TRUE(std::filesystem::exists(parts.folder.checkpoint("attack")));
  attack_stage(parts, job(), inputs);
  EXPECT_EQ(steps_of(parts), steps_of(whole));
  EXPECT_EQ(parts.folder.result("attack")["evaluation"], whole.folder.result("attack")["evaluation"]);
  EXPECT_FALSE(std::filesystem::exists(parts.folder.checkpoint("attack")));
}

TEST_F(AttackStage, WithoutTheChatTemplateAsksAndCertifiesSo) {
  recipe.attack.pose.plain_format = "Q: {}\nA:";
  auto now = run();
  auto one = job();
  one.refusal = "NO";
  attack_stage(now, one, eval_inputs(now, model));
  const Json result = now.folder.result("attack");
  EXPECT_TRUE(result.contains("posed"));
  EXPECT_FALSE(result["outside_certificate"].get<bool>());
  EXPECT_EQ(result["draws"]["plain_format"], "Q: {}\nA:");
  recipe.attack.pose.plain_format = "";
  one.stage = "plainly";
  now = run();
  attack_stage(now, one, eval_inputs(now, model));
  EXPECT_NE(now.folder.metrics("attack").front()["entropy"], now.folder.metrics("plainly").front()["entropy"])
      << "the same answers to other prompts";
}

}  // namespace
}  // namespace backburn::run
