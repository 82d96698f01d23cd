// Adapters of other kinds, and training all weights, against PEFT and Transformers: tools/make_adapter_goldens.py makes
// the goldens.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "backburn/base/files.h"
#include "backburn/model/peft.h"
#include "backburn/model/trained_weights.h"
#include "base/error_of.h"
#include "model/tiny_model.h"

namespace backburn::model {
namespace {

using at::Tensor;
using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

Tensor numbers(const Json& list) { return at::tensor(list.get<std::vector<double>>(), at::kDouble).to(at::kFloat); }

// ln π of a golden pair's completion.
Tensor logprobs_of(const Network& network, const Json& pair) {
  const auto prompt = pair["prompt"].get<Ids>(), completion = pair["completion"].get<Ids>();
  const TokenTree tree{prompt, {completion}};
  const auto all = logits(network, hidden_states(network, pack({&tree, 1})));
  const auto size = static_cast<int64_t>(completion.size());
  const auto rows = all.narrow(0, static_cast<int64_t>(prompt.size()) - 1, size);
  return at::log_softmax(rows, -1).gather(1, at::tensor(completion, at::kLong).unsqueeze(1)).squeeze(1);
}

// The goldens' loss, whose log-probabilities are compared on the way.
Tensor checked_loss(const Network& network, const Json& golden) {
  auto loss = at::zeros({});
  for (const Json& pair : golden["pairs"]) {
    const auto found = logprobs_of(network, pair);
    EXPECT_LT((found - numbers(pair["logprobs"])).abs().max().item<double>(), 1e-4);
    loss = loss - found.mean();
  }
  loss = loss / static_cast<double>(golden["pairs"].size());
  EXPECT_NEAR(loss.item<double>(), golden["loss"].get<double>(), 1e-5);
  return loss;
}

// Of each tensor the golden has the norm and 16 entries.
void expect_kept(const Tensor& found, const Json& kept) {
  const auto flat = found.detach().flatten();
  std::vector<int64_t> places;
  for (int64_t k = 0; k < 16; ++k) places.push_back((2 * k + 1) * flat.numel() / 32);
  const auto norm = kept["norm"].get<double>();
  EXPECT_NEAR(flat.norm().item<double>(), norm, 1e-3 * norm) << kept["name"];
  const double gap = (flat.index_select(0, at::tensor(places)) - numbers(kept["sampled"])).norm().item<double>();
  EXPECT_LT(gap, 1e-3 * norm) << kept["name"];
}

struct Golden {
  const char *model, *variant;
};
void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.model << " " << golden.variant; }

class PeftGolden : public testing::TestWithParam<Golden> {
 protected:
  const std::string folder_ = tiny_folder + GetParam().model + "/peft_" + GetParam().variant;
  const Model model_ = tiny_model(GetParam().model);
  const Json golden_ = read_json_file(folder_ + "/golden.json");

  Adapter loaded() const {
    auto adapter = load_adapter(folder_, model_.config);
    for (const Tensor& each : adapter.parameters()) each.requires_grad_(true);
    return adapter;
  }
  // By the names of PEFT's file.
  std::map<std::string, Tensor> by_name(const Adapter& adapter) const {
    std::map<std::string, Tensor> named;
    for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
      const auto linear = linear_layers(model_.config, layer);
      for (size_t i = 0; i < linear.size(); ++i) {
        const std::string module = "model.layers." + std::to_string(layer) + "." + linear[i].module;
        const LoraPair& pair = adapter.layers[layer][i];
        if (pair.a.defined()) named.insert({{module + ".lora_A", pair.a}, {module + ".lora_B", pair.b}});
        if (pair.magnitude.defined()) named.insert({module + ".lora_magnitude_vector", pair.magnitude});
      }
    }
    return named;
  }
};

