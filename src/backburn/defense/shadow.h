#pragma once

#include "backburn/train/learner.h"

/// What the defenses share that try, at each step, what an attacker would do to the model as it is.
namespace backburn::defense {

/// A learner of the same parameters with an optimizer that remembers nothing: moving it leaves the first one alone.
train::Learner copy_of(const train::Learner& learner);

/// Adds `weight` times one learner's gradients to those of another like it, and clears the former.
void hand_over_gradients(const train::Learner& from, const train::Learner& to, double weight);

/// The norm of all gradients together.
double gradient_norm(const train::Learner& learner);

}  // namespace backburn::defense
