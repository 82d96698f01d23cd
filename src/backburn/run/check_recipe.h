#pragma once

#include "backburn/run/recipe.h"

namespace backburn::run {

/// Tells before any work what a stage would tell after minutes or, in a comparison, hours. Errors (usage): words or a
/// plain format without the place where the prompt goes, weights that don't fit the attacker's rewards.
void check_recipe(const Recipe& recipe);

}  // namespace backburn::run