TEST_P(PeftGolden, LogprobsAndGradientsAreThoseOfPeft) {
  for (const bool checkpointing : {false, true}) {
    const Adapter adapter = loaded();
    Network network = model_.network(&adapter);
    network.gradient_checkpointing = checkpointing;
    checked_loss(network, golden_).backward();
    const auto named = by_name(adapter);
    EXPECT_EQ(named.size(), golden_["gradients"].size());
    for (const Json& kept : golden_["gradients"]) {
      const std::string name = kept["name"];
      ASSERT_TRUE(named.contains(name)) << name;
      expect_kept(named.at(name).grad(), kept);
    }
  }
}

TEST_P(PeftGolden, MergedWeightsAreThoseOfPeft) {
  const Adapter adapter = loaded();
  Weights merged = merge(model_.weights, adapter);
  std::map<std::string, Tensor> named;
  for (const NamedWeight& each : named_weights(model_.config, merged)) named[each.name] = *each.tensor;
  for (const Json& kept : golden_["merged"]) expect_kept(named.at(kept["name"]), kept);
  const at::NoGradGuard no_grad;
  checked_loss({&model_.config, &merged, nullptr}, golden_);
}

// What generation reads, token by token.
TEST_P(PeftGolden, DecodingSaysTheSame) {
  const at::NoGradGuard no_grad;
  const Adapter adapter = loaded();
  const Adapter prepared = frozen(adapter, model_.config, model_.weights);
  const Json& pair = golden_["pairs"][0];
  auto ids = pair["prompt"].get<Ids>();
  auto cache = KeyValueCache::allocate(model_.config, 1, 24, at::kFloat);
  Tensor hidden;
  for (const int32_t id : ids) hidden = decode_step(model_.network(&prepared), std::vector<int32_t>{id}, cache);
  const auto logprob = at::log_softmax(logits(model_.network(&prepared), hidden)[0], -1);
  EXPECT_NEAR(logprob[pair["completion"][0].get<int64_t>()].item<double>(), pair["logprobs"][0].get<double>(), 1e-4);
}

// tools/check_exports.py sets BACKBURN_KEEP_EXPORTS and opens them in PEFT.
TEST_P(PeftGolden, WhatPeftWroteIsWrittenAsPeftWroteIt) {
  const TemporaryFolder temporary;
  const char* kept = std::getenv("BACKBURN_KEEP_EXPORTS");
  const auto parent = kept != nullptr ? std::filesystem::path(kept) / GetParam().model : temporary.path();
  const auto folder = parent / (std::string("adapter_") + GetParam().variant);
  std::filesystem::create_directories(parent);
  const Adapter adapter = load_adapter(folder_, model_.config);
  save_adapter(adapter, model_.config, folder, "base");
  const auto ours = Safetensors::open(folder / "adapter_model.safetensors").entries();
  const auto theirs = Safetensors::open(folder_ + "/adapter_model.safetensors").entries();
  EXPECT_EQ(ours.size(), theirs.size());
  for (const auto& [name, entry] : theirs) {
    ASSERT_TRUE(ours.contains(name)) << name;
    EXPECT_EQ(ours.at(name).shape, entry.shape) << name;
  }
  const Json config = read_json_file(folder / "adapter_config.json");
  const Json theirs_config = read_json_file(folder_ + "/adapter_config.json");
  for (const char* key : {"use_rslora", "use_dora", "r", "lora_alpha"}) EXPECT_EQ(config[key], theirs_config[key]);
  if (std::string(GetParam().variant) == "rslora") {  // for all-linear PEFT lists every module by its whole name
    auto wanted = theirs_config["target_modules"].get<std::vector<std::string>>();
    EXPECT_THAT(config["target_modules"].get<std::vector<std::string>>(), testing::UnorderedElementsAreArray(wanted));
  }
  const auto again = load_adapter(folder, model_.config);
  EXPECT_EQ(again.scale(), adapter.scale());
  const auto before = adapter.parameters(), after = again.parameters();
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(before[i], after[i]));
}

