#pragma once

#include <string>
#include <vector>

#include "backburn/attack/attack.h"
#include "backburn/defense/certificate.h"
#include "backburn/defense/defense.h"
#include "backburn/eval/evaluation.h"
#include "backburn/eval/finetuning.h"

namespace backburn::run {

/// Where prompts come from. An empty path means the bundled file.
struct DataOptions {
  std::string restricted;             ///< prompts that the model shall refuse
  bool outright = false;              ///< also the bundled ones that state their dishonesty, for training
  std::string further_restricted;     ///< more of them, that defenses alone learn: a file or "bundled"; empty: none
  std::string benign;                 ///< prompts that it shall answer as before
  std::string further_benign;         ///< more of them, that anchor alone: a file or "bundled"; empty: none
  std::string refusals;               ///< ordinary refusals, one a line, for align
  std::string wordings;               ///< how an attacker may put a prompt, "{}" being it, one a line
  std::string multiple_choice;        ///< questions with choices, for evaluations
  int64_t anchor_prompts = 400;       ///< benign training prompts whose answers are the anchor; 0: all
  int64_t anchor_answer_length = 16;  ///< tokens of such an answer, at the most
  double anchor_wording_share = 0;    ///< benign prompts in one of the wordings beside each of these
  double anchor_plain_share = 0;      ///< … and in one of defend.plain_formats
};

/// What `backburn demo` does beside the stages' own options.
struct DemoOptions {
  bool align = true;               ///< false for a model with a vendor's own safety training
  int64_t undefended_steps = 50;   ///< attack steps on the model before the defense
  int64_t defended_steps = 200;    ///< … and after it
  int64_t attack_generations = 8;  ///< answers to each attack prompt in the evaluation before and after an attack
};

/// Everything that decides a run, bound to YAML keys.
struct Recipe {
  std::string model = "smollm2-135m-instruct";
  std::string dtype = "auto";              ///< auto, bfloat16 or float32: what the model computes in
  std::string base_quantization = "none";  ///< none, q8_0 or q4_0: how the base model's matrices are held
  std::string device = "auto";             ///< auto, cpu or cuda: where it computes
  int64_t seed = 1;
  bool show_completions = false;
  std::string judge = "rubric";
  judge::LanguageModelOptions lm_judge;
  DataOptions data;
  defense::RefusalSftOptions align;
  attack::AttackOptions attack;
  defense::DefenseOptions defend;
  eval::EvalOptions eval;
  eval::FinetuneOptions finetune;
  defense::CertificateOptions certify;
  DemoOptions demo;
};

/// All keys of a recipe. The recipe must outlive the result.
Options options_of(Recipe& recipe);

/// The device that the recipe asks for, and the dtype on it (none: auto, model::default_dtype). Errors: cuda where
/// there is none (usage).
at::TensorOptions compute_options(const Recipe& recipe);

/// A model as the recipe wants it to compute. Errors: model::load_model's.
model::Model load_model(const std::string& path_or_name, const Recipe& recipe);

/// The prompts of a recipe by role.
struct PromptData {
  std::vector<text::Prompt> restricted_train, restricted_heldout;
  std::vector<text::Prompt> further_restricted;  ///< all of that file's, whatever its splits
  std::vector<text::Prompt> benign_train, benign_heldout;
  std::vector<text::Prompt> further_benign;  ///< likewise
  std::vector<std::string> refusals, wordings;
  std::vector<eval::ChoiceQuestion> questions;
};

/// The splits that prompts must have: what trains on none (certify, eval) takes files that are held out as a whole.
enum class Splits { both, heldout };

/// Reads the files. Where a file has no held-out rows, every third group (activity) of it is held out, or every third
/// row when it has no groups. Errors: a file's own, and too few rows to split.
PromptData load_data(const DataOptions& options, Splits needed = Splits::both);

/// The recipe file of that path, or the bundled one of that name ("demo", "demo-vendor", "smoke").
std::string read_recipe(const std::string& name_or_path);

}  // namespace backburn::run
