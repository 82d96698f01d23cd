#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backburn/model/config.h"
#include "backburn/model/transformer.h"
#include "backburn/model/weights.h"
#include "backburn/text/chat_template.h"
#include "backburn/text/tokenizer.h"

namespace backburn::model {

/// A language model in memory. The weights are frozen: tensors may view a read-only file mapping, which they
/// keep alive.
struct Model {
  ModelConfig config;
  Weights weights;
  text::Tokenizer tokenizer;
  text::ChatTemplate chat_template;
  std::string name;  ///< shown to people

  /// What computes. A view: this model (which must not move) and the adapter must outlive it.
  Network network(const Adapter* adapter = nullptr) const { return {&config, &weights, adapter}; }
};

/// Loads a .gguf file, a Hugging Face folder, or a model of pull.h's table by name (out of the cache; an
/// Error says how to fetch it when it is not there). `compute`: the dtype that the model computes in, at::kBFloat16 or
/// at::kFloat (none: default_dtype), and the device. Weights are converted tensor by tensor, without a second copy of
/// the model. Errors: whatever the file's reader finds, a tensor missing, of the wrong shape or with a NaN or infinity
/// (named), a tokenizer that does not fit the embedding.
Model load_model(const std::string& path_or_name, const at::TensorOptions& compute);

/// Where to compute: cpu, cuda, or auto, which is cuda where LibTorch finds such a device. Errors: cuda where it finds
/// none, another name (usage).
at::Device device_of(const std::string& name);

/// bf16 where LibTorch multiplies it at the machine's speed (has_bf16_products) and where the kernels compute this
/// model (PackedWeights::fits); otherwise f32.
at::ScalarType default_dtype(const ModelConfig& config, at::Device device = at::kCPU);

/// The dtype that load_model takes: that of `compute`, if it has one.
at::ScalarType dtype_of(const at::TensorOptions& compute, const ModelConfig& config);

/// The token ids of a conversation in the model's own chat template, ready for generation.
std::vector<int32_t> chat_prompt(const Model& model, std::span<const text::Message> messages,
                                 bool add_generation_prompt = true);

/// A single question. With an empty `system` there is no system message: the template's default applies.
std::vector<int32_t> chat_prompt(const Model& model, const std::string& user, const std::string& system = "");

}  // namespace backburn::model
