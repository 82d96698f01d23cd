#include "backburn/train/preference.h"

#include <cmath>
#include <stdexcept>

namespace backburn::train {

PreferenceLoss dpo_loss(std::span<const double> chosen_logratios, std::span<const double> rejected_logratios,
                        double beta) {
  PreferenceLoss result;
  const auto pairs = static_cast<double>(chosen_logratios.size());
  for (size_t i = 0; i < chosen_logratios.size(); ++i) {
    const double margin = beta * (chosen_logratios[i] - rejected_logratios[i]);
    // −ln σ(m) = ln(1 + e^−m), without overflow for m far below 0.
    result.loss += (margin > 0 ? std::log1p(std::exp(-margin)) : std::log1p(std::exp(margin)) - margin) / pairs;
    result.slopes.push_back(-beta / (1 + std::exp(margin)) / pairs);
    result.accuracy += (margin > 0 ? 1 : 0) / pairs;
  }
  return result;
}

Preferences preferences(const model::Network& reference, std::vector<Example> chosen, std::vector<Example> rejected) {
  if (chosen.size() != rejected.size()) throw std::logic_error("preferences: answers that are not in pairs");
  auto of_chosen = answer_logprobs(reference, chosen);
  auto of_rejected = answer_logprobs(reference, rejected);
  return {std::move(chosen), std::move(rejected), std::move(of_chosen), std::move(of_rejected)};
}

PreferenceLoss add_dpo_gradient(const model::Network& network, const Preferences& pairs, std::span<const size_t> picked,
                                double beta) {
  std::vector<Example> examples;  // the chosen ones, then the rejected ones
  for (const size_t i : picked) examples.push_back(pairs.chosen[i]);
  for (const size_t i : picked) examples.push_back(pairs.rejected[i]);
  const auto logprobs = answer_logprobs(network, examples);
  std::vector<double> chosen, rejected;
  for (size_t i = 0; i < picked.size(); ++i) {
    chosen.push_back(logprobs[i] - pairs.reference_chosen[picked[i]]);
    rejected.push_back(logprobs[picked.size() + i] - pairs.reference_rejected[picked[i]]);
  }
  auto result = dpo_loss(chosen, rejected, beta);
  auto weights = result.slopes;
  for (const double slope : result.slopes) weights.push_back(-slope);
  add_weighted_gradient(network, examples, weights);
  return result;
}

}  // namespace backburn::train
