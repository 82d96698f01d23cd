// Tokenizers of every kind against Hugging Face `tokenizers` and the sentencepiece library
// (tools/make_tokenizer_kinds.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <random>

#include "backburn/text/normalizer.h"
#include "backburn/text/sentencepiece.h"
#include "backburn/text/tokenizer_json.h"
#include "backburn/text/utf8.h"
#include "tokenizer_goldens.h"

namespace backburn::text {
namespace {

using testing::HasSubstr;
using Ids = std::vector<std::vector<int32_t>>;

std::string kinds_file(const std::string& name) { return TEST_DATA_DIR "/kinds/" + name; }

const Json& goldens() {
  static const Json json = read_json_file(TEST_DATA_DIR "/kinds.json");
  return json;
}

std::string hash_ids(const Ids& lists) {
  std::vector<int32_t> all;
  for (const auto& ids : lists) {
    all.insert(all.end(), ids.begin(), ids.end());
    all.push_back(INT32_MAX);
  }
  return fnv(all).substr(0, 8);
}

std::string hash_texts(const std::vector<std::string>& texts) {
  std::string joined;
  for (size_t i = 0; i < texts.size(); ++i) joined += (i == 0 ? "" : std::string(1, '\0')) + texts[i];
  return fnv(joined).substr(0, 8);
}

// Compares block by block; the first block that differs is shown.
template <typename Item, typename Hash>
void expect_blocks(const std::vector<Item>& items, const Json& expected, const Hash& hash, const char* what) {
  const auto block = goldens()["block"].get<size_t>();
  ASSERT_EQ((items.size() + block - 1) / block, expected.size());
  size_t differ = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto begin = items.begin() + static_cast<std::ptrdiff_t>(i * block);
    const std::vector<Item> mine(begin, begin + static_cast<std::ptrdiff_t>(std::min(block, items.size() - i * block)));
    if (hash(mine) == expected[i].get<std::string>()) continue;
    if (++differ <= 2) ADD_FAILURE() << what << ": block " << i << " differs: " << Json(mine).dump();
  }
  EXPECT_EQ(differ, 0u) << what << ": blocks of " << expected.size();
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special_tokens) {
  StreamDecoder stream(tokenizer, skip_special_tokens);
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = stream.push(id);
    EXPECT_TRUE(is_utf8(part));
    text += part;
  }
  return text + stream.finish();
}

// As some_ids() in the script.
Ids some_ids(int32_t size) {
  Ids lists;
  for (int64_t i = 0; i < 300; ++i) {
    lists.emplace_back();
    for (int64_t j = 0; j < 1 + i % 9; ++j) {
      lists.back().push_back(static_cast<int32_t>((i * 7919 + j * 104729 + i * j * 31) % size));
    }
  }
  return lists;
}

Ids encoded(const Tokenizer& tokenizer, bool parse_special) {
  Ids lists;
  for (const std::string& text : golden_strings()) lists.push_back(tokenizer.encode(text, parse_special));
  return lists;
}

std::vector<std::string> decoded(const Tokenizer& tokenizer, const Ids& lists, bool skip_special_tokens) {
  std::vector<std::string> texts;
  for (const auto& ids : lists) {
    texts.push_back(tokenizer.decode(ids, skip_special_tokens));
    EXPECT_EQ(texts.back(), streamed(tokenizer, ids, skip_special_tokens));
  }
  return texts;
}

void expect_kind(const Tokenizer& tokenizer, const Json& golden) {
  ASSERT_EQ(tokenizer.size(), golden["size"].get<int64_t>());
  const Ids ids = encoded(tokenizer, true);
  expect_blocks(ids, golden["ids"], hash_ids, "ids");
  EXPECT_EQ(hash_ids(encoded(tokenizer, false)), golden["plain"].get<std::string>());
  expect_blocks(decoded(tokenizer, ids, true), golden["decoded"], hash_texts, "decoded");
  const Ids some = some_ids(static_cast<int32_t>(tokenizer.size()));
  expect_blocks(decoded(tokenizer, some, true), golden["some"], hash_texts, "decoded of any ids");
  EXPECT_EQ(hash_texts(decoded(tokenizer, some, false)), golden["some_with_special"].get<std::string>());
  EXPECT_EQ(tokenizer.with_special_tokens(tokenizer.encode("hello a 1")),
            golden["wrapped"].get<std::vector<int32_t>>());
}

