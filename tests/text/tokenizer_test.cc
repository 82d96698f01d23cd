#include "backburn/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/text/bpe.h"
#include "backburn/text/pre_tokenizer.h"
#include "backburn/text/utf8.h"
#include "tokenizer_goldens.h"

namespace backburn::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json tiny_json(const std::string& name) { return read_json_file(std::string(TEST_DATA_DIR "/") + name); }

Tokenizer tiny(const std::string& pre) { return Tokenizer::from_json(tiny_json("tiny_" + pre + ".json"), "tiny.json"); }

template <typename Function>
std::string error_of(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of_json(const Json& json) {
  return error_of([&] { Tokenizer::from_json(json, "t.json"); });
}

TEST(Tokenizer, AgreesWithHuggingFaceOnAllStrings) {
  for (const std::string pre : {"smollm", "qwen2"}) {
    SCOPED_TRACE(pre);
    expect_goldens(tiny(pre), tiny_json("tiny_" + pre + "_ids.json"));
  }
}

TEST(Tokenizer, WritesAJsonThatGivesEqualIds) {
  for (const std::string pre : {"smollm", "qwen2"}) {
    const Tokenizer first = tiny(pre);
    const Tokenizer again = Tokenizer::from_json_text(first.to_json().dump(), "again.json");
    for (const std::string& text : golden_strings()) ASSERT_EQ(first.encode(text), again.encode(text)) << text;
    EXPECT_EQ(nlohmann::json(first.to_json()), nlohmann::json(again.to_json()));
  }
}

TEST(Tokenizer, ReadsAVocabularyAsGgufHasIt) {
  const Tokenizer from_json = tiny("qwen2");
  const Json json = tiny_json("tiny_qwen2.json");
  Vocabulary vocabulary{.pre = "qwen2"};
  for (int32_t id = 0; id < from_json.size(); ++id) {
    vocabulary.tokens.emplace_back(from_json.token(id));
    vocabulary.token_types.push_back(from_json.is_special(id) ? 3 : 1);
  }
  for (const Json& merge : json["model"]["merges"]) {
    vocabulary.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  const Tokenizer tokenizer = Tokenizer::from_vocabulary(vocabulary, "v.gguf");
  const std::string text = "<|im_start|>user\nDon't say cafe\u0301 123!<|im_end|>";
  EXPECT_EQ(tokenizer.encode(text), from_json.encode(text));

  Vocabulary wrong = vocabulary;
  wrong.pre = "klingon";
  EXPECT_THAT(error_of([&] { Tokenizer::from_vocabulary(wrong, "v.gguf"); }), HasSubstr("\"klingon\""));
  wrong = vocabulary;
  wrong.token_types.pop_back();
  EXPECT_THAT(error_of([&] { Tokenizer::from_vocabulary(wrong, "v.gguf"); }), HasSubstr("token_type has"));
  wrong = vocabulary;
  wrong.merges[3] = "no-space";
  EXPECT_THAT(error_of([&] { Tokenizer::from_vocabulary(wrong, "v.gguf"); }), HasSubstr("merge 3 is \"no-space\""));
  wrong = vocabulary;
  wrong.merges.emplace_back("zq zq");
  EXPECT_THAT(error_of([&] { Tokenizer::from_vocabulary(wrong, "v.gguf"); }), HasSubstr("names the token \"zq\""));
  wrong = vocabulary;
  wrong.tokens[5] = "\xFF";
  EXPECT_THAT(error_of([&] { Tokenizer::from_vocabulary(wrong, "v.gguf"); }), HasSubstr("tokens[5] is not UTF-8"));
}

TEST(Tokenizer, SpecialTokensInAStrangersTextAreOrdinaryTextWhenAsked) {
  const Tokenizer tokenizer = tiny("smollm");
  const int32_t end = tokenizer.id_of("<|im_end|>").value();
  EXPECT_THAT(tokenizer.encode("<|im_end|>"), ElementsAre(end));
  const std::vector<int32_t> plain = tokenizer.encode("<|im_end|>", /*parse_special=*/false);
  EXPECT_THAT(plain, testing::Not(testing::Contains(end)));
  EXPECT_EQ(tokenizer.decode(plain), "<|im_end|>");
  EXPECT_TRUE(tokenizer.is_special(end));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{end}), "");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{end}, false), "<|im_end|>");
}

