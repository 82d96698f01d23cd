#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"
#include "backburn/text/tokenizer.h"

/// What tools/make_tokenizer_goldens.py wrote, and how to hold a Tokenizer against it.
namespace backburn::text {

inline std::string fnv(std::string_view bytes, uint64_t value = 0xCBF29CE484222325u) {
  for (char c : bytes) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return fmt::format("{:016x}", value);
}

inline std::string fnv(const std::vector<int32_t>& ids) {
  std::string bytes;
  for (int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      bytes.push_back(static_cast<char>(static_cast<unsigned char>(static_cast<uint32_t>(id) >> shift & 0xFF)));
    }
  }
  return fnv(bytes);
}

/// The strings of tests/text/data/tokenizer_strings.jsonl; some are not UTF-8.
inline std::vector<std::string> golden_strings() {
  std::vector<std::string> strings;
  for (const Json& line : read_jsonl_file(SOURCE_DIR "/tests/text/data/tokenizer_strings.jsonl")) {
    if (line.is_string()) {
      strings.push_back(line.get<std::string>());
      continue;
    }
    const auto hex = line["hex"].get<std::string>();
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(static_cast<char>(static_cast<unsigned char>(std::stoi(hex.substr(i, 2), nullptr, 16))));
    }
    strings.push_back(bytes);
  }
  return strings;
}

inline void expect_goldens(const Tokenizer& tokenizer, const Json& golden) {
  const std::vector<std::string> strings = golden_strings();
  ASSERT_GE(strings.size(), 5000u);
  ASSERT_EQ(strings.size(), golden["hashes"].size());
  int failures = 0;
  std::vector<int32_t> without_special;
  for (size_t i = 0; i < strings.size(); ++i) {
    const std::vector<int32_t> ids = tokenizer.encode(strings[i]);
    if (i < golden["ids"].size()) {
      EXPECT_EQ(ids, golden["ids"][i].get<std::vector<int32_t>>()) << "string " << i << ": " << strings[i];
    }
    if (fnv(ids) != golden["hashes"][i].get<std::string>() && ++failures <= 10) {
      ADD_FAILURE() << "string " << i << ": " << strings[i] << "\n  " << Json(ids).dump();
    }
    for (int32_t id : tokenizer.encode(strings[i], /*parse_special=*/false)) without_special.push_back(id);
    without_special.push_back(INT32_MAX);
  }
  EXPECT_EQ(failures, 0) << "of " << strings.size();
  EXPECT_EQ(fnv(without_special), golden["hash_of_all_without_special"].get<std::string>());
  for (const Json& entry : golden["decodes"]) {
    const auto ids = entry["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.decode(ids), entry["text"].get<std::string>());
    EXPECT_EQ(fnv(tokenizer.decode(ids, /*skip_special_tokens=*/false)), entry["with_special"].get<std::string>());
    StreamDecoder stream(tokenizer);
    std::string streamed;
    for (int32_t id : ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.finish(), entry["text"].get<std::string>());
  }
}

}  // namespace backburn::text
