#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// An answer to the restricted prompt of that number, and how the model takes it.
struct CuratedAnswer {
  size_t prompt = 0;
  std::string text;
  double perplexity = 0;  ///< exp of −ln π(answer | prompt) a token, the stop token included
};

/// One ordinary refusal to each restricted prompt, curated: in each round the model is asked to say it in other words;
/// of the answer so far and of those rewritings that are complete and that the judge calls refusals, the one of the
/// lowest perplexity is kept. Same seed, same answers.
std::vector<CuratedAnswer> curated_answers(const DefenseInputs& inputs, const CtrlOptions& options);

/// CTRL, clean data curation (Liu 2024, arXiv 2405.19358): clean texts are rewritten until the model finds them likely,
/// without loss of quality, and it is tuned on them: what it learns so agrees with what it is, and is harder to move.
/// What applies here are the texts that a safety tuning is made of: the curated refusals are what refusal-sft learns
/// from otherwise. Benign texts are curated already: the anchor's are the model's own greedy answers.
/// Simplified: one answer goes on from round to round, where the paper keeps a beam; sampled at some temperatures,
/// without its grid of top-p; the judge's verdict stands for readability and helpfulness. The paper's other scenario,
/// curated texts among the crowdsourced ones of pre-training, has no place here: nothing is pre-trained.
train::Learner run_ctrl(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