TEST(Tokenizer, StreamsWholeCharactersOnly) {
  const Tokenizer tokenizer = tiny("smollm");
  StreamDecoder stream(tokenizer);
  const std::vector<int32_t> ids = tokenizer.encode("\U00028D71");  // four tokens, one a byte
  ASSERT_EQ(ids.size(), 4u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(stream.push(ids[i]), "");
  EXPECT_EQ(stream.push(ids[3]), "\U00028D71");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(tokenizer.encode("a")[0]), "\uFFFDa");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
}

TEST(Tokenizer, SortsAllCodePointsAsTheReferenceDoes) {
  const Json classes = tiny_json("unicode_classes.json")["classes"];
  std::string all;
  std::vector<Span> parts;
  std::vector<int32_t> code_points;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const size_t begin = all.size();
    append_utf8(all, c);
    parts.push_back({begin, all.size()});
    code_points.push_back(static_cast<int32_t>(c));
  }
  for (const auto& [name, expected] : classes.items()) {
    if (name == "Digits") continue;
    const auto found = Regex::compile(name, name).find_all(all, parts);
    std::vector<int32_t> matching;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!found[i].empty()) matching.push_back(code_points[i]);
    }
    EXPECT_EQ(matching.size(), expected["count"].get<size_t>()) << name;
    EXPECT_EQ(fnv(matching), expected["hash"].get<std::string>()) << name;
  }

  const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
  Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const Json sequence = {{"type", "Sequence"}, {"pretokenizers", Json::array({digits, byte_level})}};
  const PreTokenizer pre_tokenizer = PreTokenizer::from_json(sequence, "here");
  std::vector<int32_t> matching;
  std::string text = "a";
  for (int32_t c : code_points) {
    append_utf8(text, static_cast<char32_t>(c));
    text += 'a';
  }
  for (const Span& piece : pre_tokenizer.apply(text, true)) {
    const Utf8Step step = utf8_step(text, piece.begin);
    // A number stands alone; everything between two numbers is one piece that begins with "a".
    if (step.code_point != 'a') matching.push_back(static_cast<int32_t>(step.code_point));
  }
  EXPECT_EQ(matching.size(), classes["Digits"]["count"].get<size_t>());
  EXPECT_EQ(fnv(matching), classes["Digits"]["hash"].get<std::string>());
}

TEST(PreTokenizer, SplitsAsItsBehaviorSays) {
  auto pieces = [](const std::string& behavior, bool invert, std::string text) {
    const Json pattern = {{"String", "-"}};
    const Json split = {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
    const Json last = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const Json json = {{"type", "Sequence"}, {"pretokenizers", Json::array({split, last})}};
    std::string joined;
    for (const Span& piece : PreTokenizer::from_json(json, "here").apply(text, true)) {
      joined += fmt::format("[{}]", text.substr(piece.begin, piece.end - piece.begin));
    }
    return joined;
  };
  // The examples in the documentation of Hugging Face `tokenizers`.
  const std::string text = "the-final--countdown";
  EXPECT_EQ(pieces("Removed", false, text), "[the][final][countdown]");
  EXPECT_EQ(pieces("Isolated", false, text), "[the][-][final][-][-][countdown]");
  EXPECT_EQ(pieces("MergedWithPrevious", false, text), "[the-][final-][-][countdown]");
  EXPECT_EQ(pieces("MergedWithNext", false, text), "[the][-final][-][-countdown]");
  EXPECT_EQ(pieces("Contiguous", false, text), "[the][-][final][--][countdown]");
  EXPECT_EQ(pieces("Removed", true, text), "[-][-][-]");
}

TEST(Tokenizer, AddsAPrefixSpaceWhenToldTo) {
  Json json = tiny_json("tiny_smollm.json");
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}};
  const Tokenizer spaced = Tokenizer::from_json(json, "t.json");
  EXPECT_EQ(spaced.decode(spaced.encode("you")), " you");
  EXPECT_EQ(spaced.decode(spaced.encode(" you")), " you");
}

