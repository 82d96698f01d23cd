#include <fmt/format.h>

#include "backburn/run/memory.h"
#include "backburn/run/stages.h"
#include "commands.h"

namespace backburn::app {

void add_defend(CLI::App& app) {
  auto* command =
      app.add_subcommand("defend", "harden a model: writes a merged Hugging Face folder and a PEFT adapter");
  auto flags = std::make_shared<RecipeFlags>();
  auto name = std::make_shared<std::string>();
  add_recipe_flags(*command, *flags, true);
  command->add_option("--name", *name, "which defense (default reward-neutralization)");
  command->callback([flags, name] {
    if (!name->empty()) flags->sets.insert(flags->sets.begin(), "defend.name=" + *name);
    const auto recipe = recipe_of(*flags, "");
    run::check_memory("defend", recipe);
    const auto run = run::open_run(recipe, out_of(*flags, "defend", recipe));
    const auto model = run::load_model(recipe.model, recipe);
    run::defend_stage(run, model,
                      run.folder.finished("defend") ? defense::BenignBehaviour() : run::benign_behaviour(run, model));
    const auto folder = (run.folder.path() / "defended").string();
    Json result = run.folder.result("defend");
    result["model"] = folder;
    result["adapter"] = folder + "-adapter";
    fmt::print("{}\n", flags->json ? result.dump()
                                   : fmt::format("{}\nrefusal: {}", folder, result["refusal"].get<std::string>()));
  });
}

}  // namespace backburn::app
