#include <fmt/format.h>

#include "backburn/run/memory.h"
#include "backburn/run/stages.h"
#include "commands.h"

namespace backburn::app {

void add_align(CLI::App& app) {
  auto* command =
      app.add_subcommand("align", "supervised safety tuning: ordinary, shallow refusals, as vendors ship them");
  auto flags = std::make_shared<RecipeFlags>();
  add_recipe_flags(*command, *flags, true);
  command->callback([flags] {
    const auto recipe = recipe_of(*flags, "");
    run::check_memory("align", recipe);
    const auto run = run::open_run(recipe, out_of(*flags, "align", recipe));
    const auto model = run::load_model(recipe.model, recipe);
    run::align_stage(run, model,
                     run.folder.finished("align") ? defense::BenignBehaviour() : run::benign_behaviour(run, model));
    const auto folder = (run.folder.path() / "aligned").string();
    fmt::print("{}\n", flags->json ? Json({{"model", folder}, {"adapter", folder + "-adapter"}}).dump() : folder);
  });
}

}  // namespace backburn::app
