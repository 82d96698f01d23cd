// Against Transformers and PEFT: tools/make_model_goldens.py makes the goldens.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/peft.h"
#include "backburn/model/residual_stream.h"
#include "backburn/model/transformer.h"
#include "model/real_model.h"
#include "model/tiny_model.h"

namespace backburn::model {
namespace {

using at::Tensor;
using Ids = std::vector<int32_t>;

Ids joined(Ids left, const Ids& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Tensor packed_logits(const Network& network, const std::vector<TokenTree>& trees) {
  return logits(network, hidden_states(network, pack(trees)));
}

Tensor sequence_logits(const Network& network, const Ids& ids) { return packed_logits(network, {{ids, {}}}); }

// ln π of `completion`, whose first token is predicted by row `before` and the others by the rows from
// `begin` on.
Tensor completion_logprobs(const Tensor& logits, int64_t before, int64_t begin, const Ids& completion) {
  const auto size = static_cast<int64_t>(completion.size());
  const auto rows = at::cat({logits.narrow(0, before, 1), logits.narrow(0, begin, size - 1)});
  return at::log_softmax(rows, -1).gather(1, at::tensor(completion, at::kLong).unsqueeze(1)).squeeze(1);
}

double largest_gap(const Tensor& left, const Tensor& right) { return (left - right).abs().max().item<double>(); }

double relative_gap(const Tensor& found, const Tensor& expected) {
  return ((found - expected).norm() / expected.norm().clamp_min(1e-12)).item<double>();
}

Tensor numbers(const Json& list) { return at::tensor(list.get<std::vector<double>>(), at::kDouble).to(at::kFloat); }

struct Pair {
  Ids prompt, completion;
};

std::vector<Pair> pairs_of(const Json& gradient) {
  std::vector<Pair> pairs;
  for (const Json& each : gradient["pairs"]) {
    pairs.push_back({each["prompt"].get<Ids>(), each["completion"].get<Ids>()});
  }
  return pairs;
}

// ln π of each pair's completion, the pairs run one by one.
std::vector<Tensor> logprobs_apart(const Network& network, const std::vector<Pair>& pairs) {
  std::vector<Tensor> list;
  for (const auto& [prompt, completion] : pairs) {
    const auto last = static_cast<int64_t>(prompt.size()) - 1;
    list.push_back(
        completion_logprobs(sequence_logits(network, joined(prompt, completion)), last, last + 1, completion));
  }
  return list;
}

// The same in one packed pass: pairs that follow each other with one prompt become branches of one tree.
std::vector<Tensor> logprobs_packed(const Network& network, const std::vector<Pair>& pairs) {
  std::vector<TokenTree> trees;
  for (const auto& [prompt, completion] : pairs) {
    if (trees.empty() || trees.back().prefix != prompt) trees.push_back({prompt, {}});
    trees.back().branches.push_back(completion);
  }
  const auto all = packed_logits(network, trees);
  std::vector<Tensor> list;
  int64_t at = 0;
  for (const TokenTree& tree : trees) {
    const int64_t last = at + static_cast<int64_t>(tree.prefix.size()) - 1;
    at = last + 1;
    for (const Ids& branch : tree.branches) {
      list.push_back(completion_logprobs(all, last, at, branch));
      at += static_cast<int64_t>(branch.size());
    }
  }
  return list;
}

Tensor mean_loss(const std::vector<Tensor>& logprobs) {
  auto sum = at::zeros({});
  for (const Tensor& each : logprobs) sum = sum - each.mean();
  return sum / static_cast<double>(logprobs.size());
}

std::vector<Tensor> gradients_of(const Tensor& loss, const Adapter& adapter) {
  loss.backward();
  std::vector<Tensor> list;
  for (const Tensor& parameter : adapter.parameters()) {
    // An expert that no token went to has none.
    list.push_back(parameter.grad().defined() ? parameter.grad().clone() : at::zeros_like(parameter));
    parameter.mutable_grad().reset();
  }
  return list;
}

class Tiny : public testing::TestWithParam<const char*> {
 protected:
  const Model model_ = tiny_model(GetParam());
  const Json golden_ = tiny_golden(GetParam());
  const Ids sequence_ = golden_["sequence"].get<Ids>();

  /// A column of the table that tools/parity_table.py writes.
  static void record(const std::string& column, double gap) { RecordProperty(column, fmt::format("{:.1e}", gap)); }
  void TearDown() override { RecordProperty("architecture", model_.config.architecture); }

  /// Where a test writes. tools/check_exports.py sets BACKBURN_KEEP_EXPORTS to look at it afterwards.
  std::filesystem::path exported(const char* what) const {
    const char* kept = std::getenv("BACKBURN_KEEP_EXPORTS");
    return (kept != nullptr ? std::filesystem::path(kept) / GetParam() : temporary_.path()) / what;
  }
  const TemporaryFolder temporary_;
};

TEST_P(Tiny, LogitsAreThoseOfTransformers) {
  const auto found = sequence_logits(model_.network(), sequence_);
  double worst = 0;
  for (int64_t row = 0; row < found.size(0); ++row) {
    worst = std::max(worst, largest_gap(found[row], numbers(golden_["logits"][row])));
  }
  EXPECT_LT(worst, 1e-4);
  record("logits", worst);
}

// The golden keeps two waves' sums over the dimensions.
TEST_P(Tiny, EveryLayersHiddenStatesAreThoseOfTransformers) {
  const at::NoGradGuard no_grad;
  std::vector<Tensor> streams;
  visited_hidden_states(model_.network(), pack(std::vector<TokenTree>{{sequence_, {}}}),
                        [&](size_t, const Tensor& stream) {
                          streams.push_back(stream);
                          return stream;
                        });
  const auto waves = at::arange(model_.config.hidden_size, at::kFloat) * 0.7;
  ASSERT_EQ(streams.size(), golden_["hidden"].size());
  double worst = 0;
  for (size_t layer = 0; layer < streams.size(); ++layer) {
    const Json& expected = golden_["hidden"][layer];
    worst = std::max(worst, largest_gap(streams[layer].matmul(waves.cos()), numbers(expected[0])));
    worst = std::max(worst, largest_gap(streams[layer].matmul(waves.sin()), numbers(expected[1])));
  }
  EXPECT_LT(worst, 1e-4);
  record("hidden_states", worst);
}

TEST_P(Tiny, GreedyTokensAreThoseOfTransformers) {
  const at::NoGradGuard no_grad;
  const Ids prompt(sequence_.begin(), sequence_.begin() + 8);
  const auto expected = golden_["greedy"].get<Ids>();
  std::vector<LayerKeyValues> prefilled;
  auto hidden = hidden_states(model_.network(), pack(std::vector<TokenTree>{{prompt, {}}}), &prefilled);
  auto cache = KeyValueCache::allocate(model_.config, 1, 24, at::kFloat);
  cache.load(0, prefilled, std::vector<TokenRange>{{0, 8}});
  Ids found;
  while (found.size() < expected.size()) {
    const auto last = logits(model_.network(), hidden.narrow(0, hidden.size(0) - 1, 1));
    found.push_back(static_cast<int32_t>(last.argmax().item<int64_t>()));
    hidden = decode_step(model_.network(), std::vector<int32_t>{found.back()}, cache);
  }
  EXPECT_EQ(found, expected);
  RecordProperty("greedy_tokens", fmt::format("{} equal", expected.size()));
}

TEST_P(Tiny, AdapterGradientsAreThoseOfPeft) {
  if (!golden_.contains("gradient")) GTEST_SKIP() << "PEFT can't adapt a model with experts in some layers only";
  const Json& gradient = golden_["gradient"];
  double worst = 0;
  const Adapter adapter = formula_adapter(model_.config, gradient["rank"].get<int64_t>());
  const auto pairs = pairs_of(gradient);
  for (auto* logprobs_of : {&logprobs_apart, &logprobs_packed}) {
    const auto logprobs = logprobs_of(model_.network(&adapter), pairs);
    const auto without = logprobs_of(model_.network(), pairs);
    for (size_t i = 0; i < pairs.size(); ++i) {
      EXPECT_LT(largest_gap(logprobs[i], numbers(gradient["pairs"][i]["logprobs"])), 1e-4);
      EXPECT_LT(largest_gap(without[i], numbers(gradient["pairs"][i]["logprobs_without_adapter"])), 1e-4);
    }
    const auto loss = mean_loss(logprobs);
    EXPECT_NEAR(loss.item<double>(), gradient["loss"].get<double>(), 1e-5);
    const auto found = gradients_of(loss, adapter);
    ASSERT_EQ(found.size(), gradient["tensors"].size());
    for (size_t i = 0; i < found.size(); ++i) {
      const double gap = relative_gap(found[i].flatten(), numbers(gradient["tensors"][i]["values"]));
      EXPECT_LT(gap, 1e-3) << gradient["tensors"][i]["name"];
      worst = std::max(worst, gap);
    }
  }
  record("LoRA_gradients", worst);
}

TEST_P(Tiny, GradientsOfLayersRunAgainAreTheSame) {
  const Adapter adapter = formula_adapter(model_.config, 4);
  Network network = model_.network(&adapter);
  const std::vector<Pair> pairs = {{{5, 6, 7}, {8, 9, 10, 11}}};
  const auto kept = gradients_of(mean_loss(logprobs_packed(network, pairs)), adapter);
  network.gradient_checkpointing = true;
  const auto again = gradients_of(mean_loss(logprobs_packed(network, pairs)), adapter);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_LT(largest_gap(kept[i], again[i]), 1e-6) << i;
}

TEST_P(Tiny, AnAdapterSavedAndLoadedAgainIsTheSame) {
  const Adapter adapter = formula_adapter(model_.config, 4);
  std::filesystem::create_directories(exported("").parent_path());
  save_adapter(adapter, model_.config, exported("adapter"), "base");
  const Adapter again = load_adapter(exported("adapter"), model_.config);
  const auto before = adapter.parameters(), after = again.parameters();
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(before[i], after[i])) << i;
}

TEST_P(Tiny, AMergedAdapterIsTheSameModel) {
  const Adapter adapter = formula_adapter(model_.config, 4);
  const Weights merged = merge(model_.weights, adapter);
  const auto expected = sequence_logits(model_.network(&adapter), sequence_);
  EXPECT_LT(largest_gap(sequence_logits({&model_.config, &merged, nullptr}, sequence_), expected), 1e-4);
  EXPECT_GT(largest_gap(sequence_logits(model_.network(), sequence_), expected), 1e-3);
}

TEST_P(Tiny, SavedAndLoadedAgainItIsTheSameModel) {
  const auto path = exported("model");
  std::filesystem::create_directories(exported("").parent_path());
  save_hugging_face(model_, path, at::kFloat);
  const Model again = load_hugging_face(path, at::kFloat);
  EXPECT_TRUE(at::equal(sequence_logits(again.network(), sequence_), sequence_logits(model_.network(), sequence_)));
  // Every tensor under its published name, and no other.
  const auto stored = Safetensors::open_folder(path).entries();
  const auto published = Safetensors::open_folder(tiny_folder + GetParam()).entries();
  EXPECT_EQ(stored.size(), published.size());
  for (const auto& [name, entry] : stored) {
    ASSERT_TRUE(published.contains(name)) << name;
    EXPECT_EQ(entry.shape, published.at(name).shape) << name;
  }
}

TEST_P(Tiny, AFreshAdapterChangesNothing) {
  const Adapter adapter = make_adapter(model_.config, {.r = 4, .lora_alpha = 8}, 7);
  EXPECT_TRUE(
      at::equal(sequence_logits(model_.network(&adapter), sequence_), sequence_logits(model_.network(), sequence_)));
}

TEST_P(Tiny, PackedTreesAreTheirSequences) {
  const std::vector<TokenTree> trees = {
      {{5, 6, 7}, {{8, 9}, {10}, {11, 12, 13, 14}}}, {{20, 21}, {}}, {{30}, {{31, 32, 33}, {34, 35}}}};
  const auto packed = packed_logits(model_.network(), trees);
  int64_t at = 0;
  for (const TokenTree& tree : trees) {
    const auto prefix = static_cast<int64_t>(tree.prefix.size());
    EXPECT_LT(largest_gap(packed.narrow(0, at, prefix), sequence_logits(model_.network(), tree.prefix)), 1e-5);
    at += prefix;
    for (const Ids& branch : tree.branches) {
      const auto size = static_cast<int64_t>(branch.size());
      const auto alone = sequence_logits(model_.network(), joined(tree.prefix, branch)).narrow(0, prefix, size);
      EXPECT_LT(largest_gap(packed.narrow(0, at, size), alone), 1e-5);
      at += size;
    }
  }
}

TEST_P(Tiny, DecodingWithACacheIsTheWholeSequence) {
  const Adapter adapter = formula_adapter(model_.config, 4);
  const Network network = model_.network(&adapter);
  const at::NoGradGuard no_grad;
  const double rounding = 2e-5;  // LibTorch's sums run in another order on another number of threads
  // Rows of unequal length; the prompts are prefilled in one pack, the rest is fed token by token.
  const std::vector<Ids> sequences = {sequence_, {3, 9, 27, 17, 51, 25, 11, 33}, {60, 61, 62, 63, 3, 4, 5, 6, 7, 8}};
  const std::vector<int64_t> prompts = {5, 1, 4};
  std::vector<TokenTree> trees;
  for (size_t i = 0; i < sequences.size(); ++i) {
    trees.push_back({Ids(sequences[i].begin(), sequences[i].begin() + prompts[i]), {}});
  }
  std::vector<LayerKeyValues> prefilled;
  hidden_states(network, pack(trees), &prefilled);
  auto cache = KeyValueCache::allocate(model_.config, 3, 24, at::kFloat);
  int64_t begin = 0;
  for (int64_t row = 0; row < 3; ++row) {
    cache.load(row, prefilled, std::vector<TokenRange>{{begin, prompts[row]}});
    begin += prompts[row];
  }
  for (int64_t step = 0; step < 4; ++step) {
    Ids ids;
    for (size_t row = 0; row < 3; ++row) ids.push_back(sequences[row][prompts[row] + step]);
    const auto found = logits(network, decode_step(network, ids, cache));
    for (size_t row = 0; row < 3; ++row) {
      const auto expected = sequence_logits(network, sequences[row])[prompts[row] + step];
      EXPECT_LT(largest_gap(found[static_cast<int64_t>(row)], expected), rounding) << row << " at " << step;
    }
  }
  // The last row takes the place of the first.
  cache.copy_row(2, 0);
  const auto found = logits(network, decode_step(network, Ids{sequences[2][8], sequences[1][5]}, cache));
  EXPECT_LT(largest_gap(found[0], sequence_logits(network, sequences[2])[8]), rounding);
  EXPECT_LT(largest_gap(found[1], sequence_logits(network, sequences[1])[5]), rounding);
}

// Of a large gradient the golden keeps the norm and 16 entries.
Tensor sixteen_of(const Tensor& gradient) {
  const auto flat = gradient.flatten();
  std::vector<int64_t> places;
  for (int64_t k = 0; k < 16; ++k) places.push_back((2 * k + 1) * flat.numel() / 32);
  return flat.index_select(0, at::tensor(places));
}

class Real : public testing::TestWithParam<RealModel> {
 protected:
  void SetUp() override {
    if (const std::string reason = GetParam().reason_to_skip(); !reason.empty()) GTEST_SKIP() << reason;
    golden_ = GetParam().read_golden();
  }
  // How far the gradients of `dtype` are from the golden's: the worst tensor's norm, and the worst 16
  // entries.
  std::pair<double, double> gradient_gaps(at::ScalarType dtype, double loss_tolerance) const {
    const Json& gradient = golden_["gradient"];
    const Model model = load_model(GetParam().name, dtype);
    const Adapter adapter = formula_adapter(model.config, gradient["rank"].get<int64_t>());
    const auto loss = mean_loss(logprobs_packed(model.network(&adapter), pairs_of(gradient)));
    EXPECT_NEAR(loss.item<double>(), gradient["loss"].get<double>(), loss_tolerance);
    const auto found = gradients_of(loss, adapter);
    EXPECT_EQ(found.size(), gradient["tensors"].size());
    std::pair<double, double> worst;
    for (size_t i = 0; i < found.size(); ++i) {
      const Json& wanted = gradient["tensors"][i];
      const auto norm = wanted["norm"].get<double>();
      worst.first = std::max(worst.first, std::abs(found[i].norm().item<double>() / norm - 1));
      const auto sampled = numbers(wanted["sampled"]);
      // Sixteen entries that happen to be small are measured against the tensor's usual entry.
      const double usual = norm * 4 / std::sqrt(static_cast<double>(found[i].numel()));
      worst.second = std::max(worst.second, (sixteen_of(found[i]) - sampled).norm().item<double>() /
                                                std::max(usual, sampled.norm().item<double>()));
    }
    return worst;
  }
  Json golden_;
};

TEST_P(Real, LogitsAreThoseOfTransformers) {
  const at::NoGradGuard no_grad;
  const Model model = load_model(GetParam().name, at::kFloat);
  const auto picked = at::tensor(golden_["vocabulary_ids"].get<std::vector<int64_t>>());
  double worst = 0;
  for (const Json& prompt : golden_["prompts"]) {
    const auto ids = prompt["ids"].get<Ids>();
    EXPECT_EQ(chat_prompt(model, prompt["text"].get<std::string>()), ids);
    const auto found = sequence_logits(model.network(), ids);
    for (const Json& row : prompt["rows"]) {
      const auto at = found[row["at"].get<int64_t>()];
      worst = std::max(worst, largest_gap(at.index_select(0, picked), numbers(row["logits"])));
      EXPECT_NEAR(at.logsumexp(0).item<double>(), row["logsumexp"].get<double>(), 1e-3);
      EXPECT_EQ(at.argmax().item<int64_t>(), row["argmax"].get<int64_t>());
    }
  }
  EXPECT_LT(worst, 1e-3);
  RecordProperty("largest_gap", std::to_string(worst));
}

TEST_P(Real, AdapterGradientsAreThoseOfPeft) {
  const auto [norm, entries] = gradient_gaps(at::kFloat, 1e-4);
  EXPECT_LT(norm, 1e-3);
  EXPECT_LT(entries, 1e-3);
  RecordProperty("norm_gap", std::to_string(norm));
  RecordProperty("entries_gap", std::to_string(entries));
}

TEST_P(Real, AdapterGradientsInBf16AreNear) {
  const auto [norm, entries] = gradient_gaps(at::kBFloat16, 0.05);
  // Of 420 tensors the worst: some gradients of A nearly cancel, and are mostly rounding here.
  EXPECT_LT(norm, 0.35);
  EXPECT_LT(entries, 0.35);
  RecordProperty("norm_gap", std::to_string(norm));
  RecordProperty("entries_gap", std::to_string(entries));
}

INSTANTIATE_TEST_SUITE_P(Parity, Real, testing::Values(smollm2, qwen),
                         [](const auto& each) { return std::string(each.param.golden); });
INSTANTIATE_TEST_SUITE_P(Parity, Tiny,
                         testing::Values("tiny_llama", "tiny_llama3", "tiny_linear", "tiny_mistral", "tiny_ministral",
                                         "tiny_qwen2", "tiny_qwen3", "tiny_smollm3", "tiny_olmo2", "tiny_granite",
                                         "tiny_gemma2", "tiny_gemma3", "tiny_phi3", "tiny_phi4", "tiny_yarn",
                                         "tiny_yarn_mscale", "tiny_dynamic", "tiny_qwen3_moe", "tiny_qwen3_moe_mixed",
                                         "tiny_mixtral"));

// RoPE scalings that change with the length of a sequence are exact as far as they don't.
TEST(LengthDependentRope, IsRefusedBeyondTheTrainedLength) {
  for (const char* name : {"tiny_phi4", "tiny_dynamic"}) {
    const Model model = tiny_model(name);
    Ids ids(32, 5);
    EXPECT_NO_THROW(sequence_logits(model.network(), ids));
    ids.push_back(5);
    try {
      sequence_logits(model.network(), ids);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("is computed up to 32 tokens"));
    }
  }
}

TEST(MixtureOfExperts, LayersWithoutExpertsAreThoseOfTheFile) {
  const auto config = tiny_model("tiny_qwen3_moe_mixed").config;
  std::vector<bool> found;
  for (size_t layer = 0; layer < 4; ++layer) found.push_back(config.has_experts(layer));
  EXPECT_EQ(found, (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(linear_layers(config, 1).size(), 16U);
  EXPECT_EQ(linear_layers(config, 1)[8].module, "mlp.experts.1.up_proj");
}

}  // namespace
}  // namespace backburn::model
