#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// The merge table of a byte-pair encoding: which two neighbouring tokens become which token, and how soon.
class Merges {
 public:
  /// `expected`: about how many merges will be added.
  explicit Merges(size_t expected);

  /// Adds the next merge: a lower rank merges sooner. A pair given again takes the later rank and result.
  void add(int32_t left, int32_t right, int32_t rank, int32_t result);

  struct Merge {
    int32_t rank;
    int32_t result;
  };
  /// Null when the pair does not merge.
  const Merge* find(int32_t left, int32_t right) const;

  /// Merges the tokens of one piece: again and again the neighbours of lowest rank, the leftmost of equals.
  /// In place; the tokens left are a prefix of `tokens`, whose length is returned.
  /// Time O(n²) for short pieces (with a tiny constant), O(n log n) for long ones.
  size_t apply(std::span<int32_t> tokens) const;

 private:
  struct Slot {
    uint64_t pair;
    Merge merge;
  };
  void insert(uint64_t pair, Merge merge);
  size_t apply_short(std::span<int32_t> tokens) const;
  size_t apply_long(std::span<int32_t> tokens) const;

  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  size_t used_ = 0;
};

/// Byte-pair encoding (Sennrich 2016, arXiv 1508.07909): a piece begins as characters, or bytes, and merges.
class Bpe {
 public:
  /// Refers to `parts` and `ids` (the model's). `byte_ids`: those of "<0x00>" … "<0xFF>", for byte fallback.
  /// `byte_level`: pieces are bytes, which the vocabulary writes in GPT-2's characters. Errors: merges that name
  /// missing tokens.
  Bpe(const TokenizerParts& parts, const TokenIds& ids, const std::vector<int32_t>& byte_ids, bool byte_level,
      const std::string& origin);

  /// Appends the ids of `piece` (UTF-8, not empty). Where there is no unknown token, what no token spells is left out.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

  /// No merge crosses the beginning of a word that SentencePiece marks ("▁" after another character): pieces may be cut
  /// there.
  bool words_are_apart() const { return words_are_apart_; }

 private:
  void add_merges(const TokenizerParts& parts, const TokenIds& ids, const std::string& origin);
  void begin_with_bytes(std::string_view piece, std::vector<int32_t>& symbols) const;
  void begin_with_characters(std::string_view piece, std::vector<int32_t>& symbols) const;

  const ModelParts* model_;
  const TokenIds* ids_;
  bool byte_level_;
  bool words_are_apart_ = false;
  std::array<int32_t, 256> byte_ids_{};                       // byte_level: −1: no token is this byte
  std::vector<int32_t> fallback_ids_;                         // "<0x0A>"; empty: no byte fallback
  std::unordered_map<std::string, int32_t> ignoring_merges_;  // byte_level: whole pieces
  Merges merges_;
};

}  // namespace backburn::text