TEST(TokenizerKinds, AgreeWithHuggingFace) {
  for (const auto& [name, golden] : goldens()["tokenizers_json"].items()) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = Tokenizer::from_file(kinds_file(name + ".json"));
    expect_kind(tokenizer, golden);
    // What is written is read back the same.
    const Tokenizer again = Tokenizer::from_json(tokenizer.to_json(), "again.json");
    EXPECT_EQ(hash_ids(encoded(again, true)), hash_ids(encoded(tokenizer, true)));
    EXPECT_EQ(again.to_json().dump(), tokenizer.to_json().dump());
  }
}

TEST(TokenizerKinds, SentencePieceModelsAgreeWithTheLibrary) {
  for (const auto& [name, golden] : goldens()["models"].items()) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = Tokenizer::from_file(kinds_file(name + ".model"));
    expect_blocks(encoded(tokenizer, false), golden["ids"], hash_ids, "ids");
    const std::string text = "hello, two people \u2581x caf\u00E9 <table>";
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), streamed(tokenizer, tokenizer.encode(text), true));
    // The library never finds control symbols in a text; here they are special tokens.
    EXPECT_THAT(tokenizer.encode("</s>"), testing::ElementsAre(tokenizer.id_of("</s>").value()));

    // tokenizer.json says the same to other programs.
    const Tokenizer exported = Tokenizer::from_json(tokenizer.to_json(), "exported.json");
    EXPECT_EQ(exported.encode("how many people use photosynthesis 12"),
              tokenizer.encode("how many people use photosynthesis 12"));
    EXPECT_EQ(exported.decode(exported.encode("how many people")), "how many people");
  }
}

Vocabulary llama_vocabulary() {
  const Json& gguf = goldens()["models"]["sp_llama"]["gguf"];
  Vocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = gguf["tokens"].get<std::vector<std::string>>();
  vocabulary.scores = gguf["scores"].get<std::vector<double>>();
  vocabulary.token_types = gguf["types"].get<std::vector<int32_t>>();
  return vocabulary;
}

TEST(TokenizerKinds, GgufOfSentencePieceAgreesWithTheLibrary) {
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(llama_vocabulary(), "v.gguf");
  expect_blocks(encoded(tokenizer, false), goldens()["models"]["sp_llama"]["ids"], hash_ids, "ids");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("two  people\u4E2D")), "two  people\u4E2D");
}

TEST(TokenizerKinds, SayWhatIsWrongWithAGguf) {
  const auto error_of = [](const Vocabulary& vocabulary) -> std::string {
    try {
      Tokenizer::from_vocabulary(vocabulary, "v.gguf");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  Vocabulary wrong = llama_vocabulary();
  wrong.model = "rwkv";
  EXPECT_THAT(error_of(wrong), HasSubstr("v.gguf: tokenizer \"rwkv\" (tokenizer.ggml.model) is not known"));
  wrong = llama_vocabulary();
  wrong.scores.pop_back();
  EXPECT_THAT(error_of(wrong), HasSubstr("tokenizer.ggml.scores has"));
  wrong = llama_vocabulary();
  wrong.model = "gpt2";
  wrong.pre = "default";
  EXPECT_THAT(error_of(wrong), HasSubstr("is a byte token"));
}

TEST(TokenizerKinds, PreTokenizersThatGgufNames) {
  for (const std::string name :
       {"gpt-2", "smollm", "qwen2", "llama-bpe", "dbrx", "tekken", "gpt-4o", "deepseek-v3", "falcon", "default"}) {
    SCOPED_TRACE(name);
    Vocabulary vocabulary{.pre = name};
    const Tokenizer llama3 = Tokenizer::from_file(kinds_file("llama3.json"));
    const Json json = read_json_file(kinds_file("llama3.json"));
    for (int32_t id = 0; id < llama3.size(); ++id) vocabulary.tokens.emplace_back(llama3.token(id));
    for (const Json& merge : json["model"]["merges"]) {
      vocabulary.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    }
    const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary, "v.gguf");
    for (const std::string& text : golden_strings()) {
      const std::string whole = repaired_utf8(text);
      const std::string expected = name == "qwen2" ? normal_form(whole, NormalForm::nfc) : whole;
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), expected);
    }
    if (name == "llama-bpe") {
      EXPECT_EQ(tokenizer.encode("don't 12345!"), llama3.encode("don't 12345!"));
    }
  }
}

