#include "backburn/run/run.h"

#include <utility>

#include "backburn/base/files.h"
#include "backburn/base/progress.h"

namespace backburn::run {
namespace {

// A key that the version which began the run did not know has its default there.
void complete_config(const std::filesystem::path& config, const std::string& now) {
  if (!std::filesystem::exists(config)) return;
  Recipe older;
  auto options = options_of(older);
  options.load_yaml(read_file(config), config.string());
  if (options.to_yaml() == now) write_file(config, now);
}

}  // namespace

Run open_run(const Recipe& recipe, const std::filesystem::path& folder, const Run* other, Splits needed) {
  const bool same_judge = other != nullptr && other->recipe.judge == recipe.judge &&
                          other->recipe.lm_judge == recipe.lm_judge && other->recipe.device == recipe.device;
  Recipe copy = recipe;
  const std::string config = options_of(copy).to_yaml();
  complete_config(folder / "config.yaml", config);
  auto opened = RunFolder::open(folder, config);
  return {recipe, load_data(recipe.data, needed),
          same_judge ? other->judge : judge::make_judge(recipe.judge, recipe.lm_judge, recipe.device),
          std::move(opened)};
}

bool is_done(const Run& run, const std::string& stage) {
  if (!run.folder.finished(stage)) return false;
  say(fmt::format("{}: done before, {} has the result", stage,
                  (run.folder.path() / "stages" / (stage + ".json")).string()));
  return true;
}

}  // namespace backburn::run
