#include "backburn/text/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <queue>
#include <utility>

namespace backburn::text {
namespace {

constexpr uint64_t empty = std::numeric_limits<uint64_t>::max();
constexpr size_t short_piece = 48;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t hash_of(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15u;
  return static_cast<size_t>(pair ^ pair >> 32);
}

}  // namespace

Merges::Merges(size_t expected) : slots_(std::bit_ceil(2 * expected + 2), Slot{empty, {0, 0}}) {}

void Merges::insert(uint64_t pair, Merge merge) {
  const size_t mask = slots_.size() - 1;
  size_t at = hash_of(pair) & mask;
  while (slots_[at].pair != empty && slots_[at].pair != pair) at = (at + 1) & mask;
  used_ += slots_[at].pair == empty;
  slots_[at] = {pair, merge};
}

void Merges::add(int32_t left, int32_t right, int32_t rank, int32_t result) {
  if (2 * (used_ + 1) > slots_.size()) {
    std::vector<Slot> old(slots_.size() * 2, Slot{empty, {0, 0}});
    std::swap(old, slots_);
    used_ = 0;
    for (const Slot& slot : old) {
      if (slot.pair != empty) insert(slot.pair, slot.merge);
    }
  }
  insert(pair_of(left, right), {rank, result});
}

const Merges::Merge* Merges::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash_of(pair) & mask;; at = (at + 1) & mask) {
    if (slots_[at].pair == pair) return &slots_[at].merge;
    if (slots_[at].pair == empty) return nullptr;
  }
}

size_t Merges::apply(std::span<int32_t> tokens) const {
  return tokens.size() <= short_piece ? apply_short(tokens) : apply_long(tokens);
}

size_t Merges::apply_short(std::span<int32_t> tokens) const {
  constexpr int32_t never = std::numeric_limits<int32_t>::max();
  size_t count = tokens.size();
  if (count < 2) return count;
  std::array<Merge, short_piece> next;  // next[i]: the merge of tokens i and i + 1
  auto look_up = [&](size_t i) {
    const Merge* merge = find(tokens[i], tokens[i + 1]);
    next[i] = merge ? *merge : Merge{never, 0};
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (next[i].rank < next[best].rank) best = i;
    }
    if (next[best].rank == never) break;
    tokens[best] = next[best].result;
    std::copy(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              tokens.begin() + static_cast<std::ptrdiff_t>(count),
              tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(next.begin() + static_cast<std::ptrdiff_t>(best) + 1,
              next.begin() + static_cast<std::ptrdiff_t>(count) - 1, next.begin() + static_cast<std::ptrdiff_t>(best));
    --count;
    if (best + 1 < count) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  return count;
}

size_t Merges::apply_long(std::span<int32_t> tokens) const {
  constexpr size_t none = std::numeric_limits<size_t>::max();
  constexpr int32_t gone = -1;
  const size_t count = tokens.size();
  // A linked list over the places of the piece, and a queue of merges, checked again when their turn comes.
  std::vector<size_t> previous(count);
  std::vector<size_t> next(count);
  for (size_t i = 0; i < count; ++i) {
    previous[i] = i == 0 ? none : i - 1;
    next[i] = i + 1 == count ? none : i + 1;
  }
  struct Candidate {
    int32_t rank;
    int32_t result;
    size_t at;
    bool operator>(const Candidate& other) const { return std::pair(rank, at) > std::pair(other.rank, other.at); }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  auto look_up = [&](size_t at) {
    if (at == none || next[at] == none) return;
    if (const Merge* merge = find(tokens[at], tokens[next[at]])) queue.push({merge->rank, merge->result, at});
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    if (tokens[best.at] == gone || next[best.at] == none) continue;
    const size_t right = next[best.at];
    const Merge* merge = find(tokens[best.at], tokens[right]);
    if (merge == nullptr || merge->rank != best.rank) continue;
    tokens[best.at] = merge->result;
    tokens[right] = gone;
    next[best.at] = next[right];
    if (next[right] != none) previous[next[right]] = best.at;
    look_up(previous[best.at]);
    look_up(best.at);
  }
  const auto end = std::remove(tokens.begin(), tokens.end(), gone);
  return static_cast<size_t>(end - tokens.begin());
}

}  // namespace backburn::text
