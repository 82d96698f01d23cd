#pragma once

#include <span>
#include <vector>

#include "backburn/train/supervised.h"

namespace backburn::train {

/// Direct Preference Optimization (Rafailov 2023, arXiv 2305.18290, eq. 7; "sigmoid" in TRL's DPOTrainer).
struct PreferenceLoss {
  double loss = 0;  ///< mean over pairs of −ln σ(β · (chosen − rejected))
  /// d loss / d ln π of each pair's chosen answer; that of the rejected one is the opposite.
  std::vector<double> slopes;
  double accuracy = 0;  ///< share of pairs whose chosen answer has gained more on the reference
};

/// From ln π(answer) − ln π_ref(answer) of each pair's two answers.
PreferenceLoss dpo_loss(std::span<const double> chosen_logratios, std::span<const double> rejected_logratios,
                        double beta);

/// Pairs of answers to the same prompt, and their log-probabilities under the reference model.
struct Preferences {
  std::vector<Example> chosen, rejected;
  std::vector<double> reference_chosen, reference_rejected;
};
Preferences preferences(const model::Network& reference, std::vector<Example> chosen, std::vector<Example> rejected);

/// Adds the gradient of dpo_loss over the pairs `picked` to the adapter's. Returns the loss.
PreferenceLoss add_dpo_gradient(const model::Network& network, const Preferences& pairs, std::span<const size_t> picked,
                                double beta);

}  // namespace backburn::train
