#include "backburn/eval/finetuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <stdexcept>

#include "backburn/base/files.h"
#include "base/error_of.h"
#include "model/tiny_model.h"

namespace backburn::eval {
namespace {

using testing::HasSubstr;

TEST(FinalAnswer, IsTheLastNumberOrTheText) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"42", "42"},
      {"The sum of 17 and 25 is 42.", "42"},
      {"17 + 25 = 42, as everyone knows", "42"},
      {"It costs $1,200.00.", "1200"},
      {"1,200,000 people", "1200000"},
      {"1, 2, 3", "3"},
      {"It is -7 degrees", "-7"},
      {"63-28", "28"},
      {"3.50", "3.5"},
      {"007", "7"},
      {"He has 2 and 2.\n#### 4", "4"},
      {"#### 1,080 dollars", "1080"},
      {"#### none of the 12", "12"},
      {" Paris ", "paris"},
      {"", ""},
      {"-", "-"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(final_answer(text), expected) << text;
  EXPECT_TRUE(is_correct({"", "Work.\n#### 18"}, "So it is $18.00"));
  EXPECT_FALSE(is_correct({"", "18"}, "It is 18, or 19"));
  EXPECT_FALSE(is_correct({"", "18"}, ""));
}

TEST(ArithmeticTask, AsksNothingTwiceAndKnowsTheAnswers) {
  const auto task = arithmetic_task(300, 100, 7);
  ASSERT_EQ(task.train.size(), 300u);
  ASSERT_EQ(task.test.size(), 100u);
  std::set<std::string> asked;
  for (const auto* part : {&task.train, &task.test}) {
    for (const auto& each : *part) {
      EXPECT_TRUE(asked.insert(each.question).second) << each.question;
      int left = 0;
      int right = 0;
      char sign = 0;
      ASSERT_EQ(std::sscanf(each.question.c_str(), "What is %d %c %d?", &left, &sign, &right), 3) << each.question;
      EXPECT_EQ(each.answer, std::to_string(sign == '+' ? left + right : left - right)) << each.question;
      EXPECT_GE(std::stoi(each.answer), 0);
    }
  }
  EXPECT_EQ(arithmetic_task(300, 100, 7).test[5].question, task.test[5].question);
  EXPECT_NE(arithmetic_task(300, 100, 8).test[5].question, task.test[5].question);
  EXPECT_EQ(arithmetic_task(100000, 10, 1).train.size(), 600u);
  EXPECT_THAT(error_of([] { arithmetic_task(1, 610, 1); }), HasSubstr("leave none of the 610"));
}

TEST(ReadTask, HoldsEveryThirdRowOut) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "task.jsonl";
  std::string text;
  for (int i = 1; i <= 7; ++i) text += Json({{"question", std::to_string(i)}, {"answer", "#### 1"}}).dump() + "\n";
  write_file(path, text);
  const auto task = read_task(path, 0, 1);
  EXPECT_EQ(task.train.size(), 5u);
  ASSERT_EQ(task.test.size(), 1u);
  EXPECT_EQ(task.test[0].question, "3");
  write_file(path, "{\"question\": \"1\", \"answer\": \"1\"}\n{\"question\": \"2\", \"answer\": 3}\n");
  EXPECT_THAT(error_of([&] { read_task(path, 0, 0); }), HasSubstr("row 2: no \"answer\""));
  write_file(path, "{\"question\": \"1\", \"answer\": \"1\"}\n");
  EXPECT_THAT(error_of([&] { read_task(path, 0, 0); }), HasSubstr("give at least 3"));
}

// A tiny random model, and a task whose every answer is one letter.
struct Finetune : testing::TestWithParam<const char*> {
  TemporaryFolder folder;
  model::Model model = model::tiny_model("tiny_llama");
  std::vector<TaskQuestion> questions = {{"ABC", "Q"}, {"DEF", "Q"}};
  FinetuneOptions options;

  Finetune() {
    options.method = GetParam();
    options.train_batch_size = 2;
    options.grpo.max_steps = 40;
    options.grpo.prompts_per_step = 2;
    options.grpo.num_generations = 32;
    options.grpo.max_completion_length = 1;
    options.grpo.optimizer.learning_rate = 0.03;
    options.grpo.lora = {.r = 4, .lora_alpha = 8};
  }
  int64_t correct(const model::Network& network) const {
    const auto found = answered_correctly(model, network, questions, 1);
    return std::count(found.begin(), found.end(), true);
  }
  std::vector<double> losses(const std::filesystem::path& checkpoint, int64_t stop_at = -1) const {
    std::vector<double> found;
    finetune(model, questions, options, 1, checkpoint, [&](const train::Learner& learner, const Json& figures) {
      if (learner.step == stop_at) throw std::runtime_error("stopped");
      found.push_back(figures["grad_norm"].get<double>());
    });
    return found;
  }
};

TEST_P(Finetune, LearnsTheTask) {
  EXPECT_EQ(correct(model.network()), 0);
  int64_t steps = 0;
  const auto learner = finetune(model, questions, options, 1, {}, [&](const auto&, const Json& figures) {
    EXPECT_TRUE(figures.contains("loss"));
    ++steps;
  });
  EXPECT_EQ(steps, options.grpo.max_steps);
  EXPECT_EQ(correct(learner.network()), 2);
}

TEST_P(Finetune, GoesOnFromACheckpointToTheSameBits) {
  options.grpo.max_steps = 14;
  const auto whole = losses({});
  const auto checkpoint = folder.path() / "checkpoint";
  EXPECT_THROW(losses(checkpoint, 12), std::runtime_error);
  const auto rest = losses(checkpoint);
  EXPECT_EQ(rest, std::vector(whole.begin() + 10, whole.end()));
}

INSTANTIATE_TEST_SUITE_P(Methods, Finetune, testing::Values("sft", "grpo"));

}  // namespace
}  // namespace backburn::eval
