#include "backburn/model/peft.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"
#include "backburn/model/safetensors.h"
#include "backburn/model/staged_folder.h"
#include "backburn/text/regex.h"

namespace backburn::model {
namespace {

constexpr const char* config_name = "adapter_config.json";
constexpr const char* weights_name = "adapter_model.safetensors";

constexpr std::string_view peft_prefix = "base_model.model.";

// PEFT's names of a layer's linear layers, up to ".lora_A.weight".
std::vector<std::string> module_names(const ModelConfig& config, size_t layer) {
  std::vector<std::string> names;
  for (const LinearLayer& each : linear_layers(config, layer)) {
    names.push_back(fmt::format("{}model.layers.{}.{}", peft_prefix, layer, each.module));
  }
  return names;
}

// The last part of a module's name, as `target_modules` lists it.
std::string kind_of(const std::string& module) { return module.substr(module.rfind('.') + 1); }

// The kinds of modules that a file has low-rank factors of.
std::set<std::string> adapted_kinds(const Safetensors& stored) {
  std::set<std::string> kinds;
  for (const auto& [name, entry] : stored.entries()) {
    const auto end = name.find(".lora_");
    if (end != std::string::npos) kinds.insert(kind_of(name.substr(0, end)));
  }
  return kinds;
}

// Whether a setting is as if it were not there: null, false, 0, "none" or empty.
bool is_off(const Json& value) {
  return value.is_null() || value == false || value == "none" || value == 0 ||
         ((value.is_array() || value.is_object() || value.is_string()) && value.empty());
}

void refuse_uncomputed(const Json& json, const std::string& origin) {
  for (const char* key : {"modules_to_save", "bias", "layer_replication", "fan_in_fan_out", "trainable_token_indices",
                          "target_parameters", "lora_bias", "use_qalora", "use_bdlora", "arrow_config",
                          "alora_invocation_tokens", "megatron_config", "exclude_modules"}) {
    auto found = json.find(key);
    if (found != json.end() && !is_off(*found)) {
      fail("{}: \"{}\": {} is not supported (supported: LoRA, rsLoRA and DoRA on linear layers, no trained biases)",
           origin, key, found->dump().substr(0, 60));
    }
  }
}

// r and lora_alpha.
constexpr double most_rank = 65536, most_alpha = 1e9;

double checked_number(const Json& value, const std::string& name, double most, bool whole, const std::string& origin) {
  if (!value.is_number()) fail("{}: {} is {}, expected a number", origin, name, value.dump().substr(0, 40));
  const auto number = value.get<double>();
  if (!(number > 0) || number > most || (whole && number != std::floor(number))) {
    fail("{}: {} is {}, expected {} above 0 and at most {}", origin, name, number,
         whole ? "a whole number" : "a number", most);
  }
  return number;
}

// PEFT's rank_pattern or alpha_pattern: numbers of modules that have others than r and lora_alpha.
class Pattern {
 public:
  Pattern(const Json& json, const char* key, double most, bool whole, const std::string& origin) {
    const auto found = json.find(key);
    if (found == json.end() || is_off(*found)) return;
    if (!found->is_object()) fail("{}: key \"{}\" must be a map from module names to numbers", origin, key);
    for (const auto& [name, value] : found->items()) {
      const std::string where = fmt::format("{}: {}: \"{}\"", origin, key, name);
      // As get_pattern_key of PEFT matches: whole parts at the end of the name, or all of it.
      numbers_.emplace_back(text::Regex::compile(R"(\A(.*\.)?()" + name + ")$", where),
                            checked_number(value, fmt::format("{}: \"{}\"", key, name), most, whole, origin));
    }
  }

  bool empty() const { return numbers_.empty(); }
  // `module`: "model.layers.0.self_attn.q_proj". The first key that matches counts.
  double of(const std::string& module, double otherwise) const {
    for (const auto& [key, number] : numbers_) {
      if (!key.find_all(module, {{0, module.size()}}).front().empty()) return number;
    }
    return otherwise;
  }

