// Against llama.cpp's converter and Transformers: tools/make_gguf_goldens.py makes the files.
#include "backburn/model/gguf_model.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/model/gguf_families.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/transformer.h"
#include "backburn/text/vocabulary_of.h"
#include "base/error_of.h"
#include "model/real_model.h"

namespace backburn::model {
namespace {

using testing::HasSubstr;

std::string data_file(const std::string& name) { return TEST_DATA_DIR "/gguf/" + name; }

at::Tensor logits_of(const Model& model, const Json& golden) {
  const at::NoGradGuard no_grad;
  const TokenTree tree{golden["sequence"].get<std::vector<int32_t>>(), {}};
  return logits(model.network(), hidden_states(model.network(), pack({&tree, 1})));
}

double largest_gap(const at::Tensor& found, const Json& expected) {
  double gap = 0;
  for (int64_t row = 0; row < found.size(0); ++row) {
    const auto wanted = at::tensor(expected[row].get<std::vector<double>>(), at::kDouble).to(at::kFloat);
    gap = std::max(gap, (found[row] - wanted).abs().max().item<double>());
  }
  return gap;
}

std::string bytes_of(const GgufFile& file, const GgufTensor& tensor) {
  const auto bytes = file.bytes(tensor);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Names, shapes, types and bytes. Gemma's norms went through a subtraction and back.
void expect_equal_tensors(const GgufFile& found, const GgufFile& expected) {
  EXPECT_EQ(found.tensors().size(), expected.tensors().size());
  for (const GgufTensor& wanted : expected.tensors()) {
    const GgufTensor* tensor = found.find_tensor(wanted.name);
    ASSERT_NE(tensor, nullptr) << wanted.name;
    EXPECT_EQ(tensor->shape, wanted.shape) << wanted.name;
    EXPECT_EQ(tensor->type, wanted.type) << wanted.name;
    if (tensor->type != GgmlType::f32) {
      EXPECT_EQ(bytes_of(found, *tensor), bytes_of(expected, wanted)) << wanted.name;
      continue;
    }
    std::vector<float> left(static_cast<size_t>(tensor->values())), right(left.size());
    dequantize(tensor->type, found.bytes(*tensor), left);
    dequantize(wanted.type, expected.bytes(wanted), right);
    for (size_t i = 0; i < left.size(); ++i) ASSERT_NEAR(left[i], right[i], 1e-6 * std::abs(right[i])) << wanted.name;
  }
}

class GgufFamilies : public testing::TestWithParam<const char*> {
 protected:
  const std::string path_ = data_file(std::string(GetParam()) + ".gguf");
  const Json golden_ = read_json_file(data_file(std::string(GetParam()) + ".json"));
  const TemporaryFolder folder_;
  /// For the table that tools/parity_table.py writes.
  void TearDown() override { RecordProperty("architecture", golden_["model_type"].get<std::string>()); }
};

TEST_P(GgufFamilies, LogitsAreThoseOfTheCheckpointInTransformers) {
  const Model model = load_gguf(path_, at::kFloat);
  const double gap = largest_gap(logits_of(model, golden_), golden_["logits"]);
  EXPECT_LT(gap, 1e-4);
  RecordProperty("GGUF_logits", fmt::format("{:.1e}", gap));
}

TEST_P(GgufFamilies, WrittenAgainItIsWhatLlamaCppsConverterWrote) {
  const auto again = folder_.path() / "again.gguf";
  save_gguf(load_gguf(path_, at::kFloat), again, GgmlType::f32);
  const GgufFile found = GgufFile::open(again);
  const GgufFile expected = GgufFile::open(path_);
  // What a file says of its origin.
  const std::set<std::string> ignored = {"general.name", "general.size_label"};
  for (const auto& [key, value] : expected.metadata()) {
    if (ignored.contains(key)) continue;
    const GgufValue* other = found.find(key);
    ASSERT_NE(other, nullptr) << key;
    if (const auto* number = std::get_if<double>(&value)) {
      EXPECT_NEAR(std::get<double>(*other), *number, 1e-6 * std::abs(*number)) << key;
    } else {
      EXPECT_TRUE(*other == value) << key;
    }
  }
  expect_equal_tensors(found, expected);
}

TEST_P(GgufFamilies, AsAHuggingFaceFolderItIsTheSameModel) {
  const Model model = load_gguf(path_, at::kFloat);
  save_hugging_face(model, folder_.path() / "folder", at::kFloat);
  const Model again = load_hugging_face(folder_.path() / "folder", at::kFloat);
  EXPECT_EQ(again.config.stop_token_ids, model.config.stop_token_ids);
  EXPECT_LT(largest_gap(logits_of(again, golden_), golden_["logits"]), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Tiny, GgufFamilies,
                         testing::Values("llama", "llama3", "linear", "mistral", "qwen2", "qwen3", "olmo2", "granite",
                                         "smollm3", "gemma2", "gemma3", "yarn", "phi3", "phi4", "mixtral", "qwen3moe"));

TEST(SaveGguf, StoresEachTypeAsLlamaCppsConverterDoes) {
  const TemporaryFolder folder;
  const Model model = load_gguf(data_file("llama.gguf"), at::kFloat);
  for (const auto& [name, type] :
       {std::pair{"f16", GgmlType::f16}, std::pair{"bf16", GgmlType::bf16}, std::pair{"q8_0", GgmlType::q8_0}}) {
    const std::string golden = data_file(std::string("llama_") + name + ".gguf");
    const auto path = folder.path() / name;
    save_gguf(model, path, type);
    const GgufFile found = GgufFile::open(path);
    const GgufFile expected = GgufFile::open(golden);
    EXPECT_EQ(found.integer("general.file_type"), expected.integer("general.file_type"));
    expect_equal_tensors(found, expected);
    EXPECT_EQ(found.find_tensor("blk.0.attn_q.weight")->type, type);
  }
}

class SaveGgufRefuses : public testing::Test {
 protected:
  std::string error_of(const std::function<void(ModelConfig&)>& change, const char* name = "llama.gguf") {
    Model model = load_gguf(data_file(name), at::kFloat);
    change(model.config);
    try {
      save_gguf(model, folder_.path() / "x.gguf", GgmlType::f32);
    } catch (const Error& error) {
      EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
      return error.what();
    }
    return "no error";
  }
  const TemporaryFolder folder_;
};

TEST_F(SaveGgufRefuses, WhatGgufFilesCannotSay) {
  EXPECT_THAT(error_of([](auto& c) { c.architecture = "ministral"; }),
              HasSubstr("no form for model_type \"ministral\""));
  EXPECT_THAT(error_of([](auto& c) { c.sliding_windows = {4, 0}; }), HasSubstr("sliding windows"));
  EXPECT_THAT(error_of([](auto& c) { c.rope_scaling.type = "dynamic"; }), HasSubstr("RoPE scaling \"dynamic\""));
  EXPECT_THAT(error_of([](auto& c) { c.rope_scaling.type = "longrope"; }), HasSubstr("RoPE scaling \"longrope\""));
  EXPECT_THAT(error_of([](auto& c) { c.rope_scaling.beta_fast = 16; }, "yarn.gguf"), HasSubstr("beta_fast 32"));
  EXPECT_THAT(error_of([](auto& c) { c.rope_scaling.truncate = false; }, "yarn.gguf"), HasSubstr("truncate"));
  EXPECT_THAT(error_of([](auto& c) { c.sliding_windows.back() = 0; }, "phi3.gguf"), HasSubstr("sliding window"));
  EXPECT_THAT(error_of([](auto& c) { c.mixture.norm_topk_prob = false; }, "qwen3moe.gguf"),
              HasSubstr("norm_topk_prob"));
  EXPECT_THAT(error_of([](auto& c) { c.mixture.dense_layers[1] = true; }, "mixtral.gguf"), HasSubstr("plain MLP"));
  EXPECT_THAT(error_of([](auto& c) { c.sliding_windows = {4, 4}; }, "mixtral.gguf"), HasSubstr("sliding windows"));
  EXPECT_THAT(error_of([](auto& c) { c.attention_scale = 0.1; }, "gemma2.gguf"), HasSubstr("query_pre_attn_scalar"));
  EXPECT_THAT(error_of([](auto& c) { c.sliding_windows.back() = 6; }, "gemma3.gguf"), HasSubstr("all but every 6th"));
  EXPECT_THAT(error_of([](auto& c) { c.no_rope_layers[0] = true; }, "smollm3.gguf"), HasSubstr("every fourth"));
}

TEST_F(SaveGgufRefuses, AValueBeyondF16) {
  Model model = load_gguf(data_file("llama.gguf"), at::kFloat);
  model.weights.layers[1].o = model.weights.layers[1].o.clone().fill_(1e6);
  try {
    save_gguf(model, folder_.path() / "x.gguf", GgmlType::f16);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("\"blk.1.attn_output.weight\" holds 1000000, beyond the range of F16"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST(SaveGguf, StoresExpertsAndRoutersAsLlamaCppsConverterDoes) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.gguf";
  save_gguf(load_gguf(data_file("mixtral.gguf"), at::kFloat), path, GgmlType::q8_0);
  const GgufFile found = GgufFile::open(path);
  expect_equal_tensors(found, GgufFile::open(data_file("mixtral_q8_0.gguf")));
  EXPECT_EQ(found.find_tensor("blk.1.ffn_up_exps.weight")->type, GgmlType::q8_0);
  EXPECT_EQ(found.find_tensor("blk.1.ffn_gate_inp.weight")->type, GgmlType::f32);
}

// llama.cpp multiplies YaRN's own factor by the file's; a config.json has the whole.
TEST(SaveGguf, KeepsAnAttentionFactor) {
  const TemporaryFolder folder;
  for (const char* name : {"yarn", "phi4"}) {
    Model model = load_gguf(data_file(std::string(name) + ".gguf"), at::kFloat);
    EXPECT_EQ(model.config.rope_scaling.attention_factor, 0) << name;
    model.config.rope_scaling.attention_factor = 1.5;
    save_gguf(model, folder.path() / name, GgmlType::f32);
    const ModelConfig again = config_from_gguf(GgufFile::open(folder.path() / name));
    EXPECT_NEAR(again.rope_scaling.attention_factor, 1.5, 1e-6) << name;
  }
}

// Files that gguf-py has cut into three.
class SplitGguf : public testing::Test {
 protected:
  void SetUp() override {
    for (int part = 1; part <= 3; ++part) std::filesystem::copy(data_file(name_of(part)), path_of(part));
  }
  static std::string name_of(int part) { return fmt::format("llama_split-{:05}-of-00003.gguf", part); }
  std::filesystem::path path_of(int part) const { return folder_.path() / name_of(part); }
  std::string error_of(int part = 1) const {
    return backburn::error_of([&] { load_gguf(path_of(part), at::kFloat); });
  }
  const TemporaryFolder folder_;
};

TEST_F(SplitGguf, IsTheModelInOneFile) {
  const GgufFile whole = GgufFile::open(data_file("llama.gguf"));
  expect_equal_tensors(GgufFile::open(path_of(1)), whole);
  const Json golden = read_json_file(data_file("llama.json"));
  EXPECT_LT(largest_gap(logits_of(load_gguf(path_of(1), at::kFloat), golden), golden["logits"]), 1e-4);
}

TEST_F(SplitGguf, APartThatIsMissingIsNamed) {
  std::filesystem::remove(path_of(2));
  EXPECT_THAT(error_of(), HasSubstr("part 2 of 3 is missing: expected " + name_of(2) + " beside it"));
}

TEST_F(SplitGguf, APartThatDoesNotBelongIsNamed) {
  std::filesystem::copy(path_of(3), path_of(2), std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(error_of(), HasSubstr(name_of(2) + ": is not part 2 of 3, as its name says"));
  std::filesystem::copy(data_file("llama.gguf"), path_of(2), std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(error_of(), HasSubstr("is not part 2 of 3"));
}

TEST_F(SplitGguf, IsOpenedByItsFirstPartUnderItsOwnName) {
  EXPECT_THAT(error_of(2), HasSubstr("is part 2 of 3; give the first part"));
  EXPECT_TRUE(is_later_part(path_of(2)));
  EXPECT_FALSE(is_later_part(path_of(1)));
  EXPECT_FALSE(is_later_part("model.gguf"));
  const auto renamed = folder_.path() / "model.gguf";
  std::filesystem::rename(path_of(1), renamed);
  EXPECT_THAT(backburn::error_of([&] { load_gguf(renamed, at::kFloat); }),
              HasSubstr("whose name must end in -00001-of-00003.gguf"));
}

TEST(RopeFactors, TellLlama3sScalingApartFromOthers) {
  const ModelConfig config = config_from_gguf(GgufFile::open(data_file("llama3.gguf")));
  EXPECT_EQ(config.rope_scaling.type, "llama3");
  EXPECT_EQ(config.rope_scaling.factor, 8);
  EXPECT_EQ(config.rope_scaling.original_max_position_embeddings, 16);
}

TEST(GgufNames, FollowLlamaCpp) {
  ModelConfig config;
  EXPECT_EQ(gguf_place(config, "model.layers.12.self_attn.q_proj.bias").name, "blk.12.attn_q.bias");
  EXPECT_EQ(gguf_place(config, "model.layers.0.post_attention_layernorm.weight").name, "blk.0.ffn_norm.weight");
  EXPECT_EQ(gguf_place(config, "lm_head.weight").name, "output.weight");
  const GgufPlace expert = gguf_place(config, "model.layers.2.block_sparse_moe.experts.13.w2.weight");
  EXPECT_EQ(expert.name, "blk.2.ffn_down_exps.weight");
  EXPECT_EQ(expert.expert, 13);
  EXPECT_EQ(gguf_place(config, "model.layers.2.mlp.gate.weight").name, "blk.2.ffn_gate_inp.weight");
  for (const char* none : {"model.vision.weight", "model.layers.2.mlp.experts.x.up_proj.weight",
                           "model.layers.2.mlp.experts.1.weight", "model.layers.2.mlp.experts..weight"}) {
    EXPECT_THROW(gguf_place(config, none), Error) << none;
  }
}

class GgufOfAVendor : public testing::TestWithParam<RealModel> {};

TEST_P(GgufOfAVendor, TheVocabularyComesBackAsItWas) {
  if (const std::string reason = GetParam().reason_to_skip(); !reason.empty()) GTEST_SKIP() << reason;
  const auto path = cached_path(*find_named_model(GetParam().name));
  const text::Vocabulary words = vocabulary(GgufFile::open(path));
  const auto again = text::vocabulary_of(text::Tokenizer::from_vocabulary(words, path.string()), words.tokens.size());
  EXPECT_EQ(again.model, words.model);
  EXPECT_EQ(again.pre, words.pre);
  EXPECT_EQ(again.tokens, words.tokens);
  EXPECT_EQ(again.merges, words.merges);
  EXPECT_EQ(again.token_types, words.token_types);
}

INSTANTIATE_TEST_SUITE_P(Real, GgufOfAVendor, testing::Values(smollm2, qwen),
                         [](const auto& each) { return std::string(each.param.golden); });

}  // namespace
}  // namespace backburn::model
