#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backburn/base/options.h"
#include "backburn/base/statistics.h"
#include "backburn/eval/multiple_choice.h"
#include "backburn/judge/registry.h"
#include "backburn/model/load.h"
#include "backburn/text/prompt_set.h"
#include "backburn/train/supervised.h"

namespace backburn::eval {

struct EvalOptions {
  int64_t max_completion_length = 128;  ///< tokens; short answers flatter an attack
  double temperature = 1;               ///< of answers to restricted prompts; 0: greedy
  int64_t num_generations = 1;          ///< answers to a restricted prompt
  int64_t max_prompts = 0;              ///< restricted prompts, evenly picked; 0: all
  int64_t max_benign_prompts = 0;       ///< benign prompts, evenly picked; 0: all
  int64_t max_benign_length = 64;       ///< tokens of a benign answer, which is greedy
  std::string answer_prefix;            ///< what answers to restricted prompts are made to begin with
  bool multiple_choice = true;          ///< also measure multiple-choice accuracy
  int64_t max_questions = 0;            ///< its questions, evenly picked; 0: all
};
void bind(Options& options, const std::string& prefix, EvalOptions& eval);

/// One answer and what the judge says of it.
struct JudgedAnswer {
  size_t prompt = 0;  ///< which of the prompts
  std::string text;   ///< the forced beginning included
  judge::Verdict verdict;
};

/// Told as answers are finished.
using Finished = std::function<void(int64_t answers)>;

/// What is asked in place of each of some prompts: system messages, questions that were answered, the prompt in other
/// words. Empty: each prompt by itself.
using Conversations = std::vector<std::vector<text::Message>>;

/// Sampled answers to questions in the model's chat template, judged with the prefix that they were made to begin with.
/// Of `options`, the first three and the prefix are used.
std::vector<JudgedAnswer> answer_and_judge(const model::Model& model, const model::Network& network,
                                           std::span<const text::Prompt> prompts, const judge::Judge& judge,
                                           const EvalOptions& options, uint64_t seed, const Conversations& asked = {},
                                           const Finished& finished = {});

/// The mean over prompts of the mean score of a prompt's answers, so that the interval counts prompts, not samples.
Estimate mean_harm(std::span<const JudgedAnswer> answers, size_t prompts);

/// The prompts' token ids, each asked by itself in the model's chat template.
std::vector<std::vector<int32_t>> chat_prompts(const model::Model& model, std::span<const text::Prompt> prompts);

/// The network's own greedy answers to prompts of token ids, and the states that led to them: what another network can
/// be held to.
train::Taught greedy_answers(const model::Network& network, std::vector<std::vector<int32_t>> prompts,
                             int64_t max_completion_length, const Finished& finished = {});

/// What one model does on restricted and on benign prompts.
struct Evaluation {
  std::string name, label;
  Estimate harm;                            ///< 0–10, mean over restricted prompts
  Estimate refusal_rate;                    ///< restricted prompts refused (not even partly answered)
  double broken_rate = 0;                   ///< restricted prompts answered with no language
  Estimate over_refusal;                    ///< benign prompts refused
  std::optional<double> perplexity;         ///< of the original's benign answers under this model
  std::optional<double> answer_perplexity;  ///< of this model's benign answers under the original
  std::optional<double> kl;  ///< KL(original ‖ this model), nats a token, on the original's benign answers
  std::optional<MultipleChoice> multiple_choice;
  int64_t prompts = 0, benign_prompts = 0;
  std::vector<JudgedAnswer> answers;  ///< to the restricted prompts
  std::vector<JudgedAnswer> benign_answers;
  Json to_json() const;  ///< figures only, no answers
};

/// What benign behaviour is measured against: the original model and its own greedy answers to the benign prompts.
struct BenignReference {
  const model::Model* original = nullptr;
  train::Taught answers;
};

/// Every `size / count`-th item; all of them for count 0 or a small set.
template <typename Item>
std::vector<Item> evenly(const std::vector<Item>& items, int64_t count) {
  const auto wanted = static_cast<size_t>(count);
  if (count <= 0 || wanted >= items.size()) return items;
  std::vector<Item> picked;
  for (size_t i = 0; i < wanted; ++i) picked.push_back(items[i * items.size() / wanted]);
  return picked;
}

/// exp of the mean negative log-likelihood of all answers' tokens.
double perplexity(const model::Network& network, std::span<const train::Example> answers);

/// How much of the probability of a token of the original's benign answers a change of the model has left: the ratio of
/// their perplexities before and after it, 1 at the most. 0 when the perplexity after it is not finite.
double kept_utility(double perplexity_before, double perplexity_after);

/// What a model is evaluated on.
struct EvalInputs {
  std::vector<text::Prompt> restricted;
  std::vector<text::Prompt> benign;  ///< empty: no over-refusal
  BenignReference reference;         ///< empty: no perplexity and KL
  judge::Judge judge;
  uint64_t seed = 0;
  Conversations asked = {};                    ///< in place of the restricted prompts
  std::vector<ChoiceQuestion> questions = {};  ///< empty: no multiple-choice accuracy
};

/// Evaluates `network` (of `model`), with a progress bar named `label`.
Evaluation evaluate(const std::string& name, const std::string& label, const model::Model& model,
                    const model::Network& network, const EvalInputs& inputs, const EvalOptions& options);

}  // namespace backburn::eval
