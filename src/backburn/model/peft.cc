#include "backburn/model/peft.h"

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

namespace backburn::model {
namespace {

constexpr const char* config_name = "adapter_config.json";
constexpr const char* weights_name = "adapter_model.safetensors";

// PEFT's names of a layer's linear layers, up to ".lora_A.weight".
std::vector<std::string> module_names(const ModelConfig& config, size_t layer) {
  std::vector<std::string> names;
  for (const LinearLayer& each : linear_layers(config, layer)) {
    names.push_back(fmt::format("base_model.model.model.layers.{}.{}", layer, each.module));
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
  for (const char* key :
       {"modules_to_save", "bias", "rank_pattern", "alpha_pattern", "layer_replication", "fan_in_fan_out",
        "trainable_token_indices", "target_parameters", "lora_bias", "use_qalora", "use_bdlora", "arrow_config",
        "alora_invocation_tokens", "megatron_config", "exclude_modules"}) {
    auto found = json.find(key);
    if (found != json.end() && !is_off(*found)) {
      fail("{}: \"{}\": {} is not supported (supported: LoRA, rsLoRA and DoRA on linear layers, no trained biases)",
           origin, key, found->dump().substr(0, 60));
    }
  }
}

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
  auto number = [&](const char* key, double limit) {
    auto found = json.find(key);
    if (found == json.end() || !found->is_number()) fail("{}: key \"{}\" must be a number", origin, key);
    const double value = found->get<double>();
    if (!(value > 0) || value > limit) fail("{}: {} is {}, expected above 0 and at most {}", origin, key, value, limit);
    return value;
  };
  Adapter adapter;
  const double rank = number("r", 65536);
  if (rank != std::floor(rank)) fail("{}: r is {}, expected a whole number", origin, rank);
  adapter.rank = static_cast<int64_t>(rank);
  adapter.alpha = number("lora_alpha", 1e9);
  adapter.use_rslora = json.contains("use_rslora") && json["use_rslora"] == true;
  adapter.use_dora = json.contains("use_dora") && json["use_dora"] == true;
  if (adapter.use_dora && config.mixture.num_experts > 0) {
    fail("{}: \"use_dora\": true is not supported for models with experts", origin);
  }

  const Safetensors stored = Safetensors::open(folder / weights_name);
  const auto kinds = adapted_kinds(stored);
  std::set<std::string> known;
  size_t found = 0;
  for (size_t layer = 0; layer < static_cast<size_t>(config.num_hidden_layers); ++layer) {
    auto& pairs = adapter.layers.emplace_back();
    const auto linear = linear_layers(config, layer);
    const auto names = module_names(config, layer);
    for (size_t i = 0; i < names.size(); ++i) {
      const std::string a = names[i] + ".lora_A.weight";
      const std::string b = names[i] + ".lora_B.weight";
      const std::array<int64_t, 2> a_shape = {adapter.rank, linear[i].in};
      const std::array<int64_t, 2> b_shape = {linear[i].out, adapter.rank};
      const std::string magnitude = names[i] + ".lora_magnitude_vector";
      known.insert({a, b});
      if (adapter.use_dora) known.insert(magnitude);
      LoraPair& pair = pairs.emplace_back();
      const bool is_stored = stored.contains(a) || stored.contains(b);
      if (!is_stored && !kinds.contains(kind_of(names[i]))) continue;
      if (!is_stored && !adapter.use_dora) {
        pair = {at::zeros(a_shape, at::kFloat), at::zeros(b_shape, at::kFloat)};
        continue;
      }
      ++found;
      // Cloned: parameters are trained in place, the mapping is read-only.
      pair.a = stored.tensor(a, a_shape, at::kFloat).clone();
      pair.b = stored.tensor(b, b_shape, at::kFloat).clone();
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
