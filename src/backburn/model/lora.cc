#include "backburn/model/lora.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "backburn/base/error.h"
#include "backburn/base/rng.h"
#include "backburn/model/packed.h"
#include "backburn/model/quantized_weights.h"

namespace backburn::model {

namespace {

std::string name_of(const LinearLayer& linear) { return linear.module.substr(linear.module.rfind('.') + 1); }

bool takes_all(const LoraConfig& lora) { return lora.target_modules == std::vector<std::string>{"all-linear"}; }

// calls visit(weight, pair) for every pair of the adapter.
template <class Visit>
void each_pair(Weights& weights, Adapter& adapter, const Visit& visit) {
  for (size_t layer = 0; layer < weights.layers.size(); ++layer) {
    const auto linear = linear_weights(weights.layers[layer], weights.layers[layer].qkv.defined());
    for (size_t target = 0; target < linear.size(); ++target) {
      LoraPair& pair = adapter.layers[layer][target];
      if (pair.a.defined()) visit(*linear[target], pair);
    }
  }
}

// W + scale · b · a, f32.
at::Tensor sum_of(const at::Tensor& weight, const LoraPair& pair, double scale) {
  const auto device = weight.device();
  return weight.to(at::kFloat).addmm(pair.b.to(device), pair.a.to(device), 1.0, scale);
}

}  // namespace

std::vector<std::string> target_names(const ModelConfig& config) {
  std::vector<std::string> names;
  for (size_t layer = 0; layer < static_cast<size_t>(config.num_hidden_layers); ++layer) {
    for (const LinearLayer& linear : linear_layers(config, layer)) {
      const auto name = name_of(linear);
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

void check_lora(const LoraConfig& lora, const ModelConfig& config) {
  if (lora.use_dora && config.mixture.num_experts > 0) {
    fail_usage("use_dora is not computed for models with experts ({}); leave it false", config.architecture);
  }
  const auto known = target_names(config);
  if (lora.target_modules.empty()) {
    fail_usage("target_modules is empty; give all-linear or some of {}", fmt::join(known, ", "));
  }
  if (takes_all(lora)) return;
  for (const auto& name : lora.target_modules) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    fail_usage("target_modules: a {} model has no linear layers called \"{}\"; give all-linear or some of {}",
               config.architecture, name, fmt::join(known, ", "));
  }
}

bool is_target(const LoraConfig& lora, const LinearLayer& linear) {
  const auto& names = lora.target_modules;
  return takes_all(lora) || std::find(names.begin(), names.end(), name_of(linear)) != names.end();
}

double Adapter::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (use_rslora ? std::sqrt(r) : r);
}

std::vector<at::Tensor> parameters_of(const std::vector<LoraPair>& layer) {
  std::vector<at::Tensor> list;
  for (const LoraPair& pair : layer) {
    for (const at::Tensor& each : {pair.a, pair.b, pair.magnitude}) {
      if (each.defined()) list.push_back(each);
    }
  }
  return list;
}

std::vector<at::Tensor> Adapter::parameters() const {
  std::vector<at::Tensor> list;
  for (const auto& layer : layers) {
    for (const at::Tensor& each : parameters_of(layer)) list.push_back(each);
  }
  return list;
}

at::Tensor row_ratio(const at::Tensor& weight, const LoraPair& pair, double scale) {
  at::Tensor lengths;
  {
    const at::NoGradGuard no_grad;
    lengths = sum_of(weight, pair, scale).norm(2, 1);
  }
  return pair.magnitude.to(lengths.device()) / lengths;
}

at::Tensor updated(const at::Tensor& weight, const LoraPair& pair, double scale) {
  const at::NoGradGuard no_grad;
  auto wide = sum_of(weight, pair, scale);
  if (pair.magnitude.defined()) wide.mul_(row_ratio(weight, pair, scale).unsqueeze(1));
  return wide.to(weight.scalar_type());
}

Adapter frozen(const Adapter& adapter, const ModelConfig& config, const Weights& weights) {
  const at::NoGradGuard no_grad;
  const auto options = weights.embedding.options();
  Adapter result = adapter;
  Weights base = weights;
  each_pair(base, result, [&](const at::Tensor& weight, LoraPair& pair) {
    const auto ratio = pair.magnitude.defined() ? row_ratio(weight, pair, adapter.scale()).to(options) : at::Tensor();
    pair = {pair.a.detach().to(options), pair.b.detach().to(options), pair.magnitude, ratio};
  });
  if (weights.packed && !adapter.use_dora) {
    result.packed = std::make_shared<PackedAdapter>(pack_adapter(adapter, config, false));
  }
  return result;
}

Adapter make_adapter(const ModelConfig& config, const LoraConfig& lora, uint64_t seed, at::Device device) {
  check_lora(lora, config);
  Adapter adapter{lora.r, lora.lora_alpha, {}, nullptr, lora.use_rslora, lora.use_dora};
  adapter.layers.resize(config.num_hidden_layers);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto linear = linear_layers(config, layer);
    for (size_t target = 0; target < linear.size(); ++target) {
      LoraPair& pair = adapter.layers[layer].emplace_back();
      if (!is_target(lora, linear[target])) continue;
      const auto [out, in] = std::pair(linear[target].out, linear[target].in);
      pair.a = at::empty({lora.r, in}, at::kFloat);
      const uint64_t stream = stream_of({static_cast<uint64_t>(layer), target});
      const float bound = 1.0F / std::sqrt(static_cast<float>(in));
      float* values = pair.a.data_ptr<float>();
      for (int64_t i = 0; i < pair.a.numel(); ++i) {
        values[i] = (2.0F * uniform(seed, stream, static_cast<uint64_t>(i)) - 1.0F) * bound;
      }
      pair.a = pair.a.to(device).requires_grad_(true);
      pair.b = at::zeros({out, lora.r}, at::TensorOptions(at::kFloat).device(device)).requires_grad_(true);
    }
  }
  return adapter;
}

void add_magnitudes(Adapter& adapter, const Weights& weights) {
  Weights base = weights;
  each_pair(base, adapter, [](const at::Tensor& weight, LoraPair& pair) {
    pair.magnitude = weight.detach().to(at::kFloat).norm(2, 1).requires_grad_(true);
  });
}

Weights merge(const Weights& weights, const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  refuse_quantized(weights, "merging an adapter into the weights in memory");
  Weights merged = weights;
  merged.packed.reset();
  Adapter same = adapter;
  each_pair(merged, same,
            [&](at::Tensor& weight, const LoraPair& pair) { weight = updated(weight, pair, adapter.scale()); });
  return merged;
}

}  // namespace backburn::model
