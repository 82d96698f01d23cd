#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <string>

#include "backburn/base/json.h"
#include "backburn/model/load.h"
#include "backburn/model/packed.h"
#include "backburn/model/safetensors.h"

namespace backburn::model {

inline const std::string tiny_folder = SOURCE_DIR "/tests/model/data/";

/// Without weights. Token 1 begins, 2 ends, the others of 64 are one character each ("A" is token 3).
inline Model letter_model(ModelConfig config, const std::string& name) {
  text::Vocabulary vocabulary{"gpt-2", {"<unk>", "<s>", "</s>"}, {3, 3, 3}, {}};
  for (char letter = 'A'; vocabulary.tokens.size() < 64; ++letter) {
    vocabulary.tokens.emplace_back(1, letter);
    vocabulary.token_types.push_back(1);
  }
  return {std::move(config),
          {},
          text::Tokenizer::from_vocabulary(vocabulary, name),
          text::ChatTemplate::parse("{{ bos_token }}{{ messages[0]['content'] }}", name),
          name};
}

/// "tiny_llama" or "tiny_qwen2" of tools/make_model_goldens.py: two layers, random weights.
inline Model tiny_model(const std::string& name, at::ScalarType dtype = at::kFloat) {
  const std::string config = tiny_folder + name + "/config.json";
  Model model = letter_model(config_from_hugging_face(read_json_file(config), config), name);
  const auto stored = Safetensors::open_folder(tiny_folder + name);
  for (const NamedWeight& wanted : named_weights(model.config, model.weights)) {
    *wanted.tensor = stored.tensor(wanted.name, wanted.shape, dtype);
  }
  if (model.config.tie_word_embeddings) model.weights.head = model.weights.embedding;
  return model;
}

/// Sizes that the packed kernels take, and the vocabulary of the tiny models.
inline ModelConfig packed_config(bool bias) {
  ModelConfig config;
  config.architecture = "llama";
  config.vocab_size = 64;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 32;
  config.max_position_embeddings = 128;
  config.rope_theta = 10000;
  config.rms_norm_eps = 1e-5;
  config.attention_bias = bias;
  config.tie_word_embeddings = true;
  return config;
}

inline Weights random_weights(const ModelConfig& config) {
  at::manual_seed(3);
  Weights weights;
  for (const NamedWeight& each : named_weights(config, weights)) {
    const bool norm = each.name.find("norm") != std::string::npos;
    *each.tensor = (at::randn(each.shape) * (norm ? 0.1 : 0.2) + (norm ? 1.0 : 0.0)).to(at::kBFloat16);
  }
  weights.head = weights.embedding;
  return weights;
}

/// A random bf16 model on packed weights; `weights.packed` is null on a CPU that can't.
inline Model packed_model() {
  Model model = letter_model(packed_config(false), "packed");
  model.config.bos_token_id = 1;
  model.config.stop_token_ids = {2};
  model.weights = random_weights(model.config);
  model.weights.packed = PackedWeights::make(model.config, model.weights);
  return model;
}

inline Json tiny_golden(const std::string& name) { return read_json_file(tiny_folder + name + "/golden.json"); }

/// The adapter that the goldens' script makes by formula, alpha = 2 · rank.
inline Adapter formula_adapter(const ModelConfig& config, int64_t rank) {
  Adapter adapter = make_adapter(config, {.r = rank, .lora_alpha = 2.0 * static_cast<double>(rank)}, 0);
  const at::NoGradGuard no_grad;
  auto grid = [](const at::Tensor& like, double down, double right) {
    return at::arange(like.size(0), at::kDouble).unsqueeze(1) * down + at::arange(like.size(1), at::kDouble) * right;
  };
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (size_t p = 0; p < adapter.layers[layer].size(); ++p) {
      LoraPair& pair = adapter.layers[layer][p];
      const auto l = static_cast<double>(layer);
      const auto k = static_cast<double>(p);
      pair.a.copy_((grid(pair.a, 0.37, 0.11) + (1 + l + 0.5 * k)).sin() * 0.02);
      pair.b.copy_((grid(pair.b, 0.23, 0.07) + (1 + l + 0.3 * k)).cos() * 0.01);
    }
  }
  return adapter;
}

}  // namespace backburn::model
