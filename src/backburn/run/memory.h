#pragma once

#include <string>
#include <utility>
#include <vector>

#include "backburn/run/comparison.h"
#include "backburn/run/recipe.h"

/// How much memory a command will take, from the model's sizes and the recipe's options alone: said by `inspect`, and
/// checked before anything is loaded.
namespace backburn::run {

/// The commands that memory_need knows.
inline constexpr const char* commands_with_need[] = {"generate", "eval",   "certify",  "align",
                                                     "attack",   "defend", "finetune", "demo"};

/// An estimate of a command's peak (resident set), in GiB, by what it is for. Prompts count as 64 tokens. Within about
/// a quarter of what was measured (docs/models.md); rather too high than too low.
struct MemoryNeed {
  std::vector<std::pair<std::string, double>> parts;
  double gib() const;
};

/// Errors: a command of another name (std::logic_error); what is to be trained is none of the model's (train::check).
MemoryNeed memory_need(const std::string& command, const model::ModelConfig& config, const Recipe& recipe);

/// Of the largest of a comparison's runs: the models that stand before its attack, and whichever of aligning, defending
/// and attacking takes most.
MemoryNeed memory_need(const Comparison& comparison, const model::ModelConfig& config);

/// Throws when `command` needs more than `available_gib`: an Error with both figures, and the recipe keys that would
/// make it fit, where any do.
void check_memory(const std::string& command, const model::ModelConfig& config, const Recipe& recipe,
                  double available_gib);

/// The same for a command that runs a comparison (compare, audit).
void check_memory(const std::string& command, const model::ModelConfig& config, const Comparison& comparison,
                  double available_gib);

/// check_memory of the recipe's model on this machine. Does nothing when BACKBURN_IGNORE_MEMORY is set, nor for a GPU,
/// whose memory is its own.
void check_memory(const std::string& command, const Recipe& recipe);
void check_memory(const std::string& command, const Comparison& comparison);

}  // namespace backburn::run