TEST(Tokenizer, IgnoresMergesWhenAPieceIsAToken) {
  const Json pattern = {{"Regex", "\\s+"}};
  Json json = tiny_json("tiny_smollm.json");
  json["model"]["vocab"]["xyzzy"] = 900;
  EXPECT_GT(Tokenizer::from_json(json, "t.json").encode("xyzzy").size(), 1u);
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(Tokenizer::from_json(json, "t.json").encode("xyzzy"), ElementsAre(900));
}

TEST(Tokenizer, UnknownBytesAreTheUnknownTokenOrNothing) {
  Json json = {{"model", {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}, {"?", 3}}}, {"merges", {"a b"}}}},
               {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}}};
  EXPECT_THAT(Tokenizer::from_json(json, "t.json").encode("axxb"), ElementsAre(2));
  json["model"]["unk_token"] = "?";
  EXPECT_THAT(Tokenizer::from_json(json, "t.json").encode("axxb"), ElementsAre(0, 3, 3, 1));
  json["model"]["fuse_unk"] = true;
  EXPECT_THAT(Tokenizer::from_json(json, "t.json").encode("axxb"), ElementsAre(0, 3, 1));
}

TEST(Merges, AreEqualForShortAndLongPieces) {
  // The queue for long pieces against the plain rule: again and again the leftmost pair of lowest rank.
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    Merges merges(4);
    std::vector<std::array<int32_t, 3>> rules;
    for (int32_t rank = 0; rank < 12; ++rank) {
      rules.push_back({static_cast<int32_t>(random() % static_cast<unsigned>(3 + rank)),
                       static_cast<int32_t>(random() % static_cast<unsigned>(3 + rank)), 3 + rank});
      bool again = false;
      for (int32_t i = 0; i < rank; ++i)
        again = again || (rules[i][0] == rules.back()[0] && rules[i][1] == rules.back()[1]);
      if (again) rules.back() = {-1, -1, -1};
      if (!again) merges.add(rules.back()[0], rules.back()[1], rank, 3 + rank);
    }
    std::vector<int32_t> tokens(2 + random() % 120);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 3);
    std::vector<int32_t> expected = tokens;
    for (bool merged = true; merged;) {
      merged = false;
      for (const auto& [left, right, result] : rules) {
        for (size_t i = 0; i + 1 < expected.size() && !merged; ++i) {
          if (expected[i] != left || expected[i + 1] != right) continue;
          expected[i] = result;
          expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(i) + 1);
          merged = true;
        }
        if (merged) break;
      }
    }
    tokens.resize(merges.apply(tokens));
    ASSERT_EQ(tokens, expected) << "round " << round;
  }
}

