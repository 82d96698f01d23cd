#include <fmt/format.h>

#include "backburn/base/progress.h"
#include "backburn/run/demo.h"
#include "backburn/run/memory.h"
#include "backburn/run/report_data.h"
#include "commands.h"

namespace backburn::app {

void add_demo(CLI::App& app) {
  auto* command =
      app.add_subcommand("demo", "align a small model, attack it, defend it, attack that, write the report");
  auto flags = std::make_shared<RecipeFlags>();
  add_recipe_flags(*command, *flags, false);
  command->callback([flags] {
    const bool vendor = !flags->model.empty() && !flags->model.starts_with("smollm2");
    const auto recipe = recipe_of(*flags, vendor ? "demo-vendor" : "demo");
    const std::string out = out_of(*flags, "demo", recipe);
    run::check_memory("demo", recipe);
    const auto run = run::open_run(recipe, out);
    run::demo(run, fmt::format("backburn demo --model {} --seed {} --out {}", recipe.model, recipe.seed, out));
    const auto page = run::write_report(run.folder);
    const Json report = run::report_data(run.folder);
    if (flags->json) {
      fmt::print("{}\n", run::demo_summary(run.folder).dump());
      return;
    }
    fmt::print("{}\n{}\nReport: {}\n", report::render_table(run::summary_table(report), colors_wanted()),
               report["verdict"]["sentence"].get<std::string>(), page.string());
  });
}

}  // namespace backburn::app
