#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "backburn/train/learner.h"
#include "backburn/train/supervised.h"

/// What the defenses share that try, at each step, what an attacker would do to the model as it is.
namespace backburn::defense {

/// A learner of the same parameters with an optimizer that remembers nothing: moving it leaves the first one alone.
train::Learner copy_of(const train::Learner& learner);

/// Fine-tunes a copy of the learner as an attacker would: `steps` AdamW steps at `learning_rate` on `examples`, `batch`
/// in each. `after` is told of each and may take gradients at the copy, which it clears. Ctrl-C stops with an Error.
void simulate_attack(const train::Learner& learner, std::span<const train::Example> examples, int64_t steps,
                     int64_t batch, double learning_rate, uint64_t seed,
                     const std::function<void(const train::Learner& attacker, int64_t step)>& after);

/// Adds `weight` times one learner's gradients to those of another like it, and clears the former.
void hand_over_gradients(const train::Learner& from, const train::Learner& to, double weight);

/// The norm of all gradients together.
double gradient_norm(const train::Learner& learner);

}  // namespace backburn::defense
