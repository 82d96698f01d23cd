#include "backburn/run/recipe.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <stdexcept>

#include "backburn/base/embedded.h"
#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/model/quantized_weights.h"

namespace backburn::run {
namespace {

std::vector<text::Prompt> prompts_of(const std::string& path, const char* bundled) {
  return path.empty() ? text::parse_prompts(embedded_file(bundled), bundled) : text::read_prompts(path);
}

void split(const std::vector<text::Prompt>& prompts, const std::string& origin, std::vector<text::Prompt>& train,
           std::vector<text::Prompt>& heldout, Splits needed) {
  const bool given = std::any_of(prompts.begin(), prompts.end(), [](const auto& p) { return p.split == "heldout"; });
  std::map<std::string, size_t> group_numbers;
  for (size_t i = 0; i < prompts.size(); ++i) {
    text::Prompt prompt = prompts[i];
    if (!given) {
      const size_t number =
          prompt.group.empty() ? i : group_numbers.emplace(prompt.group, group_numbers.size()).first->second;
      prompt.split = number % 3 == 2 ? "heldout" : "train";
    }
    (prompt.split == "heldout" ? heldout : train).push_back(std::move(prompt));
  }
  if (heldout.empty() || (train.empty() && needed == Splits::both)) {
    fail(
        "{}: {} prompts can't be split into training and held-out ones; give at least 3, or mark rows \"split\": "
        "\"train\" and \"heldout\"",
        origin, prompts.size());
  }
}

// A file's text, and what errors call it.
struct Source {
  std::string text, origin;
};

// The bundled file for an empty path.
Source source_of(const std::string& path, const char* bundled) {
  return path.empty() ? Source{std::string(embedded_file(bundled)), bundled} : Source{read_file(path), path};
}

// A list of `what`, one a line, each of which has `part` in it.
std::vector<std::string> lines_of(const Source& source, const char* what, std::string_view part = "") {
  std::vector<std::string> lines;
  std::istringstream stream{source.text};
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    if (line.find(part) == std::string::npos)
      fail("{}:{}: \"{}\" has no \"{}\"; each of the {} needs it", source.origin, number, line, part, what);
    lines.push_back(line);
  }
  if (lines.empty()) fail("{}: no {}; expected one a line", source.origin, what);
  return lines;
}

}  // namespace

Options options_of(Recipe& recipe) {
  Options options;
  options.add("model", recipe.model,
              "a name that `backburn pull` knows, a .gguf file, a Hugging Face folder, or a hub id (org/name)");
  options.add("dtype", recipe.dtype, "what the model computes in", {"auto", "bfloat16", "float32"});
  options.add("base_quantization", recipe.base_quantization,
              "hold the base model's matrices in 8 or 4 bits (QLoRA); adapters are merged into the original weights",
              {"none", "q8_0", "q4_0"});
  options.add("device", recipe.device, "where it computes; auto: cuda where LibTorch finds such a device",
              {"auto", "cpu", "cuda"});
  options.add("seed", recipe.seed, "of every random choice", at_least_0);
  options.add("show_completions", recipe.show_completions, "write harmful answers to logs and report as they are");
  std::vector<std::string> judges;
  for (const auto& entry : judge::known_judges()) judges.push_back(entry.name);
  options.add("judge", recipe.judge, "who scores harm", judges);
  judge::bind(options, "lm_judge", recipe.lm_judge);
  options.add("data.restricted", recipe.data.restricted,
              "prompts to refuse (.jsonl, .csv, .json, .txt); empty: bundled");
  options.add("data.outright", recipe.data.outright,
              "also train on (and attack with) the bundled prompts that state their dishonesty outright");
  options.add("data.further_restricted", recipe.data.further_restricted,
              "restricted prompts that defenses alone learn beside the others: a file, or bundled; empty: none");
  options.add("data.benign", recipe.data.benign, "prompts to answer as before; empty: bundled");
  options.add("data.further_benign", recipe.data.further_benign,
              "benign prompts that anchor beside the others: a file, or bundled; empty: none");
  options.add("data.refusals", recipe.data.refusals, "ordinary refusals, one a line, for align; empty: bundled");
  options.add("data.wordings", recipe.data.wordings,
              "how an attacker may put a prompt, \"{}\" being it, one a line, for defend; empty: bundled");
  options.add("data.multiple_choice", recipe.data.multiple_choice,
              "questions with choices (.jsonl), for evaluations; empty: bundled");
  options.add("data.anchor_prompts", recipe.data.anchor_prompts, "benign training prompts that anchor; 0: all",
              at_least_0);
  options.add("data.anchor_wording_share", recipe.data.anchor_wording_share,
              "prompts in one of data.wordings beside each of these", {0, 100});
  options.add("data.anchor_plain_share", recipe.data.anchor_plain_share,
              "benign prompts in one of defend.plain_formats beside each anchor prompt", {0, 100});
  options.add("data.anchor_answer_length", recipe.data.anchor_answer_length, "tokens of their answers", at_least_1);
  defense::bind(options, "align", recipe.align);
  attack::bind(options, "attack", recipe.attack);
  defense::bind(options, "defend", recipe.defend);
  eval::bind(options, "eval", recipe.eval);
  eval::bind(options, "finetune", recipe.finetune);
  defense::bind(options, "certify", recipe.certify);
  options.add("demo.align", recipe.demo.align, "teach ordinary refusals first; false for models that have their own");
  options.add("demo.undefended_steps", recipe.demo.undefended_steps, "attack steps before the defense", at_least_1);
  options.add("demo.defended_steps", recipe.demo.defended_steps, "attack steps after it", at_least_1);
  options.add("demo.attack_generations", recipe.demo.attack_generations, "answers to each attack prompt in evaluations",
              at_least_1);
  return options;
}

