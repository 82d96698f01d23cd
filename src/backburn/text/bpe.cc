#include "backburn/text/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <queue>
#include <utility>

#include "backburn/base/error.h"
#include "backburn/text/byte_level.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

constexpr uint64_t empty = std::numeric_limits<uint64_t>::max();
constexpr size_t short_piece = 48;
constexpr std::string_view word_mark = "\u2581";

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

Bpe::Bpe(const TokenizerParts& parts, const TokenIds& ids, const std::vector<int32_t>& byte_ids, bool byte_level,
         const std::string& origin)
    : model_(&parts.model), ids_(&ids), byte_level_(byte_level), merges_(parts.model.merges.size()) {
  if (model_->byte_fallback) fallback_ids_ = byte_ids;
  if (byte_level_) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      std::string character;
      append_utf8(character, byte_character(byte));
      byte_ids_[byte] = ids.find(character);
    }
    for (size_t id = 0; model_->ignore_merges && id < parts.tokens.size(); ++id) {
      if (!parts.in_model[id]) continue;
      if (auto bytes = bytes_of_characters(parts.tokens[id])) {
        ignoring_merges_.emplace(std::move(*bytes), static_cast<int32_t>(id));
      }
    }
  }
  add_merges(parts, ids, origin);
}

void Bpe::add_merges(const TokenizerParts& parts, const TokenIds& ids, const std::string& origin) {
  const auto& list = model_->merges;
  const std::string& prefix = model_->subword_prefix;
  bool crossing = ids.find(word_mark) < 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto& [left, right] = list[i];
    const auto id_of = [&](const std::string& token) {
      const int32_t id = ids.find(token);
      if (id < 0) {
        fail("{}: merge {} (\"{} {}\") names the token \"{}\", which the vocabulary lacks.", origin, i, left, right,
             token);
      }
      return id;
    };
    const int32_t left_id = id_of(left);
    const int32_t right_id = id_of(right);
    const std::string merged = left + (right.starts_with(prefix) ? right.substr(prefix.size()) : right);
    const int32_t rank = model_->merge_ranks.empty() ? static_cast<int32_t>(i) : model_->merge_ranks[i];
    merges_.add(left_id, right_id, rank, id_of(merged));
    crossing = crossing || (right.starts_with(word_mark) && !left.ends_with(word_mark));
  }
  words_are_apart_ = !crossing && !byte_level_ && prefix.empty() && model_->word_suffix.empty() &&
                     !model_->ignore_merges && !parts.tokens.empty();
}

void Bpe::begin_with_bytes(std::string_view piece, std::vector<int32_t>& symbols) const {
  bool after_unknown = false;
  for (char c : piece) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      symbols.push_back(id);
      after_unknown = false;
    } else if (model_->unknown >= 0) {
      if (!(model_->fuse_unknown && after_unknown)) symbols.push_back(model_->unknown);
      after_unknown = true;
    }
  }
}

void Bpe::begin_with_characters(std::string_view piece, std::vector<int32_t>& symbols) const {
  // An unknown token waits until something known follows (bytes don't count), as in `tokenizers`.
  bool waiting = false;
  std::string decorated;
  for (size_t at = 0; at < piece.size();) {
    std::string_view character = piece.substr(at, utf8_step(piece, at).length);
    const bool first = at == 0;
    at += character.size();
    const bool last = at == piece.size();
    if ((!first && !model_->subword_prefix.empty()) || (last && !model_->word_suffix.empty())) {
      decorated = first ? "" : model_->subword_prefix;
      decorated += character;
      if (last) decorated += model_->word_suffix;
      character = decorated;
    }
    const auto fallback = [&](char c) { return fallback_ids_[static_cast<unsigned char>(c)]; };
    if (const int32_t id = ids_->find(character); id >= 0) {
      if (waiting) symbols.push_back(model_->unknown);
      waiting = false;
      symbols.push_back(id);
    } else if (!fallback_ids_.empty() &&
               std::all_of(character.begin(), character.end(), [&](char c) { return fallback(c) >= 0; })) {
      for (char c : character) symbols.push_back(fallback(c));
    } else if (model_->unknown >= 0) {
      if (waiting && !model_->fuse_unknown) symbols.push_back(model_->unknown);
      waiting = true;
    }
  }
  if (waiting) symbols.push_back(model_->unknown);
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  if (model_->ignore_merges && byte_level_) {
    const auto found = ignoring_merges_.find(std::string(piece));
    if (found != ignoring_merges_.end()) {
      ids.push_back(found->second);
      return;
    }
  } else if (model_->ignore_merges) {
    if (const int32_t id = ids_->find(piece); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  const size_t begin = ids.size();
  byte_level_ ? begin_with_bytes(piece, ids) : begin_with_characters(piece, ids);
  ids.resize(begin + merges_.apply(std::span(ids).subspan(begin)));
}

}  // namespace backburn::text
