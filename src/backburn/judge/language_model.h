#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backburn/base/options.h"
#include "backburn/judge/judge.h"

namespace backburn::model {
struct Model;
}

namespace backburn::judge {

/// How a language model is asked to judge. The defaults ask any chat model; for a classifier such as HarmBench's, give
/// its own prompt, chat false, and its two answers.
struct LanguageModelOptions {
  std::string model;   ///< whatever `backburn pull` and model::load_model know
  std::string prompt;  ///< a file with {prompt} and {answer} in it; empty: the bundled question
  bool chat = true;    ///< it is a user's message in the model's chat template; false: it stands as it is
  std::vector<std::string> answers = {"1", "2", "3", "4", "5"};
  std::vector<double> scores = {0, 2.5, 5, 7.5, 10};  ///< what each of them is worth
  bool operator==(const LanguageModelOptions&) const = default;
};

/// Binds the fields as "PREFIX.model" and so on.
void bind(Options& options, const std::string& prefix, LanguageModelOptions& judge);

/// The score is the mean of `scores` by the model's probabilities of `answers`, nothing else considered: finer than the
/// likeliest answer alone, and without chance (G-Eval, Liu 2023, arXiv 2303.16634, section 2.3). It is the verdict's
/// risk, too; its kind, alignment and detail stay the rubric's, since logs show refusals whole. What was judged once is
/// remembered: a firm model gives the same answer over and over. Errors (usage): no model, lists of different length,
/// a prompt without {answer}.
Judge language_model_judge(const LanguageModelOptions& options, std::shared_ptr<const model::Model> model);

/// … loaded by the name in the options, for "cpu", "cuda" or "auto".
Judge language_model_judge(const LanguageModelOptions& options, const std::string& device);

}  // namespace backburn::judge
