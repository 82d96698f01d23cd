#include "backburn/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

// The first byte of the last character of `text`, which is not empty.
size_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

bool word_beside(std::string_view text, size_t begin, size_t end) {
  const bool before = begin > 0 && is_word_character(utf8_step(text, last_character(text.substr(0, begin))).code_point);
  return before || (end < text.size() && is_word_character(utf8_step(text, end).code_point));
}

}  // namespace

void AddedTokenFinder::add(std::string key, const AddedToken& token) {
  auto& list = by_first_byte_[static_cast<unsigned char>(key[0])];
  const auto shorter = [&](const Entry& entry) { return entry.key.size() < key.size(); };
  const auto place = std::find_if(list.begin(), list.end(), shorter);
  list.insert(place, {std::move(key), token});
  any_ = true;
}

const AddedTokenFinder::Entry* AddedTokenFinder::find(std::string_view text, size_t at) const {
  for (const Entry& entry : by_first_byte_[static_cast<unsigned char>(text[at])]) {
    if (text.substr(at).starts_with(entry.key)) return &entry;
  }
  return nullptr;
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::cut(std::string_view text, bool parse_special) const {
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t at = 0; any_ && at < text.size();) {
    const Entry* entry = find(text, at);
    if (entry == nullptr) {
      ++at;
      continue;
    }
    const AddedToken& token = entry->token;
    size_t begin = at;
    size_t end = at + entry->key.size();
    at = end;
    if (begin < done) continue;  // taken by the white space of the token before
    if (token.special && !parse_special) continue;
    if (token.single_word && word_beside(text, begin, end)) continue;
    while (token.lstrip && begin > done) {
      const size_t before = last_character(text.substr(0, begin));
      if (!is_white_space(utf8_step(text, before).code_point)) break;
      begin = before;
    }
    while (token.rstrip && end < text.size()) {
      const Utf8Step step = utf8_step(text, end);
      if (!is_white_space(step.code_point)) break;
      end += step.length;
    }
    if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({{}, token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

}  // namespace backburn::text
