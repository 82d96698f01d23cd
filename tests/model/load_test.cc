#include "backburn/model/load.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/pull.h"
#include "model/gguf_builder.h"

namespace backburn::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> counting(int64_t size, float first) {
  std::vector<float> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) values[i] = first + 0.25f * static_cast<float>(i % 64);
  return values;
}

// A model of one layer: hidden 8, two query heads of 4, one key and value head, intermediate 16, five tokens.
struct Tiny {
  std::string architecture = "llama";
  float norm = 1;
  bool with_down = true;
  std::vector<std::string> tokens = {"a", "b", "ab", "<|im_end|>", "<|pad|>"};

  std::string build() const {
    GgufBuilder file;
    const std::string p = architecture + ".";
    file.text("general.architecture", architecture)
        .integer(p + "block_count", 1)
        .integer(p + "embedding_length", 8)
        .integer(p + "feed_forward_length", 16)
        .integer(p + "attention.head_count", 2)
        .integer(p + "attention.head_count_kv", 1)
        .integer(p + "context_length", 64)
        .number(p + "attention.layer_norm_rms_epsilon", 1e-5f)
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "smollm")
        .texts("tokenizer.ggml.tokens", tokens)
        .integers("tokenizer.ggml.token_type", types())
        .texts("tokenizer.ggml.merges", {"a b"})
        .integer("tokenizer.ggml.eos_token_id", 3)
        .integer("tokenizer.ggml.padding_token_id", 4)
        .text("tokenizer.chat_template", "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}");
    file.floats("token_embd.weight", {8, 5}, counting(40, 0));
    file.floats("output_norm.weight", {8}, std::vector<float>(8, norm));
    file.floats("blk.0.attn_norm.weight", {8}, counting(8, 1));
    file.floats("blk.0.ffn_norm.weight", {8}, counting(8, 1));
    file.floats("blk.0.attn_q.weight", {8, 8}, counting(64, 0));
    file.floats("blk.0.attn_k.weight", {8, 4}, counting(32, 0));
    file.floats("blk.0.attn_v.weight", {8, 4}, counting(32, 0));
    file.floats("blk.0.attn_output.weight", {8, 8}, counting(64, 0));
    file.floats("blk.0.ffn_gate.weight", {8, 16}, counting(128, 0));
    file.floats("blk.0.ffn_up.weight", {8, 16}, counting(128, 0));
    if (with_down) file.floats("blk.0.ffn_down.weight", {16, 8}, counting(128, 0));
    if (architecture == "qwen2") {
      file.floats("blk.0.attn_q.bias", {8}, counting(8, 0));
      file.floats("blk.0.attn_k.bias", {4}, counting(4, 0));
      file.floats("blk.0.attn_v.bias", {4}, counting(4, 0));
    }
    return file.build();
  }

 private:
  std::vector<int32_t> types() const {
    std::vector<int32_t> list;
    for (const std::string& token : tokens) list.push_back(token.starts_with("<|") ? 3 : 1);
    return list;
  }
};

