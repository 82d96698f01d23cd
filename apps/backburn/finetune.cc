#include <fmt/format.h>

#include <filesystem>

#include "backburn/base/progress.h"
#include "backburn/run/finetune.h"
#include "backburn/run/memory.h"
#include "commands.h"

namespace backburn::app {
namespace {

Json finetuned(const run::Recipe& recipe, const std::filesystem::path& folder) {
  const auto run = run::open_run(recipe, folder);
  if (!run.folder.finished("finetune")) {
    run::check_memory("finetune", recipe);
    run::finetune_stage(run, folder.filename().string(), model::load_model(recipe.model, run::compute_options(recipe)));
  }
  return run.folder.result("finetune");
}

}  // namespace

void add_finetune(CLI::App& app) {
  auto* command = app.add_subcommand(
      "finetune", "benign fine-tuning: does a hardened model learn as the original does, and refuse afterwards?");
  auto flags = std::make_shared<RecipeFlags>();
  auto others = std::make_shared<std::vector<std::string>>();
  add_recipe_flags(*command, *flags, true);
  command->add_option("OTHERS", *others, "models to compare with the first: finetune ORIGINAL DEFENDED");
  command->callback([flags, others] {
    auto recipe = recipe_of(*flags, "finetune-sft");
    const std::filesystem::path out = out_of(*flags, "finetune", recipe);
    auto models = *others;
    models.insert(models.begin(), recipe.model);
    std::vector<Json> results;
    for (const auto& model : models) {
      recipe.model = model;
      results.push_back(finetuned(recipe, out / fmt::format("{}-{}", results.size() + 1, short_name(model))));
    }
    const Json comparison = run::finetune_comparison(std::move(results));
    if (flags->json) {
      fmt::print("{}\n", comparison.dump());
      return;
    }
    fmt::print("Accuracy on held-out questions of the task:\n{}\n{}",
               report::render_table(run::accuracy_table(comparison), colors_wanted()),
               report::render_table(run::finetune_table(comparison), colors_wanted()));
  });
}

}  // namespace backburn::app
