#pragma once

#include <filesystem>
#include <string>

#include "backburn/model/lora.h"

namespace backburn::model {

/// Writes the adapter as PEFT does (adapter_config.json, adapter_model.safetensors in f32), so that
/// `PeftModel.from_pretrained(base, folder)` loads it: r, lora_alpha, use_rslora, use_dora, and as target_modules the
/// kinds of layers that it changes. `base_model` is recorded as base_model_name_or_path.
/// The folder appears whole or not at all; an older one of the same kind is replaced.
void save_adapter(const Adapter& adapter, const ModelConfig& config, const std::filesystem::path& folder,
                  const std::string& base_model);

/// Reads a PEFT LoRA adapter (rsLoRA and DoRA too) for a model of this config. Kinds of linear layers that the adapter
/// leaves out stay without an update; so does a layer whose like it has elsewhere (layers_to_transform), by a zero one.
/// Ranks and alphas of some layers (rank_pattern, alpha_pattern) come as an adapter of the largest rank and of r's and
/// lora_alpha's scale that changes the model as much: pairs of a lower rank are filled up by zeros, and B holds the
/// ratio of scales. An Error for what is not computed here (modules_to_save, trained biases, DoRA with experts, other
/// adapter kinds), and for a tensor that is missing, misshapen or unknown.
Adapter load_adapter(const std::filesystem::path& folder, const ModelConfig& config);

}  // namespace backburn::model