TEST(Normalizer, AgreesWithHuggingFaceOnAllCodePoints) {
  for (const Json& golden : read_json_file(TEST_DATA_DIR "/normalizers.json")) {
    const Normalizer normalizer = Normalizer::from_json(golden["normalizer"], "here");
    std::string hashes;
    for (char32_t start = 0; start < 0x110000; start += 256) {
      std::string line;
      for (char32_t c = start; c < start + 256; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        line += 'x';
        append_utf8(line, c);
        line += 'y';
      }
      if (!line.empty()) hashes += fnv(normalizer.apply(line)).substr(0, 8);
    }
    EXPECT_EQ(fnv(hashes), golden["hash"].get<std::string>()) << golden["normalizer"].dump();
  }
}

TEST(TokenizerKinds, TakeLongTextsInTheirStride) {
  const auto start = std::chrono::steady_clock::now();
  for (const std::string file : {"llama2.json", "gemma.json", "t5.json", "bert.json", "gpt.json", "unigram_lines.json",
                                 "sp_llama.model", "sp_unigram.model"}) {
    const Tokenizer tokenizer = Tokenizer::from_file(kinds_file(file));
    for (const std::string unit : {"a", " ", "\u4E2D", "e\u0301", "two people "}) {
      std::string text;
      while (text.size() < 100'000) text += unit;
      tokenizer.decode(tokenizer.encode(text));
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

// `good` with a few bytes changed, dropped, doubled or put in.
std::string damaged(const std::string& good, std::mt19937& random) {
  std::string bad = good;
  for (unsigned i = 0; i <= random() % 4 && !bad.empty(); ++i) {
    const size_t at = random() % bad.size();
    switch (random() % 4) {
      case 0: bad[at] = static_cast<char>(random() % 256); break;
      case 1: bad.erase(at, 1 + random() % 20); break;
      case 2: bad.insert(at, bad.substr(random() % bad.size(), random() % 30)); break;
      default: bad.insert(at, std::to_string(random()));
    }
  }
  return bad;
}

TEST(TokenizerKinds, SurviveDamagedFiles) {
  std::mt19937 random(17);
  int loaded = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TEST_DATA_DIR "/kinds")) {
    const std::string good = read_file(entry.path());
    const bool is_model = entry.path().extension() == ".model";
    for (int round = 0; round < (is_model ? 400 : 100); ++round) {
      const std::string bad = damaged(good, random);
      try {
        const Tokenizer tokenizer =
            is_model ? Tokenizer::from_sentencepiece(bad, "bad.model") : Tokenizer::from_json_text(bad, "bad.json");
        ++loaded;
        const std::string text = "Hello, <|im_end|> w\u00F6rld 42 \u1ED9 hello-token e\u0301";
        EXPECT_TRUE(is_utf8(tokenizer.decode(tokenizer.encode(text))));
        Tokenizer::from_json(tokenizer.to_json(), "again.json");
      } catch (const Error&) {
      }
    }
  }
  EXPECT_GT(loaded, 100);  // else nothing behind the parsers was tried
}

TEST(SentencePiece, SaysWhatIsWrong) {
  const auto error_of = [](std::string_view bytes) -> std::string {
    try {
      Tokenizer::from_sentencepiece(bytes, "t.model");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_of(""), HasSubstr("t.model: not a SentencePiece model: it has no pieces"));
  EXPECT_THAT(error_of("\x0A\x7F"
                       "a"),
              HasSubstr("t.model: not a SentencePiece model: the protobuf is damaged"));
  const std::string piece(
      "\x0A\x03\x0A\x01"
      "a",
      5);
  EXPECT_THAT(error_of(piece), HasSubstr("no unknown token"));
  EXPECT_THAT(error_of(piece + std::string("\x12\x02\x18\x04", 4)), HasSubstr("model type 4 is not supported"));
}

}  // namespace
}  // namespace backburn::text
