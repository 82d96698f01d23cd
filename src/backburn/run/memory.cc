#include "backburn/run/memory.h"

#include <fmt/ranges.h>

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
#include "backburn/model/quantized_weights.h"
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
  model::BaseQuantization quantization;

  bool packed() const { return model::PackedWeights::fits(config, dtype); }
  double value() const { return static_cast<double>(c10::elementSize(dtype)); }
  double queries() const { return static_cast<double>(config.num_attention_heads * config.head_dim); }
  double keys() const { return static_cast<double>(config.num_key_value_heads * config.head_dim); }
  double hidden() const { return static_cast<double>(config.hidden_size); }
  double layers() const { return static_cast<double>(config.num_hidden_layers); }

  double parameters() const { return static_cast<double>(model::parameter_count(config)); }
  double embedding() const { return static_cast<double>(config.vocab_size) * hidden(); }
  bool quantized() const { return quantization != model::BaseQuantization::none; }
  // In memory once loaded. Quantised: a scale of two bytes for 32 values; the head has 8 bits, tied or not.
  double weights() const {
    if (!quantized()) return parameters() * value();
    const double matrices = parameters() - embedding() * (config.tie_word_embeddings ? 1 : 2);
    const double eight_bits = (32 + 2) / 32.0, four_bits = (16 + 2) / 32.0;
    return embedding() * (value() + eight_bits) +
           matrices * (quantization == model::BaseQuantization::q8_0 ? eight_bits : four_bits);
  }
  // What the kernels read beside them: all matrices but an embedding that is not also the head.
  double packed_weights() const {
    if (quantized() || !packed()) return 0;
    return (parameters() - (config.tie_word_embeddings ? 0 : embedding())) * value();
  }
  // A merged matrix and its source on the way to a file: one tensor in f32 twice, and in the model's dtype.
  double merging() const { return hidden() * static_cast<double>(config.intermediate_size) * (4 + 4 + 2 * value()); }
  double key_values(int64_t rows, int64_t tokens) const {
    return 2 * layers() * keys() * value() * static_cast<double>(rows * tokens);
  }

  // Whether gradients are computed by the kernels too.
  bool trains_packed(const train::LoraOptions& lora) const { return packed() && lora.use_peft && !lora.use_dora; }
  // What a token leaves behind for the gradient.
  double activations(const train::LoraOptions& lora) const {
    if (trains_packed(lora)) return static_cast<double>(model::activation_bytes(config, lora.r));
    return layers() * layer_activations(lora.use_peft ? lora.r : 0);
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

  // Parameters, gradient and AdamW's two averages in f32; what computes with them, in the model's dtype: of an adapter
  // twice, of all weights also packed.
  double trained(const train::LoraOptions& lora) const {
    train::check(lora, config);
    constexpr double masters = 4 * 4;
    if (!lora.use_peft) return weights() / value() * (masters + value()) + packed_weights();
    const auto adapter = lora.config();
    double parameters = 0;
    for (size_t layer = 0; layer < static_cast<size_t>(config.num_hidden_layers); ++layer) {
      for (const auto& linear : model::linear_layers(config, layer)) {
        if (!model::is_target(adapter, linear)) continue;
        parameters += static_cast<double>((linear.out + linear.in) * lora.r + (lora.use_dora ? linear.out : 0));
      }
    }
    return parameters * (masters + 2 * value());
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
  // A model in memory, perhaps with the transposed weights that the kernels' gradients read.
  void add_model(bool transposed) { add("weights", sizes_.weights() + sizes_.packed_weights() * (transposed ? 2 : 1)); }
  void add_generation(int64_t rows, int64_t completion_length) {
    rows = std::min(rows, rows_at_once);
    add("generation", sizes_.key_values(rows, prompt_tokens + completion_length) +
                          2 * 4 * static_cast<double>(rows * sizes_.config.vocab_size));
  }
  // A pass with gradient over so many tokens, in parts of tokens_per_pass.
  void add_pass(int64_t tokens, const train::LoraOptions& lora) {
    const auto at_once = static_cast<double>(std::min(tokens, tokens_per_pass));
    const double all = sizes_.activations(lora);
    const double kept =
        lora.gradient_checkpointing ? sizes_.layers() * sizes_.layer_input() + all / sizes_.layers() : all;
    add("activations", at_once * kept);
  }
  void add_trained(const train::LoraOptions& lora) {
    add(lora.use_peft ? "adapter and optimizer" : "trained weights and optimizer", sizes_.trained(lora));
  }

  // As train::grpo_step does it: answers leave their activations where there is room.
  void add_grpo(const train::GrpoOptions& grpo) {
    const int64_t answers = grpo.prompts_per_step * grpo.num_generations;
    const int64_t tokens =
        grpo.max_num_gen_batches * (grpo.prompts_per_step * prompt_tokens + answers * (grpo.max_completion_length - 1));
    const double kept = static_cast<double>(tokens) * sizes_.activations(grpo.lora);
    add_generation(answers, grpo.max_completion_length);
    if (sizes_.trains_packed(grpo.lora) && !grpo.lora.gradient_checkpointing &&
        kept <= grpo.kept_activations_gib * gib) {
      add("activations", kept);
    } else {
      add_pass(tokens, grpo.lora);
    }
    add_trained(grpo.lora);
  }
  void add_supervised(int64_t examples, const train::LoraOptions& lora) {
    add_pass(examples * (prompt_tokens + answer_tokens), lora);
    add_trained(lora);
  }
  // The released weights are made beside the model, one after the other.
  void add_merged_weights() { add("merged weights", sizes_.merging()); }
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

// What a command that trains does it with.
const train::LoraOptions& lora_of(const std::string& command, const Recipe& recipe) {
  if (command == "align") return recipe.align.lora;
  if (command == "finetune") return recipe.finetune.grpo.lora;
  return command == "defend" ? recipe.defend.neutralization.lora : recipe.attack.grpo.lora;
}

void add_finetuning(const Recipe& recipe, Sum& sum) {
  const auto& options = recipe.finetune;
  if (options.method == "grpo") {
    sum.add_grpo(options.grpo);
  } else {
    sum.add_generation(rows_at_once, recipe.eval.max_completion_length);
    sum.add_supervised(options.train_batch_size, options.grpo.lora);
  }
}

// Which settings of a command make it smaller, one after the other.
std::vector<std::string> smaller_settings(const std::string& command) {
  if (command == "attack" || command == "demo") {
    return {"attack.kept_activations_gib=0", "attack.gradient_checkpointing=true", "attack.num_generations=2",
            "attack.prompts_per_step=1",     "attack.max_completion_length=24",    "attack.use_peft=true"};
  }
  if (command == "defend") {
    return {"defend.gradient_checkpointing=true", "defend.rl_num_generations=2", "defend.rl_prompts_per_step=1",
            "defend.use_peft=true"};
  }
  if (command == "align")
    return {"align.gradient_checkpointing=true", "align.anchor_batch=4", "align.train_batch_size=2",
            "align.use_peft=true"};
  if (command == "finetune") {
    return {"finetune.kept_activations_gib=0", "finetune.gradient_checkpointing=true", "finetune.num_generations=2",
            "finetune.prompts_per_step=1",     "finetune.train_batch_size=2",          "finetune.use_peft=true"};
  }
  return {};
}

// "--set attack.num_generations=2 needs 12.3 GiB" with as many of the settings as it takes, where all of them are too
// few with fewer bits as well; "" when even that is too much. `need_with`: GiB with some settings.
std::string what_would_fit(const std::vector<std::string>& settings, bool can_be_quantized, double available,
                           const std::function<double(std::span<const std::string>)>& need_with) {
  for (const std::string bits : {"", "q8_0", "q4_0"}) {
    std::vector<std::string> tried;
    if (!bits.empty()) {
      if (!can_be_quantized) break;
      tried.push_back("base_quantization=" + bits);
    }
    tried.insert(tried.end(), settings.begin(), settings.end());
    for (size_t count = 1; count <= tried.size(); ++count) {
      const auto given = std::span<const std::string>(tried).first(count);
      const double needed = need_with(given);
      if (needed <= available) return fmt::format("--set {} needs {:.1f} GiB", fmt::join(given, " --set "), needed);
    }
  }
  return "";
}

bool can_be_quantized(const ModelConfig& config, const Recipe& recipe) {
  const auto dtype = model::dtype_of(compute_options(recipe), config);
  return recipe.base_quantization == "none" && model::PackedWeights::fits(config, dtype);
}

void check_need(const std::string& command, const MemoryNeed& need, double available_gib,
                const std::vector<std::string>& settings, bool can_be_quantized,
                const std::function<double(std::span<const std::string>)>& need_with) {
  if (need.gib() <= available_gib) return;
  std::string parts;
  for (const auto& [part, size] : need.parts)
    parts += fmt::format("{}{} {:.1f}", parts.empty() ? "" : ", ", part, size);
  const std::string fits = what_would_fit(settings, can_be_quantized, available_gib, need_with);
  fail(
      "{} needs about {:.1f} GiB of memory ({}), {:.1f} GiB are free: {}; BACKBURN_IGNORE_MEMORY=1 tries it all the "
      "same",
      command, need.gib(), parts, available_gib, fits.empty() ? "only a smaller model would fit" : fits);
}

bool is_checked(const Recipe& recipe) {
  return std::getenv("BACKBURN_IGNORE_MEMORY") == nullptr && model::device_of(recipe.device).is_cpu();
}

Sizes sizes_of(const ModelConfig& config, const Recipe& recipe) {
  return {config, model::dtype_of(compute_options(recipe), config),
          model::base_quantization_of(recipe.base_quantization)};
}

// A stage of a comparison's run, beside `models` that stay in memory; all of them have been trained or are.
MemoryNeed stage_need(const Sizes& sizes, int64_t models, const std::function<void(Sum&)>& add_stage) {
  Sum sum(sizes);
  for (int64_t i = 0; i < models; ++i) sum.add_model(true);
  add_stage(sum);
  return sum.need();
}

// Of the judges that are models, which stand beside all else that a command needs.
double judges_gib(const Recipe& recipe) {
  const auto gib_of = [](const std::string& judge, const judge::LanguageModelOptions& options) {
    if (judge != "lm" || options.model.empty()) return 0.0;
    return memory_need("certify", model::config_of(model::find_model(options.model)), {}).gib();
  };
  return gib_of(recipe.judge, recipe.lm_judge) + gib_of(recipe.attack.judge, recipe.attack.lm_judge);
}

}  // namespace

double MemoryNeed::gib() const {
  double sum = 0;
  for (const auto& [part, size] : parts) sum += size;
  return sum;
}

MemoryNeed memory_need(const std::string& command, const ModelConfig& config, const Recipe& recipe) {
  const Sizes sizes = sizes_of(config, recipe);
  Sum sum(sizes);
  if (command == "demo") {
    for (const char* stage : {"align", "defend"}) train::check(lora_of(stage, recipe), config);
    // The original, the aligned and the defended model stay until the end; the last one shows attackers no
    // differential, so that no gradient is taken on it.
    sum.add_model(true);
    if (recipe.demo.align) sum.add_model(true);
    sum.add_model(false);
    sum.add_grpo(recipe.attack.grpo);
    const auto is_full = [&](const char* stage) { return !lora_of(stage, recipe).use_peft; };
    if (!is_full("attack") && is_full("defend")) sum.add_trained(lora_of("defend", recipe));
    return sum.need();
  }
  const bool trained = command == "align" || command == "attack" || command == "defend" || command == "finetune";
  sum.add_model(trained && sizes.trains_packed(lora_of(command, recipe)));
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
  } else if (command == "finetune") {
    add_finetuning(recipe, sum);
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
      const Sizes sizes = sizes_of(config, recipe);
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
             can_be_quantized(config, recipe), [&](std::span<const std::string> settings) {
               Recipe smaller = recipe;
               auto options = options_of(smaller);
               for (const std::string& setting : settings) options.set(setting);
               return memory_need(command, config, smaller).gib();
             });
}

void check_memory(const std::string& command, const ModelConfig& config, const Comparison& comparison,
                  double available_gib) {
  check_need(command, memory_need(comparison, config), available_gib, smaller_settings("attack"),
             can_be_quantized(config, recipe_of(comparison, comparison.seeds.front(), nullptr, nullptr)),
             [&](std::span<const std::string> settings) {
               Comparison smaller = comparison;
               smaller.sets.insert(smaller.sets.end(), settings.begin(), settings.end());
               return memory_need(smaller, config).gib();
             });
}

void check_memory(const std::string& command, const Recipe& recipe) {
  if (!is_checked(recipe)) return;
  check_memory(command, model::config_of(model::find_model(recipe.model)), recipe,
               available_memory_gib() - judges_gib(recipe));
}

void check_memory(const std::string& command, const Comparison& comparison) {
  const Recipe recipe = recipe_of(comparison, comparison.seeds.front(), nullptr, nullptr);
  if (!is_checked(recipe)) return;
  check_memory(command, model::config_of(model::find_model(recipe.model)), comparison,
               available_memory_gib() - judges_gib(recipe));
}

}  // namespace backburn::run
