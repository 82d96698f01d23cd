#include "backburn/model/quantized_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/files.h"
#include "backburn/model/gguf_model.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/residual_stream.h"
#include "base/error_of.h"
#include "model/tiny_model.h"

namespace backburn::model {
namespace {

using testing::HasSubstr;

at::Tensor dequantized(const QuantizedRows& rows) {
  const auto values = rows.bytes.size(1) / static_cast<int64_t>(ggml_block_bytes(rows.type)) * 32;
  const at::Tensor result = at::empty({rows.bytes.size(0), values}, at::kFloat);
  dequantize(rows.type, {reinterpret_cast<const std::byte*>(rows.bytes.data_ptr()), rows.bytes.nbytes()},
             {result.data_ptr<float>(), static_cast<size_t>(result.numel())});
  return result.to(at::kBFloat16);
}

// What a quantised model stands for: every matrix quantised and dequantised, in bf16.
Model rounded_model(Model model, GgmlType type) {
  for (LayerWeights& layer : model.weights.layers) {
    for (at::Tensor* weight : linear_weights(layer, false)) *weight = dequantized(quantized(*weight, type));
  }
  model.weights.head = dequantized(quantized(model.weights.head, GgmlType::q8_0));
  model.config.tie_word_embeddings = false;
  model.weights.packed = PackedWeights::make(model.config, model.weights);
  return model;
}

class QuantizedWeights : public testing::TestWithParam<GgmlType> {
 protected:
  void SetUp() override {
    if (!original.weights.packed) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
    original.config.architecture = "qwen2";
    original.config.attention_bias = true;
    original.weights = random_weights(original.config);
    save_hugging_face(original, folder.path() / "original", at::kBFloat16);
    quantised = load_model((folder.path() / "original").string(), at::kBFloat16, asked());
    rounded = rounded_model(original, GetParam());
    adapter = make_adapter(original.config, {.r = 8, .lora_alpha = 16}, 1);
    for (auto& layer : adapter.layers) {
      for (auto& pair : layer) pair.b.set_data(at::randn(pair.b.sizes()) * 0.05);
    }
  }

  BaseQuantization asked() const {
    return GetParam() == GgmlType::q8_0 ? BaseQuantization::q8_0 : BaseQuantization::q4_0;
  }

  // Logits, and the gradient of their squares' sum for the adapter, in one.
  template <class States>
  at::Tensor logits_and_gradient(const Model& model, const States& states) {
    const TokenTree tree{{1, 2, 3, 4, 5}, {{6, 7, 8}, {9}, {10, 11, 12, 13, 14, 15, 16}}};
    for (auto& each : adapter.parameters()) each.mutable_grad().reset();
    const Network network = model.network(&adapter);
    const auto hidden = states(network, pack({&tree, 1}));
    hidden.to(at::kFloat).square().sum().backward();
    const at::NoGradGuard no_grad;
    std::vector<at::Tensor> all = {logits(network, hidden).flatten()};
    for (const auto& each : adapter.parameters()) all.push_back(each.grad().flatten());
    return at::cat(all);
  }

  TemporaryFolder folder;
  Model original = packed_model(), quantised = packed_model(), rounded = packed_model();
  Adapter adapter;
};

TEST_P(QuantizedWeights, AModelIsTheOneWithTheDequantizedMatrices) {
  const auto states = [](const Network& network, const PackedTokens& tokens) { return hidden_states(network, tokens); };
  ASSERT_TRUE(quantised.weights.packed->is_quantized());
  const auto wanted = logits_and_gradient(rounded, states);
  EXPECT_TRUE(at::equal(logits_and_gradient(quantised, states), wanted));
  EXPECT_FALSE(at::equal(logits_and_gradient(original, states), wanted));
}

// The layer by layer decoder, which defenses look into, unpacks the matrices.
TEST_P(QuantizedWeights, LayerByLayerToo) {
  const auto states = [](const Network& network, const PackedTokens& tokens) {
    return visited_hidden_states(network, tokens, [](size_t, const at::Tensor& stream) { return stream; });
  };
  EXPECT_TRUE(at::equal(logits_and_gradient(quantised, states), logits_and_gradient(rounded, states)));
}

TEST_P(QuantizedWeights, UnpackToTheDequantizedMatrices) {
  const auto& packed = *quantised.weights.packed;
  for (size_t layer = 0; layer < rounded.weights.layers.size(); ++layer) {
    for (const auto& each : linear_layers(original.config, layer)) {
      EXPECT_TRUE(at::equal(packed.unpacked(original.config, layer, each.which),
                            projection(rounded.weights.layers[layer], each.which)))
          << each.module;
    }
  }
  EXPECT_TRUE(at::equal(whole_head(quantised.weights), rounded.weights.head));
}

TEST_P(QuantizedWeights, AGgufFilesOwnBlocksAreTakenAsTheyAre) {
  Model model = packed_model();  // a Llama, whose q and k have another order in the file
  model.config.tie_word_embeddings = false;
  model.weights.head = model.weights.embedding.clone();
  const auto path = folder.path() / "model.gguf";
  save_gguf(model, path, GgmlType::q8_0);
  const Model whole = load_gguf(path, at::kBFloat16);
  const Model found = load_model(path.string(), at::kBFloat16, asked());
  const auto& packed = *found.weights.packed;
  const bool as_they_are = GetParam() == GgmlType::q8_0;
  for (const Projection which : {Projection::q, Projection::k, Projection::up, Projection::down}) {
    EXPECT_EQ(at::equal(packed.unpacked(found.config, 1, which), projection(whole.weights.layers[1], which)),
              as_they_are);
  }
  EXPECT_TRUE(at::equal(whole_head(found.weights), whole.weights.head));
}

TEST_P(QuantizedWeights, AnAdapterIsMergedIntoTheOriginal) {
  Model wanted = original;
  wanted.weights = merge(original.weights, adapter);
  const auto read = merged(original.config, original_weights(quantised), adapter);
  save_hugging_face(quantised, folder.path() / "released", at::kBFloat16, read);
  Model found = load_hugging_face(folder.path() / "released", at::kBFloat16);
  const auto expected = named_weights(wanted.config, wanted.weights);
  for (const NamedWeight& each : named_weights(found.config, found.weights)) {
    const auto same =
        std::find_if(expected.begin(), expected.end(), [&](const auto& x) { return x.name == each.name; });
    ASSERT_NE(same, expected.end()) << each.name;
    EXPECT_TRUE(at::equal(*each.tensor, *same->tensor)) << each.name;
  }
}

TEST_P(QuantizedWeights, WhatNeedsTheMatricesIsRefused) {
  EXPECT_THAT(error_of([&] { merge(quantised.weights, adapter); }), HasSubstr("base_quantization=none"));
  EXPECT_THAT(error_of([&] { save_hugging_face(quantised, folder.path() / "x", at::kBFloat16); }),
              HasSubstr("is quantised"));
  EXPECT_THAT(error_of([&] { load_model((folder.path() / "original").string(), at::kFloat, asked()); }),
              HasSubstr("packed kernels alone"));
  EXPECT_THROW(base_quantization_of("int3"), Error);
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizedWeights, testing::Values(GgmlType::q8_0, GgmlType::q4_0));

}  // namespace
}  // namespace backburn::model
