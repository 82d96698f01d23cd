#include "backburn/run/memory.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <span>
#include <stdexcept>

#include "backburn/base/available_memory.h"
#include "backburn/base/error.h"
#include "backburn/model/activations.h"
#include "backburn/model/load.h"
#include "backburn/model/packed.h"
#include "backburn/model/source.h"

namespace backburn::run {
namespace {

using model::ModelConfig;

constexpr double gib = 1024.0 * 1024 * 1024;
constexpr double program_gib = 0.25;       // LibTorch, tokenizer, prompts, small change
constexpr double libtorch_overhead = 1.5;  // of LibTorch's layers over what a gradient keeps: fitted to SmolLM2 in f32
constexpr int64_t prompt_tokens = 64;      // of a prompt in its chat template
constexpr int64_t answer_tokens = 16;      // of a refusal or an anchor's beginning
constexpr int64_t tokens_per_pass = 2048;  // of the passes in train/
constexpr int64_t rows_at_once = 64;       // generate::RolloutOptions::max_rows

// Sizes of a model in the dtype that it computes in.
struct Sizes {
  const ModelConfig& config;
  at::ScalarType dtype;

  bool packed() const { return model::PackedWeights::fits(config, dtype); }
  double value() const { return static_cast<double>(c10::elementSize(dtype)); }
  double queries() const { return static_cast<double>(config.num_attention_heads * config.head_dim); }
  double keys() const { return static_cast<double>(config.num_key_value_heads * config.head_dim); }
  double hidden() const { return static_cast<double>(config.hidden_size); }
  double layers() const { return static_cast<double>(config.num_hidden_layers); }

  double weights() const { return static_cast<double>(model::parameter_count(config)) * value(); }
  // What the kernels read: all matrices but an embedding that is not also the head.
  double packed_weights() const {
    const double embedding = config.tie_word_embeddings ? 0 : static_cast<double>(config.vocab_size) * hidden();
    return packed() ? weights() - embedding * value() : 0;
  }
  double key_values(int64_t rows, int64_t tokens) const {
    return 2 * layers() * keys() * value() * static_cast<double>(rows * tokens);
  }

  // What a token leaves behind for the gradient.
  double activations(int64_t rank) const {
    if (packed()) return static_cast<double>(model::activation_bytes(config, rank));
    return layers() * layer_activations(rank);
  }
  // LibTorch's operations keep: both norms' inputs (wide) and outputs, q, k and v before and after RoPE and repeated
  // for all heads, what attention gives, gate, up, activation and product, and seven low-rank parts.
  double layer_activations(int64_t rank) const {
    const double wide = dtype == at::kFloat ? 0 : 2 * 4 * hidden();
    const double values = 4 * hidden() + 6 * queries() + 2 * keys() +
                          4 * static_cast<double>(config.intermediate_size) + 7 * static_cast<double>(rank);
    return libtorch_overhead * (wide + value() * values);
  }
  // With gradient checkpointing, of all layers but the one that is computed again.
  double layer_input() const { return hidden() * value(); }

  // Parameters, gradient and AdamW's two averages in f32; what generation reads, in the model's dtype.
  double adapter(int64_t rank) const {
    const double in_and_out = (hidden() + queries()) * 2 + 2 * (hidden() + keys()) +
                              3 * (hidden() + static_cast<double>(config.intermediate_size));
    return layers() * in_and_out * static_cast<double>(rank) * (4 * 4 + 2 * value());
  }
};

// Sums up a need part by part.
class Sum {
 public:
  explicit Sum(const Sizes& sizes) : sizes_(sizes) { add("the program", program_gib * gib); }

  void add(const std::string& part, double bytes) {
    const auto found = std::find_if(parts_.begin(), parts_.end(), [&](const auto& each) { return each.first == part; });
    if (found == parts_.end()) {
      parts_.emplace_back(part, bytes / gib);
    } else {
      found->second += bytes / gib;
    }
  }
  // A model in memory; `trained`: with the transposed weights that gradients read.
  void add_model(bool trained) { add("weights", sizes_.weights() + sizes_.packed_weights() * (trained ? 2 : 1)); }
  void add_generation(int64_t rows, int64_t completion_length) {
    rows = std::min(rows, rows_at_once);
    add("generation", sizes_.key_values(rows, prompt_tokens + completion_length) +
                          2 * 4 * static_cast<double>(rows * sizes_.config.vocab_size));
  }
  // A pass with gradient over so many tokens, in parts of tokens_per_pass.
  void add_pass(int64_t tokens, const train::LoraOptions& lora) {
    const auto at_once = static_cast<double>(std::min(tokens, tokens_per_pass));
    const double all = sizes_.activations(lora.r);
    const double kept =
        lora.gradient_checkpointing ? sizes_.layers() * sizes_.layer_input() + all / sizes_.layers() : all;
    add("activations", at_once * kept);
  }
  void add_adapter(const train::LoraOptions& lora) { add("adapter and optimizer", sizes_.adapter(lora.r)); }

