#include "backburn/text/byte_trie.h"

#include <utility>

namespace backburn::text {

// The slot of that edge, or the free one where it belongs.
ByteTrie::Slot& ByteTrie::place(uint32_t node, unsigned char byte) {
  const size_t mask = slots_.size() - 1;
  size_t at = hash(node, byte) & mask;
  while (slots_[at].child != 0 && (slots_[at].node != node || slots_[at].byte != byte)) at = (at + 1) & mask;
  return slots_[at];
}

void ByteTrie::add(std::string_view key, int32_t value) {
  uint32_t node = 0;
  for (size_t i = 0; i < key.size(); ++i) {
    const auto byte = static_cast<unsigned char>(key[i]);
    if (2 * size_t{nodes_} >= slots_.size()) {
      std::vector<Slot> old(2 * slots_.size());
      std::swap(old, slots_);
      for (const Slot& slot : old) {
        if (slot.child != 0) place(slot.node, slot.byte) = slot;
      }
    }
    Slot& slot = place(node, byte);
    if (slot.child == 0) slot = {node, nodes_++, -1, byte};
    if (i + 1 == key.size() && slot.value < 0) slot.value = value;
    node = slot.child;
  }
}

}  // namespace backburn::text
