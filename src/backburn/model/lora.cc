#include "backburn/model/lora.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <stdexcept>

#include "backburn/base/rng.h"
#include "backburn/model/packed.h"
#include "backburn/model/quantized_weights.h"

namespace backburn::model {

std::vector<at::Tensor> Adapter::parameters() const {
  std::vector<at::Tensor> list;
  for (const auto& layer : layers) {
    for (const LoraPair& pair : layer) {
      list.push_back(pair.a);
      list.push_back(pair.b);
    }
  }
  return list;
}

Adapter frozen(const Adapter& adapter, const at::TensorOptions& options, bool with_packed) {
  Adapter result = adapter;
  for (auto& layer : result.layers) {
    for (LoraPair& pair : layer) pair = {pair.a.detach().to(options), pair.b.detach().to(options)};
  }
  if (with_packed) result.packed = std::make_shared<PackedAdapter>(pack_adapter(adapter, false));
  return result;
}

Adapter make_adapter(const ModelConfig& config, int64_t rank, double alpha, uint64_t seed, at::Device device) {
  Adapter adapter{rank, alpha, {}, nullptr};
  adapter.layers.resize(config.num_hidden_layers);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto linear = linear_layers(config, layer);
    for (size_t target = 0; target < linear.size(); ++target) {
      const auto [out, in] = std::pair(linear[target].out, linear[target].in);
      at::Tensor a = at::empty({rank, in}, at::kFloat);
      const uint64_t stream = stream_of({static_cast<uint64_t>(layer), target});
      const float bound = 1.0F / std::sqrt(static_cast<float>(in));
      float* values = a.data_ptr<float>();
      for (int64_t i = 0; i < a.numel(); ++i) {
        values[i] = (2.0F * uniform(seed, stream, static_cast<uint64_t>(i)) - 1.0F) * bound;
      }
      const at::Tensor b = at::zeros({out, rank}, at::TensorOptions(at::kFloat).device(device));
      adapter.layers[layer].push_back({a.to(device).requires_grad_(true), b.requires_grad_(true)});
    }
  }
  return adapter;
}

Weights merge(const Weights& weights, const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  refuse_quantized(weights, "merging an adapter into the weights in memory");
  Weights merged = weights;
  merged.packed.reset();
  for (size_t layer = 0; layer < merged.layers.size(); ++layer) {
    LayerWeights& weights_of_layer = merged.layers[layer];
    const auto linear = linear_weights(weights_of_layer, weights_of_layer.qkv.defined());
    for (size_t target = 0; target < linear.size(); ++target) {
      *linear[target] = updated(*linear[target], adapter.layers[layer][target], adapter.scale());
    }
  }
  return merged;
}

}  // namespace backburn::model