INSTANTIATE_TEST_SUITE_P(Goldens, PeftGolden,
                         testing::Values(Golden{"tiny_llama", "rslora"}, Golden{"tiny_llama", "dora"},
                                         Golden{"tiny_qwen2", "rslora"}, Golden{"tiny_qwen2", "dora"},
                                         Golden{"tiny_gemma2", "rslora"}, Golden{"tiny_gemma2", "dora"},
                                         Golden{"tiny_phi3", "rslora"}, Golden{"tiny_phi3", "dora"}),
                         [](const auto& each) { return std::string(each.param.model) + "_" + each.param.variant; });

// Layers with a rank and an alpha of their own: another adapter, which says the same. tools/check_exports.py opens it
// in PEFT again.
class PeftPatterns : public PeftGolden {};

TEST_P(PeftPatterns, SayWhatPeftSays) {
  const at::NoGradGuard no_grad;
  const Adapter adapter = load_adapter(folder_, model_.config);
  EXPECT_EQ(adapter.rank, 7);
  checked_loss(model_.network(&adapter), golden_);
  Weights merged = merge(model_.weights, adapter);
  std::map<std::string, Tensor> named;
  for (const NamedWeight& each : named_weights(model_.config, merged)) named[each.name] = *each.tensor;
  for (const Json& kept : golden_["merged"]) expect_kept(named.at(kept["name"]), kept);
  checked_loss({&model_.config, &merged, nullptr}, golden_);

  const TemporaryFolder temporary;
  const char* kept = std::getenv("BACKBURN_KEEP_EXPORTS");
  const auto parent = kept != nullptr ? std::filesystem::path(kept) / GetParam().model : temporary.path();
  const auto folder = parent / (std::string("adapter_") + GetParam().variant);
  std::filesystem::create_directories(parent);
  save_adapter(adapter, model_.config, folder, "base");
  const Adapter again = load_adapter(folder, model_.config);
  checked_loss(model_.network(&again), golden_);
}

INSTANTIATE_TEST_SUITE_P(Goldens, PeftPatterns,
                         testing::Values(Golden{"tiny_llama", "patterns"}, Golden{"tiny_llama", "patterns_rslora"},
                                         Golden{"tiny_phi3", "patterns"}, Golden{"tiny_phi3", "patterns_rslora"}),
                         [](const auto& each) { return std::string(each.param.model) + "_" + each.param.variant; });

class AllWeights : public testing::TestWithParam<const char*> {
 protected:
  const Model model_ = tiny_model(GetParam());
  const Json golden_ = read_json_file(tiny_folder + GetParam() + "/full.json");
};