 private:
  std::vector<std::pair<text::Regex, double>> numbers_;
};

double scale_of(double rank, double alpha, bool use_rslora) { return alpha / (use_rslora ? std::sqrt(rank) : rank); }

}  // namespace

void save_adapter(const Adapter& adapter, const ModelConfig& config, const std::filesystem::path& folder,
                  const std::string& base_model) {
  Json json;
  json["peft_type"] = "LORA";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = base_model;
  json["r"] = adapter.rank;
  json["lora_alpha"] = adapter.alpha;
  if (adapter.alpha == std::floor(adapter.alpha) && std::abs(adapter.alpha) < 1e9) {
    json["lora_alpha"] = static_cast<int64_t>(adapter.alpha);
  }
  json["lora_dropout"] = 0.0;
  json["target_modules"] = Json::array();
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["inference_mode"] = true;
  json["init_lora_weights"] = true;
  json["use_rslora"] = adapter.use_rslora;
  json["use_dora"] = adapter.use_dora;
  json["modules_to_save"] = nullptr;
  json["rank_pattern"] = Json::object();
  json["alpha_pattern"] = Json::object();

  if (static_cast<int64_t>(adapter.layers.size()) != config.num_hidden_layers) {
    fail("{}: the adapter has {} layers, the model {}", folder.string(), adapter.layers.size(),
         config.num_hidden_layers);
  }
  std::vector<NamedTensor> tensors;
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    const auto names = module_names(config, layer);
    for (size_t i = 0; i < names.size(); ++i) {
      const LoraPair& pair = adapter.layers[layer].at(i);
      if (!pair.a.defined()) continue;
      tensors.push_back({names[i] + ".lora_A.weight", pair.a});
      tensors.push_back({names[i] + ".lora_B.weight", pair.b});
      if (adapter.use_dora) tensors.push_back({names[i] + ".lora_magnitude_vector", pair.magnitude});
      const std::string kind = kind_of(names[i]);
      auto& targets = json["target_modules"];
      if (std::find(targets.begin(), targets.end(), kind) == targets.end()) targets.emplace_back(kind);
    }
  }
  StagedFolder staged(folder);
  write_file(staged.path() / config_name, json.dump(2) + "\n");
  write_safetensors(staged.path() / weights_name, tensors, at::kFloat);
  staged.commit();
}

