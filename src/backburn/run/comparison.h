#pragma once

#include <string>
#include <vector>

#include "backburn/run/recipe.h"

/// What `backburn compare` and `backburn audit` are asked for: defenses × attacks × seeds, in one file.
///
///     recipe: demo                # a bundled recipe or a path, or a list of them: what all cells share
///     set: [attack.max_steps=200] # over it, for all cells
///     seeds: [1, 2, 3]
///     defenses:
///       none:                     # the model before any defense
///       reward-neutralization: [defend.sharpen_steps=38]
///     attacks:
///       grpo:
///       grpo-hot: [attack.temperature=1.5]
///       dapo: [recipe=attack-dapo, attack.max_steps=50]  # a recipe, and over it
namespace backburn::run {

/// A named change to the recipe, as --set would make it; "recipe=NAME" takes the keys of another recipe.
struct Variant {
  std::string name;
  std::vector<std::string> sets;
};

/// The defense that does nothing.
inline constexpr const char* no_defense = "none";

struct Comparison {
  std::vector<std::string> recipes = {"demo"};  ///< later ones over earlier ones, key by key
  std::vector<std::string> sets;
  std::vector<int64_t> seeds = {1};
  std::vector<Variant> defenses;  ///< change keys of "defend." alone, so that attacks meet the same model
  std::vector<Variant> attacks;   ///< change keys of "attack." alone, so that defenses meet the same attack
};

/// Parses such a file. A defense or attack that is named like a registered one and sets no name is that one. Errors
/// (usage) name `origin`, line and key: not YAML, an unknown key, a name given twice or not fit for a folder, a value
/// that the recipe refuses, a defense that changes more than defend, an attack that changes more than attack.
Comparison parse_comparison(const std::string& text, const std::string& origin);

/// The recipe of one cell, or, with null, of what its cells share.
Recipe recipe_of(const Comparison& comparison, int64_t seed, const Variant* defense, const Variant* attack);

}  // namespace backburn::run
