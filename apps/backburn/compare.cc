#include <fmt/format.h>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/progress.h"
#include "backburn/report/static_page.h"
#include "backburn/run/calibration.h"
#include "backburn/run/compare.h"
#include "backburn/run/memory.h"
#include "backburn/run/search.h"
#include "commands.h"

namespace backburn::app {
namespace {

struct CompareFlags {
  std::string file = "compare", model, out;
  std::vector<std::string> sets;
  std::vector<std::string> attacks;
  std::vector<int64_t> seeds;
  bool json = false;
};

void add_compare_flags(CLI::App& command, CompareFlags& flags) {
  command.add_option("--set", flags.sets, "KEY=VALUE: one key of the recipe, for all cells; may be given again")
      ->allow_extra_args(false);
  command.add_option("--seeds", flags.seeds, "instead of the file's: 1,2,3")
      ->delimiter(',')
      ->check(CLI::NonNegativeNumber);
  command.add_option("--attacks", flags.attacks, "of the file's attacks these alone: grpo,sft")->delimiter(',');
  command.add_flag("--json", flags.json, "the result as one JSON object, the last line of the output");
}

std::vector<run::Variant> picked(const std::vector<run::Variant>& attacks, const CompareFlags& flags) {
  std::vector<run::Variant> chosen;
  for (const std::string& name : flags.attacks) {
    const auto found =
        std::find_if(attacks.begin(), attacks.end(), [&](const auto& each) { return each.name == name; });
    if (found == attacks.end()) fail_usage("--attacks {}: {} has no attack of that name", name, flags.file);
    chosen.push_back(*found);
  }
  return chosen;
}

run::Comparison comparison_of(const CompareFlags& flags) {
  auto comparison = run::parse_comparison(run::read_recipe(flags.file), flags.file);
  if (!flags.model.empty()) comparison.sets.push_back("model=" + flags.model);
  comparison.sets.insert(comparison.sets.end(), flags.sets.begin(), flags.sets.end());
  if (!flags.seeds.empty()) comparison.seeds = flags.seeds;
  if (!flags.attacks.empty()) comparison.attacks = picked(comparison.attacks, flags);
  run::recipe_of(comparison, 0, nullptr, nullptr);  // a bad --set is told before any work
  return comparison;
}

// comparison.json and comparison.html, from the cells that are finished.
Json write_comparison(const run::Comparison& comparison, const std::string& out) {
  Json result = run::compared(comparison, out);
  const std::filesystem::path folder = out;
  write_file(folder / "comparison.json", result.dump(1) + "\n");
  std::string body = report::heat_map_section(run::heat_map_of(result));
  if (const Json calibration = run::calibrate({folder}); !calibration["runs"].empty()) {
    body += run::calibration_section(calibration);
  }
  write_file(folder / "comparison.html", report::static_page("backburn: defenses under attack", body));
  return result;
}

// Runs what is not finished. It may take a night, and be stopped: what there is can be read after each cell.
Json run_comparison(const run::Comparison& comparison, const std::string& out) {
  run::run_cells(comparison, out, [&] { write_comparison(comparison, out); });
  return write_comparison(comparison, out);
}

void print_search(const Json& found, const std::filesystem::path& out, bool json) {
  write_file(out / "search.json", found.dump(1) + "\n");
  if (json) {
    fmt::print("{}\n", found.dump());
  } else {
    fmt::print("{}\n{}\n", report::render_table(run::search_table(found), colors_wanted()), run::search_verdict(found));
  }
}

}  // namespace

void add_compare(CLI::App& app) {
  auto* command =
      app.add_subcommand("compare", "defenses × attacks × seeds from one file, ranked; goes on where it was");
  auto flags = std::make_shared<CompareFlags>();
  command->add_option("FILE", flags->file, "a comparison (see docs/recipes.md), or a bundled one by name")
      ->capture_default_str();
  command->add_option("--model", flags->model, "instead of the recipe's");
  command->add_option("--out", flags->out, "folder of all runs (default runs/compare-FILE)");
  add_compare_flags(*command, *flags);
  command->callback([flags] {
    const auto comparison = comparison_of(*flags);
    const std::string out =
        flags->out.empty() ? "runs/compare-" + std::filesystem::path(flags->file).stem().string() : flags->out;
    run::check_memory("compare", comparison);
    const Json result = run_comparison(comparison, out);
    if (flags->json) {
      fmt::print("{}\n", result.dump());
      return;
    }
    fmt::print("{}\nHeat map: {}/comparison.html\n", report::render_table(run::ranking_table(result), colors_wanted()),
               out);
  });
}

void add_audit(CLI::App& app) {
  auto* command = app.add_subcommand("audit", "a suite of attacks on one model; the worst of them decides");
  auto flags = std::make_shared<CompareFlags>();
  flags->file = "audit";
  command
      ->add_option("MODEL", flags->model, "a name that `backburn pull` knows, a .gguf file, or a Hugging Face folder")
      ->required();
  command->add_option("--suite", flags->file, "a comparison whose attacks are the suite, or a bundled one by name")
      ->capture_default_str();
  command->add_option("--out", flags->out, "folder of all runs (default runs/audit-MODEL)");
  add_compare_flags(*command, *flags);
  auto search = std::make_shared<run::SearchOptions>();
  auto* trials = command->add_option("--search", search->trials,
                                     "instead of the suite, search for the worst of so many attackers: the suite's "
                                     "first attack (or --attacks), tuned");
  trials->check(CLI::Range(1, 1000));
  command
      ->add_option("--min-utility", search->min_kept_utility,
                   "--search: an attacker that keeps less of the model's utility doesn't count")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->callback([flags, search, trials] {
    auto comparison = comparison_of(*flags);
    comparison.defenses = {{run::no_defense, {}}};
    comparison.sets.emplace_back("demo.align=false");
    const auto model = std::filesystem::path(flags->model).lexically_normal();
    const std::string out =
        flags->out.empty() ? "runs/audit-" + (model.has_filename() ? model : model.parent_path()).filename().string()
                           : flags->out;
    if (trials->count() > 0) {
      if (flags->attacks.empty()) comparison.attacks.resize(1);
      auto tried = comparison;
      tried.attacks = run::draw_trials(comparison, search->trials, comparison.seeds.front());
      run::check_memory("audit", tried);
      print_search(run::search(comparison, *search, out), out, flags->json);
      return;
    }
    run::check_memory("audit", comparison);
    const Json result = run_comparison(comparison, out)["defenses"][0];
    if (flags->json) {
      fmt::print("{}\n", result.dump());
      return;
    }
    fmt::print("{}\n{}\n", report::render_table(run::ranking_table({{"defenses", {result}}}), colors_wanted()),
               run::audit_verdict(result));
  });
}

}  // namespace backburn::app
