#include "backburn/model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "backburn/base/error.h"
#include "backburn/base/json.h"
#include "backburn/model/gguf_families.h"
#include "backburn/model/gguf_model.h"
#include "backburn/text/tokenizer.h"
#include "model/gguf_builder.h"

namespace backburn::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

GgufBuilder small_file() {
  return GgufBuilder()
      .text("general.architecture", "llama")
      .integer("llama.block_count", 1)
      .integer("llama.embedding_length", 4)
      .integer("llama.feed_forward_length", 8)
      .integer("llama.attention.head_count", 2)
      .integer("llama.attention.head_count_kv", 1)
      .integer("llama.context_length", 64)
      .number("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", "smollm")
      .texts("tokenizer.ggml.tokens", {"a", "b", "<|im_end|>", "<|endoftext|>"})
      .integers("tokenizer.ggml.token_type", {1, 1, 3, 1})
      .texts("tokenizer.ggml.merges", {"a b"})
      .integer("tokenizer.ggml.eos_token_id", 3)
      .floats("token_embd.weight", {4, 4}, std::vector<float>(16, 0.5f))
      .floats("output_norm.weight", {4}, {1, 2, 3, 4});
}

class Gguf : public testing::Test {
 protected:
  GgufFile open(const std::string& bytes) {
    write_bytes(path(), bytes);
    return GgufFile::open(path());
  }
  std::string error_of(const std::string& bytes) {
    try {
      const GgufFile file = open(bytes);
      config_from_gguf(file);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string path() const { return (folder_.path() / "m.gguf").string(); }

  TemporaryFolder folder_;
};

TEST_F(Gguf, ReadsMetadataAndTensors) {
  for (uint32_t version : {2u, 3u}) {
    const GgufFile file = open(small_file().build(version));
    EXPECT_EQ(file.string("general.architecture"), "llama");
    EXPECT_EQ(file.integer("llama.block_count"), 1);
    EXPECT_FLOAT_EQ(static_cast<float>(file.number("llama.attention.layer_norm_rms_epsilon")), 1e-5f);
    EXPECT_THAT(file.integers("tokenizer.ggml.token_type"), ElementsAre(1, 1, 3, 1));
    const GgufTensor* norm = file.find_tensor("output_norm.weight");
    ASSERT_NE(norm, nullptr);
    std::vector<float> values(4);
    dequantize(norm->type, file.bytes(*norm), values);
    EXPECT_THAT(values, ElementsAre(1, 2, 3, 4));
  }
}

TEST_F(Gguf, ShapesListTheOutermostDimensionFirst) {
  const GgufFile file = open(small_file().floats("x", {2, 3}, std::vector<float>(6)).build());
  EXPECT_THAT(file.find_tensor("x")->shape, ElementsAre(3, 2));
}

TEST_F(Gguf, FillsTheConfig) {
  const ModelConfig config = config_from_gguf(open(small_file().build()));
  EXPECT_EQ(config.vocab_size, 4);
  EXPECT_EQ(config.head_dim, 2);
  EXPECT_EQ(config.num_key_value_heads, 1);
  EXPECT_EQ(config.rope_theta, 10000.0);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_FALSE(config.attention_bias);
  // Token 3 is the file's own; token 2 is a control token that ends a turn.
  EXPECT_THAT(config.stop_token_ids, ElementsAre(3, 2));
}

TEST_F(Gguf, HandsOverTheVocabulary) {
  const text::Vocabulary words = vocabulary(open(small_file().build()));
  EXPECT_EQ(words.pre, "smollm");
  EXPECT_THAT(words.tokens, ElementsAre("a", "b", "<|im_end|>", "<|endoftext|>"));
  EXPECT_THAT(words.merges, ElementsAre("a b"));
}

TEST_F(Gguf, HandsOverASentencePieceVocabulary) {
  const GgufFile file = open(GgufBuilder()
                                 .text("tokenizer.ggml.model", "llama")
                                 .texts("tokenizer.ggml.tokens", {"<unk>", "a", "\u2581",
                                                                  "\u2581"
                                                                  "a"})
                                 .integers("tokenizer.ggml.token_type", {2, 1, 1, 1})
                                 .numbers("tokenizer.ggml.scores", {0, -2, -3, -1})
                                 .flag("tokenizer.ggml.add_space_prefix", false)
                                 .build());
  const text::Vocabulary words = vocabulary(file);
  EXPECT_EQ(words.model, "llama");
  EXPECT_THAT(words.scores, ElementsAre(0, -2, -3, -1));
  EXPECT_FALSE(words.add_space_prefix);
  const text::Tokenizer tokenizer = text::Tokenizer::from_vocabulary(words, "here");
  EXPECT_THAT(tokenizer.encode("a a"), ElementsAre(1, 3));
}

TEST_F(Gguf, NamesWhatIsWrong) {
  EXPECT_THAT(error_of("GGML"), HasSubstr("not a GGUF file"));
  EXPECT_THAT(error_of(small_file().build(1)), HasSubstr("version 1 is not supported"));
  EXPECT_THAT(error_of(small_file().build(0x03000000)), HasSubstr("big-endian"));
  EXPECT_THAT(error_of(small_file().integer("llama.block_count", 2).build()), HasSubstr("comes twice"));
  EXPECT_THAT(error_of(small_file().floats("output_norm.weight", {1}, {1}).build()), HasSubstr("comes twice"));
  EXPECT_THAT(error_of(small_file().tensor("x", 16, {256}, "").build()), HasSubstr("ggml type 16"));
  EXPECT_THAT(error_of(small_file().tensor("x", 8, {31}, "").build()), HasSubstr("multiple of 32"));
  EXPECT_THAT(error_of(small_file().tensor("x", 0, {1u << 30, 1u << 30}, "").build()), HasSubstr("impossible"));
  EXPECT_THAT(error_of(small_file().tensor("x", 0, {1u << 20}, "").build()), HasSubstr("beyond the file's"));
  EXPECT_THAT(error_of(small_file().integer("general.alignment", 24).build()), HasSubstr("power of two"));
  EXPECT_THAT(error_of(small_file().integer("tokenizer.ggml.bos_token_id", 4).build()),
              HasSubstr("outside the vocabulary"));
  EXPECT_THAT(error_of(small_file().text("llama.rope.scaling.type", "ntk").build()), HasSubstr("\"ntk\" is unknown"));
  EXPECT_THAT(error_of(small_file().text("llama.rope.scaling.type", "yarn").build()), HasSubstr("factor\" is missing"));
  EXPECT_THAT(error_of(small_file().text("llama.rope.scaling.type", "longrope").build()),
              HasSubstr("\"rope_factors_short.weight\" is missing"));
  EXPECT_THAT(error_of(small_file().integer("llama.expert_count", 4).build()),
              HasSubstr("expert_used_count\" is missing"));
  EXPECT_THAT(error_of(small_file().integer("llama.expert_count", 4).integer("llama.expert_used_count", 5).build()),
              HasSubstr("a mixture of 4 experts"));
  EXPECT_THAT(error_of(small_file().integer("split.count", 70000).integer("split.no", 70000).build()),
              HasSubstr("part 70001 of 70000"));
  EXPECT_THAT(error_of(GgufBuilder().text("general.architecture", "mamba").build()),
              HasSubstr("\"mamba\" is unknown (supported: llama, qwen2, qwen3, "));
}

TEST_F(Gguf, RefusesNestedArraysAndAbsurdLengths) {
  std::string nested, absurd, long_text;
  GgufBuilder::put<uint32_t>(nested, 9);
  GgufBuilder::put<uint64_t>(nested, 1);
  GgufBuilder::put<uint32_t>(absurd, 4);
  GgufBuilder::put<uint64_t>(absurd, ~uint64_t{0} / 4);
  GgufBuilder::put<uint64_t>(long_text, ~uint64_t{0});
  EXPECT_THAT(error_of(small_file().raw("k", 9, nested).build()), HasSubstr("array of arrays"));
  EXPECT_THAT(error_of(small_file().raw("k", 9, absurd).build()), HasSubstr("more than the"));
  EXPECT_THAT(error_of(small_file().raw("k", 8, long_text).build()), HasSubstr("byte "));
}

TEST_F(Gguf, EveryTruncationIsAnError) {
  const std::string whole = small_file().build();
  for (size_t length = 0; length < whole.size() - 16; ++length) {  // the last 16 bytes pad the last tensor
    write_bytes(path(), whole.substr(0, length));
    EXPECT_THROW(GgufFile::open(path()), Error) << "cut to " << length << " bytes";
  }
}

TEST_F(Gguf, RandomDamageIsAnErrorOrReadable) {
  const std::string whole = small_file().build();
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (unsigned i = 0; i <= random() % 4; ++i) {
      damaged[random() % damaged.size()] = static_cast<char>(random() % 3 == 0 ? 0xff : random() % 256);
    }
    try {
      const GgufFile file = open(damaged);
      for (const GgufTensor& tensor : file.tensors()) {
        std::vector<float> values(static_cast<size_t>(tensor.values()));
        dequantize(tensor.type, file.bytes(tensor), values);
      }
      config_from_gguf(file);
      vocabulary(file);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Ggml, DequantizesBitForBitAsTheReference) {
  const Json golden = read_json_file(TEST_DATA_DIR "/ggml_goldens.json");
  ASSERT_EQ(golden["cases"].size(), 16u);
  for (const auto& [name, each] : golden["cases"].items()) {
    const auto type = ggml_type(each["type"].get<uint32_t>());
    ASSERT_TRUE(type.has_value()) << name;
    EXPECT_EQ(ggml_type_name(*type), name);
    const std::string blocks = from_hex(each["blocks"]);
    const std::string expected = from_hex(each["values"]);
    std::vector<float> values(expected.size() / sizeof(float));
    dequantize(*type, std::as_bytes(std::span(blocks)), values);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0) << name;
  }
}

TEST(Ggml, QuantizesBitForBitAsTheReference) {
  const Json golden = read_json_file(TEST_DATA_DIR "/ggml_goldens.json")["written"];
  const std::string stored = from_hex(golden["values"]);
  std::vector<float> values(stored.size() / sizeof(float));
  std::memcpy(values.data(), stored.data(), stored.size());
  for (const auto& [name, type] : {std::pair{"F16", GgmlType::f16}, std::pair{"BF16", GgmlType::bf16},
                                   std::pair{"Q8_0", GgmlType::q8_0}, std::pair{"Q4_0", GgmlType::q4_0}}) {
    const std::string expected = from_hex(golden[name]);
    std::string found(expected.size(), '\0');
    quantize(type, values, std::as_writable_bytes(std::span(found)));
    EXPECT_EQ(found, expected) << name;
  }
  std::vector<std::byte> blocks(20);
  EXPECT_THROW(quantize(GgmlType::q4_1, std::span(values).first(32), blocks), Error);
}

TEST(Ggml, RefusesBytesThatDoNotFit) {
  std::vector<std::byte> blocks(34);
  std::vector<float> values(64);
  EXPECT_THROW(dequantize(GgmlType::q8_0, blocks, values), Error);
  values.resize(31);
  EXPECT_THROW(dequantize(GgmlType::q8_0, blocks, values), Error);
}

}  // namespace
}  // namespace backburn::model
