#pragma once

#include <cstdint>
#include <span>
#include <vector>

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

}  // namespace backburn::text
