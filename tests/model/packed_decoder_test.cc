#include "backburn/model/packed_decoder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "backburn/base/rng.h"
#include "backburn/model/packed.h"

namespace backburn::model {
namespace {

ModelConfig small_config(bool bias) {
  ModelConfig config;
  config.architecture = "llama";
  config.vocab_size = 96;
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

Weights random_weights(const ModelConfig& config) {
  at::manual_seed(3);
  Weights weights;
  for (const NamedWeight& each : named_weights(config, weights)) {
    const bool norm = each.name.find("norm") != std::string::npos;
    *each.tensor = (at::randn(each.shape) * (norm ? 0.1 : 0.2) + (norm ? 1.0 : 0.0)).to(at::kBFloat16);
  }
  weights.head = weights.embedding;
  return weights;
}

// Two trees with branches, and a lone sequence.
std::vector<TokenTree> some_trees() {
  return {
      {{1, 2, 3, 4, 5}, {{6, 7, 8}, {9}, {10, 11, 12, 13, 14, 15, 16}}}, {{20, 21}, {{22, 23}}}, {{30, 31, 32}, {}}};
}

double gap(const at::Tensor& left, const at::Tensor& right) {
  const auto l = left.to(at::kFloat), r = right.to(at::kFloat);
  return ((l - r).norm() / r.norm()).item<double>();
}

class PackedDecoder : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    config = small_config(GetParam());
    plain = random_weights(config);
    fast = plain;
    fast.packed = PackedWeights::make(config, plain);
    if (!fast.packed) GTEST_SKIP() << "this CPU has no AVX-512 BF16";
    exact = plain;
    for (const NamedWeight& each : named_weights(config, exact)) *each.tensor = each.tensor->to(at::kFloat);
    exact.head = exact.embedding;
    adapter = make_adapter(config, 8, 16, 1);
    for (auto& layer : adapter.layers) {
      for (auto& pair : layer) pair.b.set_data(at::randn(pair.b.sizes()) * 0.05);
    }
  }

  // Hidden states and the gradient of Σ hidden · weight.
  std::pair<at::Tensor, std::vector<at::Tensor>> run(const Weights& weights) {
    const auto trees = some_trees();
    const auto tokens = pack(trees);
    for (auto& each : adapter.parameters()) each.mutable_grad().reset();
    const auto hidden = hidden_states({&config, &weights, &adapter}, tokens);
    at::manual_seed(5);
    const auto weight = at::randn({tokens.tokens(), config.hidden_size});
    (hidden.to(at::kFloat) * weight).sum().backward();
    std::vector<at::Tensor> gradients;
    for (const auto& each : adapter.parameters()) gradients.push_back(each.grad().clone());
    return {hidden.detach(), gradients};
  }

  ModelConfig config;
  Weights plain, fast, exact;
  Adapter adapter;
};

// bf16 rounds; neither of the two ways may be further from f32 than the other by much.
TEST_P(PackedDecoder, IsAsNearToF32AsTheLayerByLayerModel) {
  const auto wanted = run(exact);
  const auto by_layer = run(plain);
  const auto packed = run(fast);
  EXPECT_LT(gap(packed.first, wanted.first), 1.2 * gap(by_layer.first, wanted.first));
  ASSERT_EQ(packed.second.size(), wanted.second.size());
  for (size_t i = 0; i < wanted.second.size(); ++i) {
    EXPECT_LT(gap(packed.second[i], wanted.second[i]), 1.5 * gap(by_layer.second[i], wanted.second[i]) + 0.005)
        << "parameter " << i;
  }
}

TEST_P(PackedDecoder, TokenByTokenEqualsAllAtOnce) {
  const at::NoGradGuard no_grad;
  const Adapter prepared = frozen(adapter, at::kBFloat16, true);
  const Network network{&config, &fast, &prepared};
  const TokenTree tree{{1, 2, 3, 4, 5, 6, 7}, {}};
  const auto whole = hidden_states(network, pack({&tree, 1}));

  const TokenTree start{{1, 2, 3}, {}};
  std::vector<LayerKeyValues> prefilled;
  hidden_states(network, pack({&start, 1}), &prefilled);
  auto cache = KeyValueCache::allocate(config, 2, 10, at::kBFloat16);
  for (int64_t row = 0; row < 2; ++row) cache.load(row, prefilled, std::vector<TokenRange>{{0, 1}, {1, 2}});
  for (int32_t token = 4; token <= 7; ++token) {
    const std::vector<int32_t> ids = {token, 40};
    const auto hidden = decode_step(network, ids, cache);
    EXPECT_TRUE(at::equal(hidden[0], whole[token - 1])) << "token " << token;
  }
}

TEST_P(PackedDecoder, LogitsAreTheHeads) {
  const at::NoGradGuard no_grad;
  const auto hidden = at::randn({5, config.hidden_size}).to(at::kBFloat16);
  EXPECT_LT(gap(logits({&config, &fast, nullptr}, hidden), logits({&config, &exact, nullptr}, hidden.to(at::kFloat))),
            0.01);
}

INSTANTIATE_TEST_SUITE_P(Bias, PackedDecoder, testing::Bool());

}  // namespace
}  // namespace backburn::model