TEST_P(AllWeights, GradientsAreThoseOfTransformers) {
  for (const bool checkpointing : {false, true}) {
    const TrainedWeights trained(model_.config, model_.weights);
    Network network{&model_.config, &trained.computing(), nullptr};
    network.gradient_checkpointing = checkpointing;
    checked_loss(network, golden_).backward();
    std::map<std::string, Tensor> gradients;
    Weights names;
    const auto parameters = trained.parameters();
    const auto named = named_weights(model_.config, names);
    ASSERT_EQ(named.size(), parameters.size());
    for (size_t i = 0; i < named.size(); ++i) gradients[named[i].name] = parameters[i].grad();
    EXPECT_EQ(gradients.size(), golden_["gradients"].size());
    for (const Json& kept : golden_["gradients"]) {
      const std::string name = kept["name"];
      ASSERT_TRUE(gradients.contains(name)) << name;
      const Tensor& found = gradients.at(name);
      if (kept["norm"] == 0.0) {  // an expert that no token went to
        EXPECT_TRUE(!found.defined() || found.count_nonzero().item<int64_t>() == 0) << name;
      } else {
        expect_kept(found, kept);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, AllWeights,
                         testing::Values("tiny_llama", "tiny_qwen2", "tiny_gemma2", "tiny_phi3", "tiny_qwen3_moe"));

TEST(TrainedWeights, FollowTheirMastersAndLeaveTheModelAlone) {
  const Model model = tiny_model("tiny_qwen2", at::kBFloat16);  // a tied head
  const auto before = model.weights.embedding.clone();
  const TrainedWeights trained(model.config, model.weights);
  EXPECT_TRUE(at::equal(trained.computing().embedding, before));
  EXPECT_TRUE(trained.computing().head.is_same(trained.computing().embedding));
  EXPECT_FALSE(trained.sampling().head.requires_grad());
  const auto made = trained.computing().embedding;
  EXPECT_TRUE(trained.computing().embedding.is_same(made)) << "made anew for nothing";

  const TrainedWeights copy(trained);  // NOLINT(performance-unnecessary-copy-initialization): what is tested
  trained.parameters()[0].detach().add_(1);
  EXPECT_FALSE(at::equal(trained.computing().embedding, before));
  EXPECT_TRUE(at::equal(trained.computing().embedding, trained.sampling().embedding));
  EXPECT_TRUE(at::equal(copy.computing().embedding, before));
  EXPECT_TRUE(at::equal(model.weights.embedding, before));
  // Less than bf16 can show is not lost.
  trained.parameters()[1].detach().add_(1e-6);
  EXPECT_TRUE(at::equal(trained.computing().layers[0].attention_norm, model.weights.layers[0].attention_norm));
  EXPECT_FALSE(at::equal(trained.parameters()[1], copy.parameters()[1]));
}

TEST(TargetModules, NameTheKindsThatAModelHas) {
  const auto llama = tiny_model("tiny_llama").config;
  EXPECT_THAT(target_names(llama),
              ElementsAre("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"));
  EXPECT_THAT(target_names(tiny_model("tiny_phi3").config),
              ElementsAre("qkv_proj", "o_proj", "gate_up_proj", "down_proj"));
  const Adapter some = make_adapter(llama, {.r = 2, .target_modules = {"v_proj", "q_proj"}}, 1);
  const Adapter all = make_adapter(llama, {.r = 2}, 1);
  EXPECT_EQ(some.parameters().size(), 8U);
  EXPECT_FALSE(some.layers[1][static_cast<size_t>(Projection::down)].a.defined());
  EXPECT_TRUE(at::equal(some.layers[1][2].a, all.layers[1][2].a)) << "a layer's beginning depends on the others";
  EXPECT_EQ(make_adapter(llama, {.r = 4, .lora_alpha = 6, .use_rslora = true}, 1).scale(), 3);

  const auto error = [](const ModelConfig& config, const LoraConfig& lora) {
    return error_of([&] { make_adapter(config, lora, 1); });
  };
  EXPECT_THAT(error(llama, {.target_modules = {"q_proj", "qkv_proj"}}),
              HasSubstr("a llama model has no linear layers called \"qkv_proj\"; give all-linear or some of q_proj, "));
  EXPECT_THAT(error(llama, {.target_modules = {}}), HasSubstr("target_modules is empty"));
  EXPECT_THAT(error(tiny_model("tiny_qwen3_moe").config, {.use_dora = true}), HasSubstr("models with experts"));
}

TEST(Dora, AFreshOneChangesNothing) {
  const Model model = tiny_model("tiny_llama");
  Adapter adapter = make_adapter(model.config, {.r = 4, .use_dora = true}, 7);
  add_magnitudes(adapter, model.weights);
  EXPECT_EQ(adapter.parameters().size(), 2 * 7 * 3U);
  const TokenTree tree{{5, 6, 7, 8}, {}};
  const auto tokens = pack({&tree, 1});
  const auto gap = hidden_states(model.network(&adapter), tokens) - hidden_states(model.network(), tokens);
  EXPECT_LT(gap.abs().max().item<double>(), 1e-5);
}

}  // namespace
}  // namespace backburn::model
