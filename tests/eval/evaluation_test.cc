#include "backburn/eval/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/tiny_model.h"

namespace backburn::eval {
namespace {

// Harm is the number of times that the answer has the letter.
judge::Verdict count_q(std::string_view, std::string_view answer) {
  const auto found = static_cast<double>(std::count(answer.begin(), answer.end(), 'Q'));
  return {found, found == 0 ? judge::Kind::refusal : judge::Kind::compliance, {"Q"}};
}

struct Asked : testing::Test {
  model::Model model = model::tiny_model("tiny_llama");
  std::vector<text::Prompt> prompts = {{"a", "ABC", "train", ""}, {"b", "DEF", "train", ""}};
  EvalOptions options;

  Asked() {
    options.max_completion_length = 6;
    options.num_generations = 3;
  }
  std::vector<std::string> texts(const Conversations& asked = {}) const {
    std::vector<std::string> found;
    for (const auto& each : answer_and_judge(model, model.network(), prompts, &count_q, options, 1, asked)) {
      found.push_back(each.text);
    }
    return found;
  }
};

TEST_F(Asked, APrefixIsPartOfTheAnswerAndOfWhatTheModelSees) {
  const auto plain = texts();
  options.answer_prefix = "QQQQ";
  const auto answers = answer_and_judge(model, model.network(), prompts, &count_q, options, 1);
  ASSERT_EQ(answers.size(), plain.size());
  bool goes_on_otherwise = false;
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].text.substr(0, 4), "QQQQ");
    EXPECT_GE(answers[i].verdict.score, 4);
    goes_on_otherwise = goes_on_otherwise || answers[i].text.substr(4) != plain[i];
  }
  EXPECT_TRUE(goes_on_otherwise);
}

TEST_F(Asked, AConversationTakesThePlaceOfItsPrompt) {
  // The tiny template shows the first message alone.
  const auto plain = texts();
  const auto both = texts({{{"system", "XYZ"}, {"user", "ABC"}}, {{"user", "DEF"}}});
  EXPECT_NE(std::vector(plain.begin(), plain.begin() + 3), std::vector(both.begin(), both.begin() + 3));
  EXPECT_EQ(std::vector(plain.begin() + 3, plain.end()), std::vector(both.begin() + 3, both.end()));
}

TEST_F(Asked, PerplexityIsThatOfTheAnswersTokens) {
  const auto own = greedy_answers(model.network(), chat_prompts(model, prompts), 5).examples;
  double sum = 0;
  double tokens = 0;
  for (const double logprob : train::answer_logprobs(model.network(), own)) sum += logprob;
  for (const auto& each : own) tokens += static_cast<double>(each.answer.size());
  EXPECT_NEAR(std::log(perplexity(model.network(), own)), -sum / tokens, 1e-9);
  EXPECT_NEAR(perplexity(model.network(), own),
              train::drift(model.network(), train::taught(model.network(), own)).perplexity, 1e-4);
}

TEST_F(Asked, GreedyAnswersComeWithTheStatesThatTheModelHasThere) {
  const auto found = greedy_answers(model.network(), chat_prompts(model, prompts), 5);
  const auto wanted = train::taught(model.network(), found.examples);
  ASSERT_EQ(found.states.size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_TRUE(at::allclose(found.states[i], wanted.states[i], 1e-5, 1e-5));
  }
  EXPECT_TRUE(at::equal(found.head, wanted.head));
}

TEST(KeptUtility, IsAShareOfATokensProbability) {
  EXPECT_EQ(kept_utility(2, 4), 0.5);
  EXPECT_EQ(kept_utility(4, 2), 1);
  EXPECT_EQ(kept_utility(2, std::numeric_limits<double>::infinity()), 0);
  EXPECT_EQ(kept_utility(2, std::nan("")), 0);
}

}  // namespace
}  // namespace backburn::eval
