#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backburn/run/recipe.h"

/// One function a subcommand, each in its own file: it declares the options and says what to do with them.
namespace backburn::app {

void add_demo(CLI::App& app);
void add_align(CLI::App& app);
void add_attack(CLI::App& app);
void add_defend(CLI::App& app);
void add_certify(CLI::App& app);
void add_eval(CLI::App& app);
void add_finetune(CLI::App& app);
void add_generate(CLI::App& app);
void add_export(CLI::App& app);
void add_inspect(CLI::App& app);
void add_report(CLI::App& app);
void add_pull(CLI::App& app);
void add_judge(CLI::App& app);
void add_compare(CLI::App& app);
void add_audit(CLI::App& app);
void add_bench(CLI::App& app);

/// What a MODEL argument may be, for help texts.
inline constexpr const char* model_help =
    "a name that `backburn pull` knows, a .gguf file, a Hugging Face folder, or a hub id (org/name)";

inline constexpr const char* base_quantization_help =
    "none, q8_0 or q4_0: hold the base model's matrices in 8 or 4 bits (QLoRA)";

/// The options that all commands with a recipe share.
struct RecipeFlags {
  std::vector<std::string> recipes;
  std::vector<std::string> sets;
  std::string model, dtype, device, base_quantization, prompts, benign;
  std::optional<int64_t> seed;
  std::string out;
  bool json = false;
  bool show_completions = false;
};

/// Declares them, and puts the list of recipe keys below the command's help. `takes_model`: MODEL is the command's
/// argument; otherwise it is --model.
void add_recipe_flags(CLI::App& command, RecipeFlags& flags, bool takes_model);

/// The recipe of the flags: the files (later ones over earlier ones, key by key) or `default_recipe`, then the flags,
/// then --set.
run::Recipe recipe_of(const RecipeFlags& flags, const std::string& default_recipe);

/// A model's file or folder name without what is before and after it; the last part of an id.
std::string short_name(const std::string& model);

/// --out, or runs/COMMAND-MODEL-seed-N.
std::string out_of(const RecipeFlags& flags, const std::string& command, const run::Recipe& recipe);

}  // namespace backburn::app
