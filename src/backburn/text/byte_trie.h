#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace backburn::text {

/// Strings by their bytes, for finding all that begin at a place. Open addressing over (node, byte).
class ByteTrie {
 public:
  /// The strings not yet given; `value` ≥ 0. Of equal ones the first counts.
  void add(std::string_view key, int32_t value);

  /// Calls visit(length, value) for each key that `text` begins with, the shortest first.
  template <typename Visit>
  void walk(std::string_view text, const Visit& visit) const {
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const Slot* slot = find(node, static_cast<unsigned char>(text[i]));
      if (slot == nullptr) return;
      node = slot->child;
      if (slot->value >= 0) visit(i + 1, slot->value);
    }
  }

 private:
  struct Slot {
    uint32_t node = 0;
    uint32_t child = 0;  // 0: the slot is free
    int32_t value = -1;
    unsigned char byte = 0;
  };
  static size_t hash(uint32_t node, unsigned char byte) {
    const uint64_t mixed = (uint64_t{node} << 8 | byte) * 0x9E3779B97F4A7C15u;
    return static_cast<size_t>(mixed ^ mixed >> 32);
  }
  const Slot* find(uint32_t node, unsigned char byte) const {
    const size_t mask = slots_.size() - 1;
    for (size_t at = hash(node, byte) & mask;; at = (at + 1) & mask) {
      const Slot& slot = slots_[at];
      if (slot.child == 0) return nullptr;
      if (slot.node == node && slot.byte == byte) return &slot;
    }
  }
  Slot& place(uint32_t node, unsigned char byte);

  std::vector<Slot> slots_ = std::vector<Slot>(16);  // a power of two, at most half full
  uint32_t nodes_ = 1;                               // the root is 0
};

}  // namespace backburn::text
