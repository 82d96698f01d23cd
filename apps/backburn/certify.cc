#include <fmt/format.h>

#include "backburn/base/progress.h"
#include "backburn/report/table.h"
#include "backburn/run/stages.h"
#include "commands.h"

namespace backburn::app {

void add_certify(CLI::App& app) {
  auto* command =
      app.add_subcommand("certify", "a bound on any RL attacker's signal, from one pass, without an attack");
  auto flags = std::make_shared<RecipeFlags>();
  auto refusal = std::make_shared<std::string>();
  add_recipe_flags(*command, *flags, true);
  command->add_option("--refusal", *refusal, "the canonical refusal (default: the model's own most frequent one)");
  command->callback([flags, refusal] {
    if (!refusal->empty()) flags->sets.push_back("defend.refusal=" + *refusal);
    const auto recipe = recipe_of(*flags, "");
    const auto run = run::open_run(recipe, out_of(*flags, "certify", recipe));
    const auto model = model::load_model(recipe.model, run::compute_dtype(recipe));
    if (!run.folder.finished("certify")) run::certify_stage(run, model, run::choose_refusal(run, model));
    const Json result = run.folder.result("certify");
    if (flags->json) {
      fmt::print("{}\n", result.dump());
      return;
    }
    report::Table table{{"temperature", "p max", "p mean", "P(signal) per group", "steps to first signal"}, {}};
    for (const Json& each : result["temperatures"]) {
      table.rows.push_back({fmt::format("{}", each["temperature"].get<double>()),
                            fmt::format("{:.2e}", each["p_max"].get<double>()),
                            fmt::format("{:.2e}", each["p_mean"].get<double>()),
                            fmt::format("{:.2e}", each["signal_per_group_max"].get<double>()),
                            fmt::format("{:.1f}", each["expected_steps_to_signal"].get<double>())});
    }
    fmt::print("refusal: {}\n{}", result["canonical_refusal"].get<std::string>(),
               report::render_table(table, colors_wanted()));
  });
}

}  // namespace backburn::app
