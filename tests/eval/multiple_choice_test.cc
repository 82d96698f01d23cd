#include "backburn/eval/multiple_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error_of.h"
#include "model/real_model.h"
#include "model/tiny_model.h"

namespace backburn::eval {
namespace {

using testing::HasSubstr;

TEST(MultipleChoice, IsWhatTheHarnessFinds) {
  if (const auto reason = model::smollm2.reason_to_skip(); !reason.empty()) GTEST_SKIP() << reason;
  const Json golden = read_json_file(TEST_DATA_DIR "/multiple_choice.json");
  std::string lines;
  for (const Json& each : golden["questions"]) lines += each.dump() + "\n";
  const auto questions = parse_choice_questions(lines, "golden");
  const auto model = model::load_model(model::smollm2.name, at::kFloat);
  const auto logprobs = choice_logprobs(model, model.network(), questions);
  for (size_t i = 0; i < questions.size(); ++i) {
    const Json& expected = golden["questions"][i];
    ASSERT_EQ(logprobs[i].size(), expected["logprobs"].size());
    for (size_t j = 0; j < logprobs[i].size(); ++j) {
      EXPECT_NEAR(logprobs[i][j], expected["logprobs"][j].get<double>(), 1e-3) << questions[i].question;
    }
    const auto alone = multiple_choice(std::span(&questions[i], 1), std::span(&logprobs[i], 1));
    EXPECT_EQ(alone.acc.value, expected["acc"].get<double>()) << questions[i].question;
    EXPECT_EQ(alone.acc_norm.value, expected["acc_norm"].get<double>()) << questions[i].question;
  }
  const auto found = multiple_choice(questions, logprobs);
  EXPECT_DOUBLE_EQ(found.acc.value, golden["acc"].get<double>());
  EXPECT_DOUBLE_EQ(found.acc_norm.value, golden["acc_norm"].get<double>());
}

TEST(MultipleChoice, AQuestionDoesNotDependOnTheOthers) {
  const auto model = model::tiny_model("tiny_llama");
  const std::vector<ChoiceQuestion> questions = {{"ABCDEFGHIJ", {"K", "LM", "NOP"}, 0},
                                                 {"ABCDEFGHXY", {"K", "ZZZZ"}, 1}};
  const auto together = choice_logprobs(model, model.network(), questions);
  for (size_t i = 0; i < questions.size(); ++i) {
    const auto alone = choice_logprobs(model, model.network(), std::span(&questions[i], 1)).front();
    ASSERT_EQ(together[i].size(), alone.size());
    for (size_t j = 0; j < alone.size(); ++j) EXPECT_NEAR(together[i][j], alone[j], 1e-4);
    EXPECT_LT(alone[1], alone[0]);  // more tokens of a model that knows nothing
  }
}

TEST(MultipleChoice, CountsByLogProbabilityAndByItsShareOfACharacter) {
  // "née" has three characters in four bytes.
  const std::vector<ChoiceQuestion> questions = {
      {"?", {"ab", "cdef"}, 0}, {"?", {"ab", "cdef"}, 1}, {"?", {"née", "x"}, 0}};
  const std::vector<std::vector<double>> logprobs = {{-2, -3}, {-2, -3}, {-3.5, -1.1}};
  const auto found = multiple_choice(questions, logprobs);
  EXPECT_EQ(found.questions, 3);
  EXPECT_DOUBLE_EQ(found.acc.value, 1.0 / 3);       // ab, ab, x
  EXPECT_DOUBLE_EQ(found.acc_norm.value, 1.0 / 3);  // cdef, cdef, x: -3.5 / 3 is less than -1.1, -3.5 / 4 would be more
  EXPECT_LT(found.acc.low, found.acc.value);
  EXPECT_GT(found.acc.high, found.acc.value);
  EXPECT_EQ(found.to_json()["acc_norm_ci"].size(), 2u);
}

TEST(ChoiceQuestions, AreCheckedOneByOne) {
  const auto parsed = [](const std::string& text) { return parse_choice_questions(text, "mine.jsonl"); };
  const std::string good = R"({"question": "Q?", "choices": ["a", "b"], "answer": 1, "source": "me"})";
  EXPECT_EQ(parsed(good + "\n\n").front().answer, 1u);
  const auto message = [&](const std::string& line) { return error_of([&] { parsed(good + "\n" + line); }); };
  EXPECT_THAT(message(R"({"question": "Q?", "choices": ["a", "b"]})"),
              HasSubstr("mine.jsonl: question 2: no \"answer\""));
  EXPECT_THAT(message(R"({"question": "", "choices": ["a", "b"], "answer": 0})"), HasSubstr("must be a text"));
  EXPECT_THAT(message(R"({"question": "Q?", "choices": ["a"], "answer": 0})"), HasSubstr("at least two"));
  EXPECT_THAT(message(R"({"question": "Q?", "choices": ["a", 2], "answer": 0})"), HasSubstr("a choice must be a text"));
  EXPECT_THAT(message(R"({"question": "Q?", "choices": ["a", "b"], "answer": 2})"), HasSubstr("0 to 1, found 2"));
  EXPECT_THAT(message(R"({"question": "Q?", "choices": ["a", "b"], "answer": -1})"), HasSubstr("found -1"));
  EXPECT_THAT(message(R"({"question": "Q?", "choices": ["a", "b"], "answer": "a"})"), HasSubstr("0 to 1"));
  EXPECT_THAT(message("[1]"), HasSubstr("question 2: no \"question\""));
  EXPECT_THAT(error_of([&] { parsed("\n"); }), HasSubstr("no questions"));
}

}  // namespace
}  // namespace backburn::eval
