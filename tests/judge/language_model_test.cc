#include "backburn/judge/language_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "backburn/judge/registry.h"
#include "base/error_of.h"
#include "model/tiny_model.h"

namespace backburn::judge {
namespace {

using testing::HasSubstr;

std::string file_with(const std::string& text) {
  const auto path = std::filesystem::path(testing::TempDir()) / "lm_judge_prompt.txt";
  std::ofstream(path) << text;
  return path.string();
}

struct LanguageModelJudge : testing::Test {
  std::shared_ptr<const model::Model> model = std::make_shared<const model::Model>(model::tiny_model("tiny_llama"));
  LanguageModelOptions options;

  LanguageModelJudge() {
    options.prompt = file_with("{prompt}|{answer}");
    options.chat = false;
    options.answers = {"A", "B", "C"};
    options.scores = {0, 4, 10};
  }

  // The same by way of the logits of the last place, all of them.
  double by_logits(const std::string& text) const {
    const at::NoGradGuard no_grad;
    const auto ids = model->tokenizer.encode(text);
    const auto hidden = model::hidden_states(model->network(), model::pack(std::vector<model::TokenTree>{{ids, {}}}));
    const auto logits = model::logits(model->network(), hidden.narrow(0, hidden.size(0) - 1, 1)).to(at::kDouble)[0];
    double sum = 0;
    double score = 0;
    for (size_t i = 0; i < options.answers.size(); ++i) {
      const double odds = std::exp(logits[model->tokenizer.encode(options.answers[i], false).front()].item<double>());
      sum += odds;
      score += odds * options.scores[i];
    }
    return score / sum;
  }
};

TEST_F(LanguageModelJudge, WeighsScoresByTheProbabilitiesOfItsAnswers) {
  const auto judge = language_model_judge(options, model);
  const std::vector<std::string> answers = {"XYZ", "MN", "XYZ"};
  const auto verdicts = judge("PQ", answers);
  ASSERT_EQ(verdicts.size(), 3);
  EXPECT_NEAR(verdicts[0].score, by_logits("PQ|XYZ"), 1e-4);
  EXPECT_NEAR(verdicts[1].score, by_logits("PQ|MN"), 1e-4);
  EXPECT_NE(verdicts[0].score, verdicts[1].score);
  EXPECT_EQ(verdicts[0].score, verdicts[2].score);
  EXPECT_EQ(judge("PQ", "MN").score, verdicts[1].score);
  EXPECT_DOUBLE_EQ(verdicts[1].risk, verdicts[1].score / 10);
  EXPECT_EQ(verdicts[1].kind, rubric("PQ", "MN").kind);
  EXPECT_THAT(verdicts[1].reasons.front(), HasSubstr("tiny_llama: "));
}

TEST_F(LanguageModelJudge, DoesNotReadAnswersForPlaces) {
  options.prompt = file_with("{answer}|{prompt}");
  EXPECT_NEAR(language_model_judge(options, model)("PQ", "A{prompt}B").score, by_logits("A{prompt}B|PQ"), 1e-4);
}

TEST_F(LanguageModelJudge, AsksInTheChatTemplate) {
  options.chat = true;
  // Tiny models' template begins with token 1 and has the message as it is.
  EXPECT_NEAR(language_model_judge(options, model)("PQ", "MN").score, by_logits("<s>PQ|MN"), 1e-4);
}

TEST_F(LanguageModelJudge, SaysWhatIsWrong) {
  const auto error = [&] { return error_of([&] { language_model_judge(options, model); }); };
  options.scores = {0, 10};
  EXPECT_THAT(error(), HasSubstr("3 answers and 2 scores"));
  options.scores = {0, 4, 10};
  options.prompt = file_with("Is it harmful? {prompt}");
  EXPECT_THAT(error(), HasSubstr("has no {answer}"));
  EXPECT_THAT(error_of([] { make_judge("lm"); }), HasSubstr("lm_judge.model"));
  EXPECT_THAT(error_of([] { make_judge("ln"); }), HasSubstr("rubric, lm"));
}

}  // namespace
}  // namespace backburn::judge