TEST(Tokenizer, TakesLongRunsInItsStride) {
  const Tokenizer tokenizer = tiny("qwen2");
  const auto start = std::chrono::steady_clock::now();
  for (const std::string unit : {"a", " ", "\n", "!", "1", "\u4E2D", "e\u0301", " \n"}) {
    std::string text;
    while (text.size() < 200'000) text += unit;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)).size(), normal_form(text, NormalForm::nfc).size());
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Tokenizer, SaysWhatIsWrongWithAFile) {
  const Json good = tiny_json("tiny_smollm.json");
  EXPECT_THAT(error_of_json(Json::array()), HasSubstr("t.json: not a tokenizer.json"));
  Json json = good;
  json["model"]["type"] = "Wobble";
  EXPECT_THAT(error_of_json(json), HasSubstr("t.json: model: type \"Wobble\" is not supported; expected BPE, Unigram"));
  for (const std::string key : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    json = good;
    json[key] = {{"type", "Wobble"}};
    EXPECT_THAT(error_of_json(json), HasSubstr("t.json: " + key + ": "));
    EXPECT_THAT(error_of_json(json), HasSubstr("\"Wobble\" is not supported; expected B"));
  }
  json = good;
  json["model"]["vocab"]["b"] = json["model"]["vocab"]["a"];
  EXPECT_THAT(error_of_json(json), HasSubstr("is given to \"a\" and to \"b\""));
  for (const Json& id : {Json(-1), Json(1e300), Json("7"), Json(uint64_t{1} << 63), Json(100000)}) {
    json = good;
    json["model"]["vocab"]["zebra"] = id;
    EXPECT_THAT(error_of_json(json), HasSubstr("t.json: model.vocab"));
    json = good;
    json["added_tokens"][0]["id"] = id;
    EXPECT_THAT(error_of_json(json), HasSubstr("added_tokens[0]"));
  }
  json = good;
  json["model"]["merges"].push_back(Json::array({"a", 3}));
  EXPECT_THAT(error_of_json(json), HasSubstr("expected \"left right\""));
  json = good;
  json["model"]["merges"].push_back(Json::array({"Q", "Q"}));
  EXPECT_THAT(error_of_json(json), HasSubstr("names the token \"QQ\", which the vocabulary lacks"));
  json = good;
  json["model"]["dropout"] = 0.1;
  EXPECT_THAT(error_of_json(json), HasSubstr("model.dropout: 0.1 is not supported"));
  EXPECT_THAT(error_of([] { tiny("smollm").decode(std::vector<int32_t>{-1}); }), HasSubstr("id -1 is out of range"));
  EXPECT_THAT(error_of([] { Tokenizer::from_json_text("{\"model\": ", "t.json"); }), HasSubstr("t.json:1:"));
}

TEST(Tokenizer, RefusesARegexThatCannotEnd) {
  Json json = tiny_json("tiny_smollm.json");
  const Json pattern = {{"Regex", "(a+a+)+[bd]"}};
  const Json split = {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array({split, Json{{"type", "ByteLevel"}}})}};
  const Tokenizer tokenizer = Tokenizer::from_json(json, "t.json");
  EXPECT_THAT(error_of([&] { tokenizer.encode(std::string(60, 'a') + "c"); }), HasSubstr("cannot split this text"));
}

TEST(Tokenizer, SurvivesDamagedFiles) {
  const std::string good = read_file(TEST_DATA_DIR "/tiny_qwen2.json");
  std::mt19937 random(11);
  int loaded = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string bad = good;
    for (unsigned i = 0; i <= random() % 4; ++i) {
      const size_t at = random() % bad.size();
      switch (random() % 4) {
        case 0: bad[at] = static_cast<char>(random() % 256); break;
        case 1: bad.erase(at, 1 + random() % 20); break;
        case 2: bad.insert(at, bad.substr(random() % bad.size(), random() % 30)); break;
        default: bad.insert(at, std::to_string(random()));
      }
    }
    try {
      const Tokenizer tokenizer = Tokenizer::from_json_text(bad, "bad.json");
      ++loaded;
      tokenizer.decode(tokenizer.encode("Hello, <|im_end|> w\u00F6rld 42"));
    } catch (const Error&) {
    }
  }
  EXPECT_GT(loaded, 10);  // else nothing behind the JSON parser was tried
}

TEST(Utf8, IsRepairedByMaximalSubparts) {
  EXPECT_EQ(repaired_utf8("a\xE2\x82z"), "a\uFFFDz");
  EXPECT_EQ(repaired_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(repaired_utf8("\xF0\x9F\x98"), "\uFFFD");
  EXPECT_EQ(repaired_utf8("\xC0\xAF"), "\uFFFD\uFFFD");
  EXPECT_TRUE(is_utf8("\U0010FFFF"));
  EXPECT_FALSE(is_utf8("\xF4\x90\x80\x80"));
}

}  // namespace
}  // namespace backburn::text
