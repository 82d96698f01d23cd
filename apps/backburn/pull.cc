#include "backburn/model/pull.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "backburn/base/error.h"
#include "backburn/base/progress.h"
#include "commands.h"

namespace backburn::app {

void add_pull(CLI::App& app) {
  auto* command = app.add_subcommand("pull", "fetch a named model, check its SHA-256, keep it in the cache folder");
  auto name = std::make_shared<std::string>();
  command->add_option("NAME", *name, "one of the names below")->required();
  std::string names = "Models (kept in " + model::model_cache_folder().string() + "; BACKBURN_MODELS changes that):\n";
  for (const auto& model : model::named_models())
    names += fmt::format("  {}\n      {}\n", model.name, model.description);
  command->footer(names);
  command->callback([name] {
    const auto* model = model::find_named_model(*name);
    if (model == nullptr) {
      std::vector<std::string> known;
      for (const auto& each : model::named_models()) known.push_back(each.name);
      fail_usage("no model is called \"{}\"; known are {}", *name, fmt::join(known, ", "));
    }
    if (!model::is_cached(*model)) {
      Progress progress("pull " + model->name + " (MiB)", model->bytes >> 20);
      model::pull(*model, [&](int64_t done) { progress.update(done >> 20); });
    }
    fmt::print("{}\n", model::cached_path(*model).string());
  });
}

}  // namespace backburn::app
