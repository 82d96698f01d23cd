#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// What takes the place of a group's rewards r: −λ G softmax(−r / λ). Less its mean (−λ) it is the advantage whose
/// policy gradient is that of the soft minimum −λ ln mean_i exp(−r_i / λ): the worst answers weigh most. For a large λ
/// it is r − mean(r), plain GRPO without scaling.
std::vector<double> soft_minimum_rewards(std::span<const double> rewards, double lambda);

/// FRPO (Sabbaghi 2026, "Robust Policy Optimization to Prevent Catastrophic Forgetting", arXiv 2602.08813, and its
/// released code): GRPO whose objective is the worst expected reward over a KL ball of policies that fine-tuning may
/// reach, in its dual form the soft minimum over the group. The reward of an answer is 1 − harm / 10 by the judge.
/// Simplified: one update on each group's samples, so that no ratio is clipped; the paper's KL penalty is the anchor.
train::Learner run_frpo(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