class Load : public testing::Test {
 protected:
  Model load(const Tiny& tiny, at::ScalarType dtype = at::kFloat) {
    write_bytes(path(), tiny.build());
    return load_model(path(), dtype);
  }
  std::string error_of(const Tiny& tiny) {
    try {
      load(tiny);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string path() const { return (folder_.path() / "tiny.gguf").string(); }
  TemporaryFolder folder_;
};

TEST_F(Load, LlamaQueryAndKeyRowsAreTakenBackToHalfSplitRope) {
  const Model model = load({});
  const at::Tensor stored = at::tensor(counting(64, 0)).reshape({8, 8});
  // numpy: w.reshape(heads, d // 2, 2, in).swapaxes(1, 2).reshape(w.shape)
  const at::Tensor expected = stored.reshape({2, 2, 2, 8}).transpose(1, 2).reshape({8, 8});
  EXPECT_TRUE(at::equal(model.weights.layers[0].q, expected));
  EXPECT_FALSE(at::equal(model.weights.layers[0].q, stored));
  EXPECT_TRUE(at::equal(model.weights.layers[0].o, stored));
}

TEST_F(Load, QwenRowsStayAndBiasesAreRead) {
  Tiny tiny;
  tiny.architecture = "qwen2";
  const Model model = load(tiny);
  EXPECT_TRUE(at::equal(model.weights.layers[0].q, at::tensor(counting(64, 0)).reshape({8, 8})));
  EXPECT_TRUE(at::equal(model.weights.layers[0].q_bias, at::tensor(counting(8, 0))));
}

TEST_F(Load, AMissingOutputMatrixIsTheEmbedding) {
  const Model model = load({});
  EXPECT_TRUE(model.config.tie_word_embeddings);
  EXPECT_EQ(model.weights.head.const_data_ptr(), model.weights.embedding.const_data_ptr());
}

TEST_F(Load, TheDtypeIsTheOneAskedFor) {
  const Model model = load({}, at::kBFloat16);
  EXPECT_EQ(model.network().dtype(), at::kBFloat16);
  EXPECT_TRUE(at::equal(model.weights.layers[0].down, at::tensor(counting(128, 0)).reshape({8, 16}).to(at::kBFloat16)));
}

TEST_F(Load, NamesWhatIsWrong) {
  Tiny broken;
  broken.norm = std::nanf("");
  EXPECT_THAT(error_of(broken), HasSubstr("\"output_norm.weight\" holds a NaN or an infinity"));
  broken = {};
  broken.with_down = false;
  EXPECT_THAT(error_of(broken), HasSubstr("\"blk.0.ffn_down.weight\" is missing"));
  broken = {};
  broken.tokens.emplace_back("c");
  EXPECT_THAT(error_of(broken), HasSubstr("tokenizer has 6 tokens, the embedding only 5"));
  try {
    load_model("gpt-9", at::kFloat);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("smollm2-135m-instruct"));
  }
}

TEST_F(Load, AChatPromptIsTheTemplatesText) {
  const Model model = load({});
  EXPECT_THAT(chat_prompt(model, "ab"), ElementsAre(2, 3));
  EXPECT_THAT(chat_prompt(model, "b", "a"), ElementsAre(0, 3, 1, 3));
}

TEST_F(Load, ASavedFolderLoadsAsTheSameModel) {
  for (const char* architecture : {"llama", "qwen2"}) {
    Tiny tiny;
    tiny.architecture = architecture;
    const Model before = load(tiny);
    const auto folder = folder_.path() / "saved";
    save_hugging_face(before, folder, at::kFloat);
    const Model after = load_model(folder.string(), at::kFloat);
    EXPECT_EQ(after.name, "saved");
    EXPECT_EQ(after.config.architecture, architecture);
    EXPECT_EQ(after.config.stop_token_ids, before.config.stop_token_ids);
    EXPECT_EQ(chat_prompt(after, "ab", "b"), chat_prompt(before, "ab", "b"));
    Weights left = before.weights, right = after.weights;
    const auto expected = named_weights(before.config, left);
    const auto found = named_weights(after.config, right);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_TRUE(at::equal(*found[i].tensor, *expected[i].tensor)) << found[i].name;
    }
  }
}

TEST_F(Load, GenerationConfigAddsStopTokens) {
  const auto folder = folder_.path() / "saved";
  save_hugging_face(load({}), folder, at::kFloat);
  write_file(folder / "generation_config.json", R"({"eos_token_id": [3, 4]})");
  EXPECT_THAT(load_model(folder.string(), at::kFloat).config.stop_token_ids, ElementsAre(3, 4));
  write_file(folder / "generation_config.json", R"({"eos_token_id": [5]})");
  EXPECT_THROW(load_model(folder.string(), at::kFloat), Error);
}

TEST(LoadReal, SmolLM2SpeaksItsTemplate) {
  const NamedModel& named = *find_named_model("smollm2-135m-instruct");
  if (!std::filesystem::exists(cached_path(named))) {
    GTEST_SKIP() << cached_path(named).string() << " is not there: run `backburn pull smollm2-135m-instruct`";
  }
  const Model model = load_model(named.name, at::TensorOptions());
  EXPECT_EQ(model.name, named.name);
  EXPECT_EQ(parameter_count(model.config), 134515008);
  EXPECT_EQ(model.config.stop_token_ids.front(), 2);
  // Transformers 5: apply_chat_template of the same messages.
  EXPECT_THAT(chat_prompt(model, "Write a short poem.", "Be brief."),
              ElementsAre(1, 9690, 198, 6077, 5453, 30, 2, 198, 1, 4093, 198, 19161, 253, 1890, 8216, 30, 2, 198, 1,
                          520, 9531, 198));
}

}  // namespace
}  // namespace backburn::model