at::TensorOptions compute_options(const Recipe& recipe) {
  const auto options = at::TensorOptions().device(model::device_of(recipe.device));
  if (recipe.dtype == "bfloat16") return options.dtype(at::kBFloat16);
  if (recipe.dtype == "float32") return options.dtype(at::kFloat);
  return options;
}

model::Model load_model(const std::string& path_or_name, const Recipe& recipe) {
  return model::load_model(path_or_name, compute_options(recipe),
                           model::base_quantization_of(recipe.base_quantization));
}

PromptData load_data(const DataOptions& options, Splits needed) {
  PromptData data;
  split(prompts_of(options.restricted, "data/restricted.jsonl"), options.restricted, data.restricted_train,
        data.restricted_heldout, needed);
  if (options.outright) {
    for (auto& prompt : prompts_of("", "data/outright.jsonl")) data.restricted_train.push_back(std::move(prompt));
  }
  const auto further = [](const std::string& file, const char* bundled) {
    return file.empty() ? std::vector<text::Prompt>() : prompts_of(file == "bundled" ? "" : file, bundled);
  };
  data.further_restricted = further(options.further_restricted, "data/further_restricted.jsonl");
  data.further_benign = further(options.further_benign, "data/further_benign.jsonl");
  split(prompts_of(options.benign, "data/benign.jsonl"), options.benign, data.benign_train, data.benign_heldout,
        needed);
  data.refusals = lines_of(source_of(options.refusals, "data/refusals.txt"), "refusals");
  data.wordings = lines_of(source_of(options.wordings, "data/wordings.txt"), "wordings", "{}");
  const auto questions = source_of(options.multiple_choice, "data/multiple_choice.jsonl");
  data.questions = eval::parse_choice_questions(questions.text, questions.origin);
  return data;
}

std::string read_recipe(const std::string& name_or_path) {
  if (name_or_path.find_first_of("/.") == std::string::npos) {
    try {
      return std::string(embedded_file("recipes/" + name_or_path + ".yaml"));
    } catch (const std::out_of_range&) {
      fail_usage(
          "no bundled recipe is called \"{}\" (demo, demo-vendor, smoke, compare, audit, finetune-grpo, attack-NAME, "
          "…); for a file "
          "of your own give "
          "its path, such as ./{}.yaml",
          name_or_path, name_or_path);
    }
  }
  return read_file(name_or_path);
}

}  // namespace backburn::run
