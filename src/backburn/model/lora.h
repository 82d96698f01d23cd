#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "backburn/model/weights.h"

namespace backburn::model {

/// A low-rank update of one linear layer: W' = W + scale · b · a (Hu 2021, arXiv 2106.09685).
struct LoraPair {
  at::Tensor a;  ///< [rank, in], f32
  at::Tensor b;  ///< [out, rank], f32
};

struct PackedAdapter;

/// A LoRA adapter over all linear layers of every decoder layer; embeddings, head and routers stay frozen. Parameters
/// are f32 whatever the model computes in, so that small steps are not rounded away.
struct Adapter {
  int64_t rank = 16;
  double alpha = 32.0;
  std::vector<std::vector<LoraPair>> layers;    ///< by decoder layer, then as linear_layers lists them
  std::shared_ptr<const PackedAdapter> packed;  ///< see packed.h; null for an adapter that is being trained

  double scale() const { return alpha / static_cast<double>(rank); }
  /// All a's and b's in a fixed order (layer by layer, as linear_layers lists them, a before b).
  std::vector<at::Tensor> parameters() const;
};

/// A fresh adapter as PEFT initialises it: a uniform in ±1/√in (kaiming_uniform with a = √5), b zero, so that the
/// model starts unchanged. Same seed, same bits, whatever the device.
Adapter make_adapter(const ModelConfig& config, int64_t rank, double alpha, uint64_t seed,
                     at::Device device = at::kCPU);

/// The adapter in another dtype (and on another device), without gradients: what generation reads, made once instead of
/// at every token. Also packed when `with_packed`.
Adapter frozen(const Adapter& adapter, const at::TensorOptions& options, bool with_packed);

/// A copy of `weights` with the adapter folded in: W + scale · b · a computed in f32, rounded once to W's dtype.
/// Tensors that the adapter does not touch are shared, not copied.
Weights merge(const Weights& weights, const Adapter& adapter);

}  // namespace backburn::model