  // As train::grpo_step does it: answers leave their activations where there is room.
  void add_grpo(const train::GrpoOptions& grpo) {
    const int64_t answers = grpo.prompts_per_step * grpo.num_generations;
    const int64_t tokens =
        grpo.max_num_gen_batches * (grpo.prompts_per_step * prompt_tokens + answers * (grpo.max_completion_length - 1));
    const double kept = static_cast<double>(tokens) * sizes_.activations(grpo.lora.r);
    add_generation(answers, grpo.max_completion_length);
    if (sizes_.packed() && !grpo.lora.gradient_checkpointing && kept <= grpo.kept_activations_gib * gib) {
      add("activations", kept);
    } else {
      add_pass(tokens, grpo.lora);
    }
    add_adapter(grpo.lora);
  }
  void add_supervised(int64_t examples, const train::LoraOptions& lora) {
    add_pass(examples * (prompt_tokens + answer_tokens), lora);
    add_adapter(lora);
  }
  // The released weights are made beside the model.
  void add_merged_weights() { add("merged weights", sizes_.weights()); }
  MemoryNeed need() const { return {parts_}; }

 private:
  Sizes sizes_;
  std::vector<std::pair<std::string, double>> parts_;
};

// The RL phase has options of its own.
train::GrpoOptions rl_options(const defense::NeutralizationOptions& options) {
  train::GrpoOptions grpo;
  grpo.prompts_per_step = options.rl_prompts_per_step;
  grpo.num_generations = options.rl_num_generations;
  grpo.max_completion_length = options.rl_max_completion_length;
  grpo.lora = options.lora;
  return grpo;
}

void add_align(const Recipe& recipe, Sum& sum) {
  sum.add_supervised(recipe.align.train_batch_size + recipe.align.anchor.anchor_batch, recipe.align.lora);
  sum.add_merged_weights();
}

void add_defense(const Recipe& recipe, Sum& sum) {
  const auto& options = recipe.defend.neutralization;
  if (recipe.defend.name == "reward-neutralization" && options.rl_steps == 0) {
    sum.add_supervised(options.sharpen_batch + options.anchor.anchor_batch, options.lora);
  } else {
    sum.add_grpo(rl_options(options));
  }
  sum.add_merged_weights();
}

// Which settings of a command make it smaller, one after the other.
std::vector<std::string> smaller_settings(const std::string& command) {
  if (command == "attack" || command == "demo") {
    return {"attack.kept_activations_gib=0", "attack.gradient_checkpointing=true", "attack.num_generations=2",
            "attack.prompts_per_step=1", "attack.max_completion_length=24"};
  }
  if (command == "defend") {
    return {"defend.gradient_checkpointing=true", "defend.rl_num_generations=2", "defend.rl_prompts_per_step=1"};
  }
  if (command == "align")
    return {"align.gradient_checkpointing=true", "align.anchor_batch=4", "align.train_batch_size=2"};
  return {};
}

// "--set attack.num_generations=2 needs 12.3 GiB" with as many of the settings as it takes; "" when all of them are too
// few. `need_with`: GiB with so many of them.
std::string what_would_fit(const std::vector<std::string>& settings, double available,
                           const std::function<double(std::span<const std::string>)>& need_with) {
  std::string given;
  for (size_t count = 1; count <= settings.size(); ++count) {
    given += (given.empty() ? "--set " : " --set ") + settings[count - 1];
    const double needed = need_with(std::span(settings).first(count));
    if (needed <= available) return fmt::format("{} needs {:.1f} GiB", given, needed);
  }
  return "";
}

void check_need(const std::string& command, const MemoryNeed& need, double available_gib,
                const std::vector<std::string>& settings,
                const std::function<double(std::span<const std::string>)>& need_with) {
  if (need.gib() <= available_gib) return;
  std::string parts;
  for (const auto& [part, size] : need.parts)
    parts += fmt::format("{}{} {:.1f}", parts.empty() ? "" : ", ", part, size);
  const std::string fits = what_would_fit(settings, available_gib, need_with);
  fail(
      "{} needs about {:.1f} GiB of memory ({}), {:.1f} GiB are free: {}; BACKBURN_IGNORE_MEMORY=1 tries it all the "
      "same",
      command, need.gib(), parts, available_gib, fits.empty() ? "only a smaller model would fit" : fits);
}

bool is_checked(const Recipe& recipe) {
  return std::getenv("BACKBURN_IGNORE_MEMORY") == nullptr && model::device_of(recipe.device).is_cpu();
}

// A stage of a comparison's run, beside `models` that stay in memory; all of them have been trained or are.
MemoryNeed stage_need(const Sizes& sizes, int64_t models, const std::function<void(Sum&)>& add_stage) {
  Sum sum(sizes);
  for (int64_t i = 0; i < models; ++i) sum.add_model(true);
  add_stage(sum);
  return sum.need();
}

}  // namespace

double MemoryNeed::gib() const {
  double sum = 0;
  for (const auto& [part, size] : parts) sum += size;
  return sum;
}

MemoryNeed memory_need(const std::string& command, const ModelConfig& config, const Recipe& recipe) {
  const Sizes sizes{config, compute_options(recipe).dtype().toScalarType()};
  Sum sum(sizes);
  if (command == "demo") {
    // The original, the aligned and the defended model stay until the end; the last one shows attackers no
    // differential, so that no gradient is taken on it.
    sum.add_model(true);
    if (recipe.demo.align) sum.add_model(true);
    sum.add_model(false);
    sum.add_grpo(recipe.attack.grpo);
    return sum.need();
  }
  const bool trained = command == "align" || command == "attack" || command == "defend";
  sum.add_model(trained);
  if (command == "generate") {
    sum.add_generation(recipe.eval.num_generations, recipe.eval.max_completion_length);
  } else if (command == "eval") {
    sum.add_generation(rows_at_once, recipe.eval.max_completion_length);
  } else if (command == "certify") {
    sum.add_generation(rows_at_once, prompt_tokens);
  } else if (command == "attack") {
    sum.add_grpo(recipe.attack.grpo);
  } else if (command == "align") {
    add_align(recipe, sum);
  } else if (command == "defend") {
    add_defense(recipe, sum);
  } else {
    throw std::logic_error("memory_need: no command " + command);
  }
  return sum.need();
}

MemoryNeed memory_need(const Comparison& comparison, const ModelConfig& config) {
  MemoryNeed largest;
  const auto consider = [&](const MemoryNeed& need) {
    if (need.gib() > largest.gib()) largest = need;
  };
  for (const Variant& defense : comparison.defenses) {
    for (const Variant& attack : comparison.attacks) {
      const Recipe recipe = recipe_of(comparison, comparison.seeds.front(), &defense, &attack);
      const Sizes sizes{config, compute_options(recipe).dtype().toScalarType()};
      int64_t models = 1;
      if (recipe.demo.align) {
        consider(stage_need(sizes, models, [&](Sum& sum) { add_align(recipe, sum); }));
        ++models;
      }
      if (defense.name != no_defense) {
        consider(stage_need(sizes, models, [&](Sum& sum) { add_defense(recipe, sum); }));
        ++models;
      }
      consider(stage_need(sizes, models, [&](Sum& sum) { sum.add_grpo(recipe.attack.grpo); }));
    }
  }
  return largest;
}

void check_memory(const std::string& command, const ModelConfig& config, const Recipe& recipe, double available_gib) {
  check_need(command, memory_need(command, config, recipe), available_gib, smaller_settings(command),
             [&](std::span<const std::string> settings) {
               Recipe smaller = recipe;
               auto options = options_of(smaller);
               for (const std::string& setting : settings) options.set(setting);
               return memory_need(command, config, smaller).gib();
             });
}

void check_memory(const std::string& command, const ModelConfig& config, const Comparison& comparison,
                  double available_gib) {
  check_need(command, memory_need(comparison, config), available_gib, smaller_settings("attack"),
             [&](std::span<const std::string> settings) {
               Comparison smaller = comparison;
               smaller.sets.insert(smaller.sets.end(), settings.begin(), settings.end());
               return memory_need(smaller, config).gib();
             });
}

void check_memory(const std::string& command, const Recipe& recipe) {
  if (!is_checked(recipe)) return;
  check_memory(command, model::config_of(model::find_model(recipe.model)), recipe, available_memory_gib());
}

void check_memory(const std::string& command, const Comparison& comparison) {
  const Recipe recipe = recipe_of(comparison, comparison.seeds.front(), nullptr, nullptr);
  if (!is_checked(recipe)) return;
  check_memory(command, model::config_of(model::find_model(recipe.model)), comparison, available_memory_gib());
}

}  // namespace backburn::run
