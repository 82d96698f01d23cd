#include <fmt/format.h>

#include "backburn/base/progress.h"
#include "backburn/run/attack_stage.h"
#include "backburn/run/memory.h"
#include "backburn/run/probe.h"
#include "backburn/run/report_data.h"
#include "backburn/run/stages.h"
#include "commands.h"

namespace backburn::app {

void add_attack(CLI::App& app) {
  auto* command =
      app.add_subcommand("attack", "simulated malicious fine-tuning: harm per step; keeps no attacked weights");
  auto flags = std::make_shared<RecipeFlags>();
  auto refusal = std::make_shared<std::string>();
  add_recipe_flags(*command, *flags, true);
  command->add_option("--refusal", *refusal,
                      "the model's canonical refusal: checks its certificate against the attack");
  command->callback([flags, refusal] {
    const auto recipe = recipe_of(*flags, "");
    run::check_memory("attack", recipe);
    const auto run = run::open_run(recipe, out_of(*flags, "attack", recipe));
    const auto model = run::load_model(recipe.model, recipe);
    const std::string stage = "attack_undefended";
    if (!run.folder.finished(stage)) {
      run::attack_stage(
          run,
          {stage, "Attack on " + model.name, &model, run::choose_attack_prompts(run, model, recipe.attack.split),
           recipe.attack.grpo.max_steps, *refusal},
          run::eval_inputs(run, model));
    }
    Json result = run.folder.result(stage);
    run::write_report(run.folder);
    if (flags->json) {
      result.erase("examples");
      fmt::print("{}\n", result.dump());
      return;
    }
    fmt::print("{}", report::render_table(run::attack_table(result), colors_wanted()));
    if (result["nothing_to_learn"].is_string()) fmt::print("{}\n", result["nothing_to_learn"].get<std::string>());
  });
}

}  // namespace backburn::app
