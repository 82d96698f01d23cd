#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backburn/model/weights.h"

namespace backburn::model {

/// What an adapter changes and how, in the names of PEFT's LoraConfig.
struct LoraConfig {
  int64_t r = 16;                                            ///< rank
  double lora_alpha = 32;                                    ///< the update is scaled by lora_alpha / r
  std::vector<std::string> target_modules = {"all-linear"};  ///< kinds of linear layers ("q_proj"), or all of them
  bool use_rslora = false;  ///< scaled by lora_alpha / √r (Kalajdzievski 2023, arXiv 2312.03732)
  bool use_dora = false;    ///< see LoraPair::magnitude
};

/// The kinds of linear layers that a model of this config has, as target_modules names them.
std::vector<std::string> target_names(const ModelConfig& config);

/// Errors (usage), in one sentence: target_modules names a kind that the model has not, or none; DoRA for a model with
/// experts.
void check_lora(const LoraConfig& lora, const ModelConfig& config);

/// Whether such an adapter changes this linear layer.
bool is_target(const LoraConfig& lora, const LinearLayer& linear);

/// A low-rank update of one linear layer: W' = W + scale · b · a (Hu 2021, arXiv 2106.09685). With a magnitude (DoRA,
/// Liu 2024, arXiv 2402.09353) each row i of W' is brought to the length magnitude[i]; no gradient runs through the
/// length that it had (ibid., section 4.3).
struct LoraPair {
  at::Tensor a = {};          ///< [rank, in], f32; undefined: the layer is as it was
  at::Tensor b = {};          ///< [out, rank], f32
  at::Tensor magnitude = {};  ///< [out], f32; undefined: LoRA
  at::Tensor ratio = {};      ///< [out]: magnitude / length, filled in by `frozen`; undefined: to be computed
};

/// What is trained of one decoder layer's pairs, in their order: a, b and magnitude of each, where it has them.
std::vector<at::Tensor> parameters_of(const std::vector<LoraPair>& layer);

struct PackedAdapter;

/// An adapter over linear layers of every decoder layer; embeddings, head and routers stay frozen. Parameters are f32
/// whatever the model computes in, so that small steps are not rounded away.
struct Adapter {
  int64_t rank = 16;
  double alpha = 32.0;
  std::vector<std::vector<LoraPair>> layers;    ///< by decoder layer, then as linear_layers lists them
  std::shared_ptr<const PackedAdapter> packed;  ///< see packed.h; null for an adapter that is being trained
  bool use_rslora = false, use_dora = false;    ///< see LoraConfig

  double scale() const;
  /// Those of all layers.
  std::vector<at::Tensor> parameters() const;
};

/// A fresh adapter as PEFT initialises it: a uniform in ±1/√in (kaiming_uniform with a = √5), b zero, so that the
/// model starts unchanged. Same seed, same bits, whatever the device. Errors: those of check_lora.
Adapter make_adapter(const ModelConfig& config, const LoraConfig& lora, uint64_t seed, at::Device device = at::kCPU);

/// Gives a fresh adapter DoRA's magnitudes: the lengths that the weights' rows have.
void add_magnitudes(Adapter& adapter, const Weights& weights);

/// The adapter in the dtype and on the device of the weights, without gradients: what generation reads, made once
/// instead of at every token. Also packed, where the weights are.
Adapter frozen(const Adapter& adapter, const ModelConfig& config, const Weights& weights);

/// DoRA's factor of each row of x · (W + scale · b · a)ᵀ, [out] f32: its magnitude over its length. Differentiable in
/// the magnitude alone.
at::Tensor row_ratio(const at::Tensor& weight, const LoraPair& pair, double scale);

/// The weight as the pair changes it (LoraPair), computed in f32, rounded once to its dtype. Without gradient.
at::Tensor updated(const at::Tensor& weight, const LoraPair& pair, double scale);

/// A copy of `weights` with the adapter folded in: W' computed in f32, rounded once to W's dtype.
/// Tensors that the adapter does not touch are shared, not copied.
Weights merge(const Weights& weights, const Adapter& adapter);

}  // namespace backburn::model
