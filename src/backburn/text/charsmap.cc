#include "backburn/text/charsmap.h"

#include <utf8proc.h>

#include "backburn/base/error.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// Darts-clone's units.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t leaf_value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label(uint32_t unit) { return unit & 0x800000FF; }
uint32_t child_offset(uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }

// The end of the grapheme cluster (Unicode, UAX 29) that begins at `at`.
size_t grapheme_end(std::string_view text, size_t at) {
  utf8proc_int32_t state = 0;
  Utf8Step before = utf8_step(text, at);
  at += before.length;
  while (at < text.size()) {
    const Utf8Step next = utf8_step(text, at);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before.code_point),
                                         static_cast<utf8proc_int32_t>(next.code_point), &state)) {
      break;
    }
    at += next.length;
    before = next;
  }
  return at;
}

}  // namespace

Charsmap Charsmap::parse(std::string_view bytes, const std::string& where) {
  if (bytes.size() < 4) fail("{}: {} bytes are too few for a precompiled charsmap.", where, bytes.size());
  const size_t trie_bytes = little_endian(bytes, 0);
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > bytes.size() - 4) {
    fail("{}: a trie of {} bytes does not fit into a precompiled charsmap of {}.", where, trie_bytes, bytes.size());
  }
  Charsmap map;
  map.units_.resize(trie_bytes / 4);
  for (size_t i = 0; i < map.units_.size(); ++i) map.units_[i] = little_endian(bytes, 4 + 4 * i);
  map.replacements_ = repaired_utf8(bytes.substr(4 + trie_bytes));
  return map;
}

// Calls visit(length, place of the replacement) for each rule that `text` begins with, the shortest first, until it
// returns false.
template <typename Visit>
void Charsmap::walk(std::string_view text, const Visit& visit) const {
  size_t node = child_offset(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) return;
    const uint32_t unit = units_[node];
    node ^= child_offset(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) return;
    const size_t place = leaf_value(units_[node]);
    if (place < replacements_.size() && !visit(i + 1, place)) return;
  }
}

std::optional<Charsmap::Match> Charsmap::shortest(std::string_view text) const {
  std::optional<Match> match;
  walk(text, [&](size_t length, size_t place) {
    match = {length, replacements_.c_str() + place};
    return false;
  });
  return match;
}

std::optional<Charsmap::Match> Charsmap::longest(std::string_view text) const {
  std::optional<Match> match;
  walk(text, [&](size_t length, size_t place) {
    match = {length, replacements_.c_str() + place};
    return true;
  });
  return match;
}

std::string Charsmap::apply_by_graphemes(std::string_view text) const {
  constexpr size_t longest_grapheme = 5;
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t end = grapheme_end(text, at);
    const std::string_view grapheme = text.substr(at, end - at);
    if (grapheme.size() <= longest_grapheme) {
      if (const auto match = shortest(grapheme)) {
        result += match->replacement;
        at = end;
        continue;
      }
    }
    while (at < end) {
      const std::string_view character = text.substr(at, utf8_step(text, at).length);
      const auto match = shortest(character);
      result += match ? match->replacement : character;
      at += character.size();
    }
  }
  return result;
}

std::string base64_bytes(std::string_view text, const std::string& where) {
  std::string bytes;
  uint32_t held = 0;
  int bits = 0;
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  for (char c : text) {
    uint32_t six = 0;
    if (c >= 'A' && c <= 'Z') {
      six = static_cast<uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      six = static_cast<uint32_t>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      six = static_cast<uint32_t>(c - '0' + 52);
    } else if (c == '+' || c == '/') {
      six = c == '+' ? 62 : 63;
    } else {
      fail("{}: not base64.", where);
    }
    held = held << 6 | six;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<char>(static_cast<unsigned char>(held >> bits & 0xFF)));
    }
  }
  return bytes;
}

}  // namespace backburn::text
