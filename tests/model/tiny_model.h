#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <string>

#include "backburn/base/json.h"
#include "backburn/model/load.h"
#include "backburn/model/safetensors.h"

namespace backburn::model {

inline const std::string tiny_folder = SOURCE_DIR "/tests/model/data/";

/// "tiny_llama" or "tiny_qwen2" of tools/make_model_goldens.py: two layers, 64 tokens, random weights. Token
/// 1 begins, 2 ends, the others are one character each ("A" is token 3).
inline Model tiny_model(const std::string& name, at::ScalarType dtype = at::kFloat) {
  text::Vocabulary vocabulary{"gpt-2", {"<unk>", "<s>", "</s>"}, {3, 3, 3}, {}};
  for (char letter = 'A'; vocabulary.tokens.size() < 64; ++letter) {
    vocabulary.tokens.emplace_back(1, letter);
    vocabulary.token_types.push_back(1);
  }
  const std::string config = tiny_folder + name + "/config.json";
  Model model{config_from_hugging_face(read_json_file(config), config),
              {},
              text::Tokenizer::from_vocabulary(vocabulary, name),
              text::ChatTemplate::parse("{{ bos_token }}{{ messages[0]['content'] }}", name),
              name};
  const auto stored = Safetensors::open_folder(tiny_folder + name);
  for (const NamedWeight& wanted : named_weights(model.config, model.weights)) {
    *wanted.tensor = stored.tensor(wanted.name, wanted.shape, dtype);
  }
  if (model.config.tie_word_embeddings) model.weights.head = model.weights.embedding;
  return model;
}

inline Json tiny_golden(const std::string& name) { return read_json_file(tiny_folder + name + "/golden.json"); }

/// The adapter that the goldens' script makes by formula, alpha = 2 · rank.
inline Adapter formula_adapter(const ModelConfig& config, int64_t rank) {
  Adapter adapter = make_adapter(config, rank, 2.0 * static_cast<double>(rank), 0);
  const at::NoGradGuard no_grad;
  auto grid = [](const at::Tensor& like, double down, double right) {
    return at::arange(like.size(0), at::kDouble).unsqueeze(1) * down + at::arange(like.size(1), at::kDouble) * right;
  };
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (size_t p = 0; p < projection_names.size(); ++p) {
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
