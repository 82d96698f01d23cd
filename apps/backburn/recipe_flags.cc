#include <filesystem>

#include "backburn/run/check_recipe.h"
#include "commands.h"

namespace backburn::app {

void add_recipe_flags(CLI::App& command, RecipeFlags& flags, bool takes_model) {
  if (takes_model) {
    command.add_option("MODEL", flags.model, model_help)->required();
  } else {
    command.add_option("--model", flags.model, std::string(model_help) + " (default: the recipe's)");
  }
  command
      .add_option("--recipe", flags.recipes,
                  "a recipe file, or a bundled one by name (demo, demo-vendor, smoke); may be given again: later ones "
                  "override earlier ones, key by key")
      ->allow_extra_args(false);
  command
      .add_option("--set", flags.sets,
                  "KEY=VALUE: one key of the recipe; may be given again. Lists: 1,2 or [\"a, b\", c]")
      ->allow_extra_args(false);
  command.add_option("--seed", flags.seed, "of every random choice (default 1)")->check(CLI::NonNegativeNumber);
  command.add_option("--out", flags.out,
                     "the run's folder; the same command goes on there where it was stopped "
                     "(default runs/COMMAND-MODEL-seed-N)");
  command.add_option("--prompts", flags.prompts,
                     "prompts to refuse: .jsonl, .json, .csv or .txt (default: bundled mild ones)");
  command.add_option("--benign", flags.benign, "prompts to answer as before (default: bundled)");
  command.add_option("--dtype", flags.dtype,
                     "auto, bfloat16 or float32 (default auto: bfloat16 where the kernels or the CPU compute it)");
  command.add_option("--device", flags.device, "auto, cpu or cuda (default auto: cuda where LibTorch finds a GPU)");
  command.add_option("--base-quantization", flags.base_quantization,
                     std::string(base_quantization_help) + " (default none)");
  command.add_flag("--json", flags.json, "the result as one JSON object, the last line of the output");
  command.add_flag("--show-completions", flags.show_completions, "do not redact harmful answers in logs and report");
  static run::Recipe defaults;
  command.footer("Keys for --set and recipes, with their defaults:\n" + run::options_of(defaults).help());
}

run::Recipe recipe_of(const RecipeFlags& flags, const std::string& default_recipe) {
  run::Recipe recipe;
  auto options = run::options_of(recipe);
  auto names = flags.recipes;
  if (names.empty() && !default_recipe.empty()) names = {default_recipe};
  for (const auto& name : names) options.load_yaml(run::read_recipe(name), name);
  if (!flags.model.empty()) recipe.model = flags.model;
  if (!flags.dtype.empty()) options.set("dtype=" + flags.dtype);
  if (!flags.device.empty()) options.set("device=" + flags.device);
  if (!flags.base_quantization.empty()) options.set("base_quantization=" + flags.base_quantization);
  if (!flags.prompts.empty()) recipe.data.restricted = flags.prompts;
  if (!flags.benign.empty()) recipe.data.benign = flags.benign;
  if (flags.seed) recipe.seed = *flags.seed;
  if (flags.show_completions) recipe.show_completions = true;
  for (const auto& assignment : flags.sets) options.set(assignment);
  run::check_recipe(recipe);
  return recipe;
}

std::string short_name(const std::string& model) {
  const auto path = std::filesystem::path(model).lexically_normal();
  if (!std::filesystem::exists(path)) return path.filename().string();
  return path.has_filename() ? path.stem().string() : path.parent_path().filename().string();
}

std::string out_of(const RecipeFlags& flags, const std::string& command, const run::Recipe& recipe) {
  if (!flags.out.empty()) return flags.out;
  return "runs/" + command + "-" + short_name(recipe.model) + "-seed-" + std::to_string(recipe.seed);
}

}  // namespace backburn::app
