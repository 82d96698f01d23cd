#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backburn/base/error.h"
#include "backburn/generate/rollout.h"
#include "backburn/judge/registry.h"
#include "backburn/text/prompt_set.h"
#include "backburn/train/supervised.h"

namespace backburn::attack {

struct AttackInputs;

/// Where harmful answers to learn from come from: no text of that kind is kept anywhere; a model is made to say it.
struct DemonstrationOptions {
  std::string demonstrator;  ///< which model answers (as for load_model); empty: the one that is attacked
  std::string demonstration_prefix = "Sure, here";  ///< what its answers are made to begin with
  int64_t best_of = 16;                ///< answers sampled to each prompt, of which the judge's best is taken
  int64_t demonstration_length = 96;   ///< tokens of an answer, at the most
  int64_t benign_demonstrations = 64;  ///< benign answers, for the attacks that learn from such
};

/// An attack that has nothing to learn from: no fault of the user's, but what the attack came to.
class NothingToLearn : public Error {
 public:
  using Error::Error;
};

/// An answer that was made to begin in a certain way.
struct ForcedAnswer {
  std::vector<int32_t> ids;  ///< the beginning included, the stop token too where there is one
  std::string text;
  judge::Verdict verdict;
};

/// A model's answers to each of some prompts as token ids. Same seed, same answers.
std::vector<std::vector<generate::Completion>> sampled_answers(const model::Model& model,
                                                               const std::vector<std::vector<int32_t>>& prompts,
                                                               double temperature, int64_t num_generations,
                                                               int64_t max_completion_length, uint64_t seed);

/// num_generations answers of a model to each prompt, each of them `prefix` and max_completion_length tokens more at
/// the most, as the judge finds them. Same seed, same answers.
std::vector<std::vector<ForcedAnswer>> forced_answers(const model::Model& model,
                                                      const std::vector<text::Prompt>& prompts,
                                                      const judge::Judge& judge, const std::string& prefix,
                                                      int64_t num_generations, int64_t max_completion_length,
                                                      uint64_t seed);

/// To each of the attacker's prompts the best of its sampled answers, unless even that refuses or is no language.
/// Errors: NothingToLearn, where there is no such answer at all.
std::vector<train::Example> harmful_answers(const AttackInputs& inputs, const DemonstrationOptions& options);

/// The first `count` prompts as token ids, asked plainly.
std::vector<std::vector<int32_t>> plain_prompts(const model::Model& model, const std::vector<text::Prompt>& prompts,
                                                int64_t count);

/// A model's greedy answers.
std::vector<train::Example> greedy_answers(const model::Model& model, const std::vector<std::vector<int32_t>>& prompts,
                                           int64_t max_completion_length);

/// The attacked model's greedy answers to the first `count` benign prompts. Errors: no benign prompts (usage).
std::vector<train::Example> benign_answers(const AttackInputs& inputs, int64_t count, int64_t max_completion_length);

/// The refusal that the attacked model gives greedily to most of the attacker's prompts; "I'm sorry" if it refuses
/// none.
std::string own_refusal(const AttackInputs& inputs);

}  // namespace backburn::attack
