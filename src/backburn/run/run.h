#pragma once

#include <filesystem>
#include <string>

#include "backburn/run/recipe.h"
#include "backburn/run/run_folder.h"

namespace backburn::run {

/// What all stages of a run share.
struct Run {
  Recipe recipe;
  PromptData data;
  judge::Judge judge;
  RunFolder folder;
};

/// Reads the data, opens the folder and makes the judge, or takes that of `other` where its recipe asks for the same
/// one: a judge may be a model of gigabytes. Errors: theirs.
Run open_run(const Recipe& recipe, const std::filesystem::path& folder, const Run* other = nullptr,
             Splits needed = Splits::both);

/// True, and says so, when there is nothing left to do for the stage.
bool is_done(const Run& run, const std::string& stage);

}  // namespace backburn::run
