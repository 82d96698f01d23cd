#include "backburn/model/packed_decoder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "backburn/model/activations.h"
#include "backburn/model/packed.h"
#include "model/tiny_model.h"

namespace backburn::model {
namespace {

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
    config = packed_config(GetParam());
    plain = random_weights(config);
    fast = plain;
    fast.packed = PackedWeights::make(config, plain);
    if (!fast.packed) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
    exact = plain;
    for (const NamedWeight& each : named_weights(config, exact)) *each.tensor = each.tensor->to(at::kFloat);
    exact.head = exact.embedding;
    adapter = make_adapter(config, {.r = 8, .lora_alpha = 16}, 1);
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

// Products that an adapter leaves alone, wholly (o, gate and up) or in part (k).
TEST_P(PackedDecoder, AnAdapterOfSomeLayersIsAsNearToF32) {
  for (auto& layer : adapter.layers) {
    for (const Projection which : {Projection::k, Projection::o, Projection::gate, Projection::up}) {
      layer[static_cast<size_t>(which)] = {};
    }
  }
  adapter.layers[1][static_cast<size_t>(Projection::q)] = {};
  const auto wanted = run(exact);
  const auto by_layer = run(plain);
  const auto packed = run(fast);
  ASSERT_EQ(wanted.second.size(), 10U);
  ASSERT_EQ(packed.second.size(), 10U);
  EXPECT_LT(gap(packed.first, wanted.first), 1.2 * gap(by_layer.first, wanted.first));
  for (size_t i = 0; i < wanted.second.size(); ++i) {
    EXPECT_LT(gap(packed.second[i], wanted.second[i]), 1.5 * gap(by_layer.second[i], wanted.second[i]) + 0.005)
        << "parameter " << i;
  }
}

TEST_P(PackedDecoder, DoraRunsOnLibTorchsLayers) {
  adapter.use_dora = true;
  add_magnitudes(adapter, plain);
  EXPECT_FALSE(runs_on_kernels({&config, &fast, &adapter}));
  EXPECT_TRUE(runs_on_kernels({&config, &fast, nullptr}));
  EXPECT_EQ(frozen(adapter, config, fast).packed, nullptr);
  const auto by_layer = run(plain), with_packed = run(fast);
  EXPECT_TRUE(at::equal(by_layer.first, with_packed.first));
  ASSERT_EQ(with_packed.second.size(), 2 * 7 * 3U);
}

TEST_P(PackedDecoder, TokenByTokenEqualsAllAtOnce) {
  const at::NoGradGuard no_grad;
  const Adapter prepared = frozen(adapter, config, fast);
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

TEST_P(PackedDecoder, CheckpointingChangesNoBit) {
  const auto trees = some_trees();
  const auto tokens = pack(trees);
  const auto run_with = [&](bool checkpointing) {
    for (auto& each : adapter.parameters()) each.mutable_grad().reset();
    const auto hidden = hidden_states({&config, &fast, &adapter, checkpointing}, tokens);
    hidden.to(at::kFloat).square().sum().backward();
    std::vector<at::Tensor> all = {hidden.detach().to(at::kFloat).flatten()};
    for (const auto& each : adapter.parameters()) all.push_back(each.grad().flatten());
    return at::cat(all);
  };
  EXPECT_TRUE(at::equal(run_with(true), run_with(false)));
}

// A rollout's activations in place of the update's forward pass: the same bits, forward and backward.
TEST_P(PackedDecoder, WhatGenerationRecordedServesTheGradient) {
  const TokenTree tree{{1, 2, 3}, {{4, 5, 6}, {7, 8, 9}}};
  const auto tokens = pack({&tree, 1});
  Activations record = allocate_activations(config, adapter.rank, 20);
  {
    const at::NoGradGuard no_grad;
    const Adapter prepared = frozen(adapter, config, fast);
    const Network network{&config, &fast, &prepared};
    const TokenTree start{{30, 31}, {}}, prompt{{1, 2, 3}, {}};
    hidden_states(network, pack({&start, 1}), nullptr, record);  // of no use to this tree
    std::vector<LayerKeyValues> prefilled;
    hidden_states(network, pack({&prompt, 1}), &prefilled, record);
    auto cache = KeyValueCache::allocate(config, 2, 10, at::kBFloat16);
    for (int64_t row = 0; row < 2; ++row) cache.load(row, prefilled, std::vector<TokenRange>{{0, 3}});
    for (const std::vector<int32_t>& ids : {std::vector<int32_t>{4, 7}, {5, 8}, {6, 9}}) {
      decode_step(network, ids, cache, record);
    }
  }
  EXPECT_EQ(record.used, 11);
  const auto gradients = [&](const at::Tensor& hidden) {
    for (auto& each : adapter.parameters()) each.mutable_grad().reset();
    hidden.to(at::kFloat).square().sum().backward();
    std::vector<at::Tensor> all;
    for (const auto& each : adapter.parameters()) all.push_back(each.grad().flatten());
    return at::cat(all);
  };
  const Network network{&config, &fast, &adapter};
  const auto computed = hidden_states(network, tokens);
  const auto recorded =
      recorded_hidden_states(network, tokens, record, std::vector<int64_t>{2, 3, 4, 5, 7, 9, 6, 8, 10});
  EXPECT_TRUE(at::equal(recorded, computed));
  const auto wanted = gradients(computed);
  EXPECT_GT(wanted.norm().item<double>(), 0);
  EXPECT_TRUE(at::equal(gradients(recorded), wanted));
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
