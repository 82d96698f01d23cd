#include "backburn/text/vocabulary_of.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "backburn/base/error.h"
#include "tokenizer_goldens.h"

namespace backburn::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tokenizer kind(const std::string& name) { return Tokenizer::from_file(TEST_DATA_DIR "/kinds/" + name); }

// Ids of the test strings without special tokens, by the tokenizer and by what a GGUF file would say of it. Of tokens
// that take spaces around them, or that are whole words only, GGUF files say nothing.
void expect_equal_ids(const std::string& name, const char* model, const char* pre) {
  const Tokenizer tokenizer = kind(name);
  const auto size = static_cast<size_t>(tokenizer.size());
  const Vocabulary words = vocabulary_of(tokenizer, size + 2);
  EXPECT_EQ(words.model, model) << name;
  EXPECT_EQ(words.pre, pre) << name;
  ASSERT_EQ(words.tokens.size(), size + 2);
  EXPECT_EQ(words.tokens.back(), "[PAD" + std::to_string(size + 1) + "]");
  EXPECT_EQ(words.token_types.back(), 5);
  const Tokenizer again = Tokenizer::from_vocabulary(words, name);
  const Json added = tokenizer.to_json()["added_tokens"];
  const auto holds_added_token = [&](const std::string& text) {
    const auto is_in = [&](const Json& token) { return text.find(token["content"].get<std::string>()) != text.npos; };
    return std::any_of(added.begin(), added.end(), is_in);
  };
  size_t compared = 0;
  for (const std::string& text : golden_strings()) {
    // HF's Metaspace puts no "\u2581" before a space.
    if (holds_added_token(text) || (words.model == "llama" && text.starts_with(' '))) continue;
    const auto ids = tokenizer.encode(text);
    ASSERT_EQ(again.encode(text), ids) << name << ": " << text;
    EXPECT_EQ(again.decode(ids), tokenizer.decode(ids)) << name << ": " << text;
    if (++compared == 1000) break;
  }
  EXPECT_EQ(compared, 1000u) << name;
}

TEST(VocabularyOf, GivesTheSameIdsAgain) {
  expect_equal_ids("llama3.json", "gpt2", "llama-bpe");
  expect_equal_ids("gpt_4o.json", "gpt2", "gpt-4o");
  expect_equal_ids("llama2.json", "llama", "");
  expect_equal_ids("mistral.json", "llama", "");
  expect_equal_ids("gemma.json", "llama", "");
  expect_equal_ids("sp_llama.model", "llama", "");
}

TEST(VocabularyOf, TypesSayWhichTokensAreSpecial) {
  const Vocabulary given{"gpt-2", {"a", "b", "ab", "<s>", "tool"}, {1, 1, 1, 3, 4}, {"a b"}};
  const Vocabulary words = vocabulary_of(Tokenizer::from_vocabulary(given, "here"), 6);
  EXPECT_THAT(words.tokens, ElementsAre("a", "b", "ab", "<s>", "tool", "[PAD5]"));
  EXPECT_THAT(words.token_types, ElementsAre(1, 1, 1, 3, 4, 5));
  EXPECT_THAT(words.merges, ElementsAre("a b"));
  const auto read_again = Tokenizer::from_vocabulary(words, "here");
  EXPECT_EQ(vocabulary_of(read_again, 6).token_types, words.token_types);
  EXPECT_FALSE(read_again.to_json()["model"]["vocab"].contains("[PAD5]"));
}

TEST(VocabularyOf, RefusesWhatGgufFilesHaveNoFormFor) {
  const auto error_of = [](const std::string& name) -> std::string {
    try {
      vocabulary_of(kind(name), 1 << 20);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_of("bert.json"), HasSubstr("export safetensors instead"));
  EXPECT_THAT(error_of("t5.json"), HasSubstr("export safetensors instead"));
  EXPECT_THAT(error_of("gpt.json"), HasSubstr("export safetensors instead"));
  EXPECT_THAT(error_of("roberta.json"), HasSubstr("no name for this tokenizer's pre-tokenizer"));
  EXPECT_THROW(vocabulary_of(kind("llama3.json"), 3), Error);
}

}  // namespace
}  // namespace backburn::text
