#pragma once

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// Adds to the learner's gradient that of what is left of the safeguard while an attacker fine-tunes a copy of it: with
/// AdamW at `rate`, inner_steps steps on `attacked`, batch after batch. After every `subsample`-th step i of K the
/// copy's −entropy at the places that predict `held_out` is lowered, with weight · exp(schedule · (i − K)), and its
/// gradient at the copy is taken as the learner's (first order). Returns the copy's entropy after the last such step,
/// nats a token.
double add_tamper_resistance_gradient(const train::Learner& learner, std::span<const train::Example> attacked,
                                      std::span<const train::Example> held_out, const TarOptions& options,
                                      int64_t batch, double rate, uint64_t seed);

/// TAR, tampering attack resistance (Tamirisa 2024, arXiv 2408.00761, algorithm 1, and its released code): at each
/// step a fine-tuning attack is simulated, and the model is moved so that the attacked model stays uncertain about
/// harmful answers (entropy loss; λ_TR = weight, the schedule and the subsampling are the released code's), beside a
/// retain loss. Half of the harmful answers are attacked with, the other half are held out for the loss.
/// Simplified: attacks by one kind of data at one of attack_rates, drawn anew at each step, where the paper has several
/// kinds; the adapter is attacked, so that rates are an adapter's; the retain loss is −ln π of refusals and the
/// anchor's KL, where the paper holds the hidden states of benign text; the paper's initial safeguard (random mapping)
/// is left to the model's own alignment.
train::Learner run_tar(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