Adapter load_adapter(const std::filesystem::path& folder, const ModelConfig& config) {
  const std::string origin = (folder / config_name).string();
  const Json json = read_json_file(folder / config_name);
  if (!json.is_object()) fail("{}: expected a JSON object", origin);
  auto kind = json.find("peft_type");
  if (kind == json.end() || *kind != "LORA") {
    fail("{}: peft_type is {}, expected \"LORA\"", origin, kind == json.end() ? "missing" : kind->dump().substr(0, 40));
  }
  refuse_uncomputed(json, origin);
  const auto number = [&](const char* key, double most, bool whole) {
    const auto found = json.find(key);
    if (found == json.end()) fail("{}: key \"{}\" is missing", origin, key);
    return checked_number(*found, key, most, whole, origin);
  };
  Adapter adapter;
  const double rank = number("r", most_rank, true), alpha = number("lora_alpha", most_alpha, false);
  const Pattern ranks(json, "rank_pattern", most_rank, true, origin);
  const Pattern alphas(json, "alpha_pattern", most_alpha, false, origin);
  adapter.rank = static_cast<int64_t>(rank);
  adapter.alpha = alpha;
  adapter.use_rslora = json.contains("use_rslora") && json["use_rslora"] == true;
  adapter.use_dora = json.contains("use_dora") && json["use_dora"] == true;
  if (adapter.use_dora && config.mixture.num_experts > 0) {
    fail("{}: \"use_dora\": true is not supported for models with experts", origin);
  }

  const Safetensors stored = Safetensors::open(folder / weights_name);
  const auto kinds = adapted_kinds(stored);
  // Adapters here have one rank and one scale: the largest rank, to which pairs are filled up by zeros, and that of r
  // and lora_alpha, to which others are brought by B.
  const auto rank_of = [&](const std::string& module) {
    return ranks.empty() ? adapter.rank : static_cast<int64_t>(ranks.of(module.substr(peft_prefix.size()), rank));
  };
  if (!ranks.empty()) {
    int64_t largest = 1;
    for (size_t layer = 0; layer < static_cast<size_t>(config.num_hidden_layers); ++layer) {
      for (const auto& name : module_names(config, layer)) {
        if (stored.contains(name + ".lora_A.weight")) largest = std::max(largest, rank_of(name));
      }
    }
    adapter.alpha *=
        scale_of(rank, alpha, adapter.use_rslora) / scale_of(static_cast<double>(largest), alpha, adapter.use_rslora);
    adapter.rank = largest;
  }
  const double scale = scale_of(rank, alpha, adapter.use_rslora);

  std::set<std::string> known;
  size_t found = 0;
  for (size_t layer = 0; layer < static_cast<size_t>(config.num_hidden_layers); ++layer) {
    auto& pairs = adapter.layers.emplace_back();
    const auto linear = linear_layers(config, layer);
    const auto names = module_names(config, layer);
    for (size_t i = 0; i < names.size(); ++i) {
      const std::string a = names[i] + ".lora_A.weight";
      const std::string b = names[i] + ".lora_B.weight";
      const int64_t own_rank = rank_of(names[i]);
      const std::array<int64_t, 2> a_shape = {own_rank, linear[i].in};
      const std::array<int64_t, 2> b_shape = {linear[i].out, own_rank};
      const std::string magnitude = names[i] + ".lora_magnitude_vector";
      known.insert({a, b});
      if (adapter.use_dora) known.insert(magnitude);
      LoraPair& pair = pairs.emplace_back();
      const bool is_stored = stored.contains(a) || stored.contains(b);
      if (!is_stored && !kinds.contains(kind_of(names[i]))) continue;
      if (!is_stored && !adapter.use_dora) {
        pair = {at::zeros({adapter.rank, linear[i].in}, at::kFloat),
                at::zeros({linear[i].out, adapter.rank}, at::kFloat)};
        continue;
      }
      ++found;
      // Cloned: parameters are trained in place, the mapping is read-only.
      pair.a = stored.tensor(a, a_shape, at::kFloat).clone();
      pair.b = stored.tensor(b, b_shape, at::kFloat).clone();
      if (!ranks.empty() || !alphas.empty()) {
        const double own_alpha = alphas.of(names[i].substr(peft_prefix.size()), alpha);
        const double ratio = scale_of(static_cast<double>(own_rank), own_alpha, adapter.use_rslora) / scale;
        if (ratio != 1) pair.b.mul_(ratio);
        pair.a = at::constant_pad_nd(pair.a, {0, 0, 0, adapter.rank - own_rank});
        pair.b = at::constant_pad_nd(pair.b, {0, adapter.rank - own_rank});
      }
      if (adapter.use_dora) {
        const std::array<int64_t, 1> rows = {linear[i].out};
        pair.magnitude = stored.tensor(magnitude, rows, at::kFloat).clone();
      }
    }
  }
  for (const auto& [name, entry] : stored.entries()) {
    if (!known.contains(name)) {
      fail("{}: tensor \"{}\" belongs to no linear layer of this model ({} with {} layers)",
           (folder / weights_name).string(), name, config.architecture, config.num_hidden_layers);
    }
  }
  if (found == 0) fail("{}: holds no LoRA tensors", (folder / weights_name).string());
  return adapter;
}

}  // namespace backburn::model
