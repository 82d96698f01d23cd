#include <fmt/format.h>

#include "backburn/base/progress.h"
#include "backburn/run/memory.h"
#include "backburn/run/report_data.h"
#include "backburn/run/stages.h"
#include "commands.h"

namespace backburn::app {

void add_eval(CLI::App& app) {
  auto* command = app.add_subcommand(
      "eval", "harmful score, refusal rate, over-refusal, drift and multiple-choice accuracy of a model");
  auto flags = std::make_shared<RecipeFlags>();
  auto reference = std::make_shared<std::string>();
  add_recipe_flags(*command, *flags, true);
  command->add_option("--reference", *reference,
                      "the model whose benign behaviour is the measure (default: MODEL itself)");
  command->callback([flags, reference] {
    const auto recipe = recipe_of(*flags, "");
    run::check_memory("eval", recipe);
    const auto run = run::open_run(recipe, out_of(*flags, "eval", recipe), nullptr, run::Splits::heldout);
    const auto model = run::load_model(recipe.model, recipe);
    const auto original = reference->empty() ? std::unique_ptr<model::Model>()
                                             : std::make_unique<model::Model>(run::load_model(*reference, recipe));
    if (!run.folder.finished("original")) {
      run::eval_stage(run, "original", model.name, model, run::eval_inputs(run, original ? *original : model));
    }
    if (flags->json) {
      fmt::print("{}\n", run.folder.result("original")["evaluation"].dump());
    } else {
      fmt::print("{}", report::render_table(run::summary_table(run::report_data(run.folder)), colors_wanted()));
    }
  });
}

}  // namespace backburn::app
