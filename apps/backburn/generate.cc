#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "backburn/generate/rollout.h"
#include "backburn/model/load.h"
#include "backburn/model/peft.h"
#include "backburn/run/memory.h"
#include "commands.h"

namespace backburn::app {
namespace {

struct GenerateFlags {
  std::string model, adapter, prompt, system, dtype = "auto", device = "auto", base_quantization = "none";
  int64_t seed = 1;
  int64_t num_generations = 1;
  generate::RolloutOptions rollout;
  bool json = false;
};

void generate(const GenerateFlags& flags) {
  run::Recipe recipe;
  recipe.dtype = flags.dtype;
  recipe.device = flags.device;
  recipe.base_quantization = flags.base_quantization;
  recipe.model = flags.model;
  recipe.eval.num_generations = flags.num_generations;
  recipe.eval.max_completion_length = flags.rollout.max_completion_length;
  run::check_memory("generate", recipe);
  const auto model = run::load_model(flags.model, recipe);
  std::optional<model::Adapter> adapter;
  if (!flags.adapter.empty()) adapter = model::load_adapter(flags.adapter, model.config);
  auto options = flags.rollout;
  options.seed = static_cast<uint64_t>(flags.seed);
  const generate::RolloutRequest request{model::chat_prompt(model, flags.prompt, flags.system), flags.num_generations,
                                         0};
  const auto groups = generate::rollout(model.network(adapter ? &*adapter : nullptr), {&request, 1}, options);
  for (const auto& completion : groups.front()) {
    const std::string text = model.tokenizer.decode(completion.ids);
    fmt::print("{}\n", flags.json ? Json({{"text", text},
                                          {"tokens", completion.ids.size()},
                                          {"ids", completion.ids},
                                          {"stopped", completion.stopped}})
                                        .dump()
                                  : text);
  }
}

}  // namespace

void add_generate(CLI::App& app) {
  auto* command = app.add_subcommand("generate", "what a model answers to one prompt");
  auto flags = std::make_shared<GenerateFlags>();
  flags->rollout.max_completion_length = 256;
  flags->rollout.sampling.temperature = 0;
  command->add_option("MODEL", flags->model, model_help)->required();
  command->add_option("--prompt", flags->prompt, "what the user says")->required();
  command->add_option("--system", flags->system, "system message (default: the template's)");
  command->add_option("--adapter", flags->adapter, "a PEFT adapter's folder");
  command->add_option("--temperature", flags->rollout.sampling.temperature, "0: the likeliest tokens")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 100.0));
  command->add_option("--top-k", flags->rollout.sampling.top_k, "0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--top-p", flags->rollout.sampling.top_p, "")->capture_default_str()->check(CLI::Range(0.0, 1.0));
  command->add_option("--min-p", flags->rollout.sampling.min_p, "")->capture_default_str()->check(CLI::Range(0.0, 1.0));
  command->add_option("--max-completion-length", flags->rollout.max_completion_length, "tokens")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--num-generations", flags->num_generations, "answers")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--seed", flags->seed, "")->capture_default_str()->check(CLI::NonNegativeNumber);
  command->add_option("--dtype", flags->dtype, "auto, bfloat16 or float32")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "bfloat16", "float32"}));
  command->add_option("--base-quantization", flags->base_quantization, base_quantization_help)
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "q8_0", "q4_0"}));
  command->add_option("--device", flags->device, "auto, cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command->add_flag("--json", flags->json, "a JSON object a line");
  command->callback([flags] { generate(*flags); });
}

}  // namespace backburn::app
