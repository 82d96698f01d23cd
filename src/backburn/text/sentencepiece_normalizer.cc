#include "backburn/text/sentencepiece_normalizer.h"

#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

constexpr std::string_view space_symbol = "\u2581";

}  // namespace

std::string SentencePieceNormalizer::apply(std::string_view text, bool at_start) const {
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  bool after_space = remove_extra_whitespaces;
  bool any = false;
  while (!text.empty()) {
    size_t length = 0;
    kept.walk(text, [&](size_t found, int32_t) { length = found; });
    std::string_view part = text.substr(0, length);
    if (length == 0) {
      const auto match = rules ? rules->longest(text) : std::nullopt;
      length = match ? match->length : utf8_step(text, 0).length;
      part = match ? match->replacement : text.substr(0, length);
    }
    text.remove_prefix(length);
    while (after_space && part.starts_with(' ')) part.remove_prefix(1);
    if (!part.empty()) {
      const bool prefixed = prefix == Prefix::always || (prefix == Prefix::first && at_start);
      if (!any && prefixed) result += space_symbol;
      any = true;
      for (char c : part) c == ' ' ? result.append(space_symbol) : result.append(1, c);
      after_space = remove_extra_whitespaces && part.ends_with(' ');
    }
  }
  while (remove_extra_whitespaces && result.ends_with(space_symbol)) result.resize(result.size() - space_symbol.size());
  return result;
}

}  // namespace backburn::text
