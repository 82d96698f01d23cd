#include "backburn/text/normalizer.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <span>

#include "backburn/base/error.h"
#include "backburn/text/byte_level.h"
#include "backburn/text/json_fields.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

// Hugging Face `tokenizers` 0.23 knows marks by tables older than utf8proc's Unicode 15: these are none to StripAccents
// (Unicode 9) and to BertNormalizer (Unicode 8). tests/text/normalizer_test.cc compares all code points.
// clang-format off
constexpr CodePointRange not_combining[] = {
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xAFA, 0xAFF}, {0xB55, 0xB55}, {0xC04, 0xC04},
    {0xC3C, 0xC3C}, {0xCF3, 0xCF3}, {0xD00, 0xD00}, {0xD3B, 0xD3C}, {0xD81, 0xD81}, {0xEBA, 0xEBA}, {0xECE, 0xECE},
    {0x1715, 0x1715}, {0x180F, 0x180F}, {0x1ABF, 0x1ACE}, {0x1CF7, 0x1CF7}, {0x1DF6, 0x1DFA}, {0xA82C, 0xA82C},
    {0xA8FF, 0xA8FF}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x11073, 0x11074}, {0x110C2, 0x110C2}, {0x11145, 0x11146},
    {0x111C9, 0x111C9}, {0x111CE, 0x111CF}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x1182C, 0x1183A}, {0x11930, 0x11935}, {0x11937, 0x11938}, {0x1193B, 0x1193E}, {0x11940, 0x11940},
    {0x11942, 0x11943}, {0x119D1, 0x119D7}, {0x119DA, 0x119E0}, {0x119E4, 0x119E4}, {0x11A01, 0x11A0A},
    {0x11A33, 0x11A39}, {0x11A3B, 0x11A3E}, {0x11A47, 0x11A47}, {0x11A51, 0x11A5B}, {0x11A8A, 0x11A99},
    {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D}, {0x11D3F, 0x11D45}, {0x11D47, 0x11D47},
    {0x11D8A, 0x11D8E}, {0x11D90, 0x11D91}, {0x11D93, 0x11D97}, {0x11EF3, 0x11EF6}, {0x11F00, 0x11F01},
    {0x11F03, 0x11F03}, {0x11F34, 0x11F3A}, {0x11F3E, 0x11F42}, {0x13440, 0x13440}, {0x13447, 0x13455},
    {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87}, {0x16FE4, 0x16FE4}, {0x16FF0, 0x16FF1}, {0x1CF00, 0x1CF2D},
    {0x1CF30, 0x1CF46}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
    {0x1E4EC, 0x1E4EF},
};
constexpr CodePointRange not_nonspacing[] = {
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8E1}, {0x9FE, 0x9FE}, {0xAFA, 0xAFF}, {0xB55, 0xB55}, {0xC04, 0xC04},
    {0xC3C, 0xC3C}, {0xCF3, 0xCF3}, {0xD00, 0xD00}, {0xD3B, 0xD3C}, {0xD81, 0xD81}, {0xEBA, 0xEBA}, {0xECE, 0xECE},
    {0x180F, 0x180F}, {0x1885, 0x1886}, {0x1ABF, 0x1ACE}, {0x1DF6, 0x1DFB}, {0xA82C, 0xA82C}, {0xA8C5, 0xA8C5},
    {0xA8FF, 0xA8FF}, {0xA9BD, 0xA9BD}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x11073, 0x11074}, {0x110C2, 0x110C2},
    {0x111C9, 0x111C9}, {0x111CF, 0x111CF}, {0x1123E, 0x1123E}, {0x11241, 0x11241}, {0x1133B, 0x1133B},
    {0x11438, 0x1143F}, {0x11442, 0x11444}, {0x11446, 0x11446}, {0x1145E, 0x1145E}, {0x1182F, 0x11837},
    {0x11839, 0x1183A}, {0x1193B, 0x1193C}, {0x1193E, 0x1193E}, {0x11943, 0x11943}, {0x119D4, 0x119D7},
    {0x119DA, 0x119DB}, {0x119E0, 0x119E0}, {0x11A01, 0x11A0A}, {0x11A33, 0x11A38}, {0x11A3B, 0x11A3E},
    {0x11A47, 0x11A47}, {0x11A51, 0x11A56}, {0x11A59, 0x11A5B}, {0x11A8A, 0x11A96}, {0x11A98, 0x11A99},
    {0x11C30, 0x11C36}, {0x11C38, 0x11C3D}, {0x11C3F, 0x11C3F}, {0x11C92, 0x11CA7}, {0x11CAA, 0x11CB0},
    {0x11CB2, 0x11CB3}, {0x11CB5, 0x11CB6}, {0x11D31, 0x11D36}, {0x11D3A, 0x11D3A}, {0x11D3C, 0x11D3D},
    {0x11D3F, 0x11D45}, {0x11D47, 0x11D47}, {0x11D90, 0x11D91}, {0x11D95, 0x11D95}, {0x11D97, 0x11D97},
    {0x11EF3, 0x11EF4}, {0x11F00, 0x11F01}, {0x11F03, 0x11F03}, {0x11F34, 0x11F3A}, {0x11F3E, 0x11F42},
    {0x13440, 0x13440}, {0x13447, 0x13455}, {0x16F4F, 0x16F4F}, {0x16FE4, 0x16FE4}, {0x1CF00, 0x1CF2D},
    {0x1CF30, 0x1CF46}, {0x1E000, 0x1E006}, {0x1E008, 0x1E018}, {0x1E01B, 0x1E021}, {0x1E023, 0x1E024},
    {0x1E026, 0x1E02A}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
    {0x1E4EC, 0x1E4EF}, {0x1E944, 0x1E94A},
};
// clang-format on

// Characters whose decomposition is newer than the reference's tables.
constexpr CodePointRange not_compatible[] = {{0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xAB69, 0xAB69},
                                             {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA},
                                             {0x1E030, 0x1E06D}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};
constexpr CodePointRange not_canonical[] = {{0x11938, 0x11938}};

bool is_in(std::span<const CodePointRange> ranges, char32_t c) {
  const auto* found = std::upper_bound(ranges.data(), ranges.data() + ranges.size(), c,
                                       [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return found != ranges.data() && c <= (found - 1)->last;
}

// `text` with each character replaced by what `write(character, out)` appends.
template <typename Write>
std::string mapped(std::string_view text, const Write& write) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    write(step.code_point, result);
    at += step.length;
  }
  return result;
}

template <typename Drop>
std::string without(std::string_view text, const Drop& drop) {
  return mapped(text, [&](char32_t c, std::string& out) {
    if (!drop(c)) append_utf8(out, c);
  });
}

bool is_accent(char32_t c) { return c == 0x1CF2 || c == 0x1CF3 || (category(c)[0] == 'M' && !is_in(not_combining, c)); }

bool is_nonspacing_mark(char32_t c) {
  return c == 0x1734 || (std::strcmp(category(c), "Mn") == 0 && !is_in(not_nonspacing, c));
}

bool is_han(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

// BertNormalizer's "clean_text": control characters go, white space becomes a space.
std::string bert_clean(std::string_view text) {
  return mapped(text, [](char32_t c, std::string& out) {
    const bool tab_or_line = c == '\t' || c == '\n' || c == '\r';
    if (tab_or_line || (is_white_space(c) && c > 0x20 && c != 0x85) || c == ' ') {
      out.push_back(' ');
      return;
    }
    const std::string_view kind = category(c);
    const bool newer = c == 0x890 || c == 0x891 || c == 0x8E2 || c == 0x110CD || (c >= 0x13430 && c <= 0x1343F);
    if (c != 0xFFFD && (newer || (kind != "Cc" && kind != "Cf" && kind != "Co"))) append_utf8(out, c);
  });
}

// The cleaning that Google's NMT systems do.
std::string nmt(std::string_view text) {
  return mapped(text, [](char32_t c, std::string& out) {
    const bool control =
        (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                       c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    if (!control) append_utf8(out, space ? U' ' : c);
  });
}

// A normal form by the reference's tables: characters that these don't know stay, and are starters, across which
// nothing composes.
std::string reference_form(std::string_view text, NormalForm form) {
  const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const bool composed = form == NormalForm::nfc || form == NormalForm::nfkc;
  std::string result;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    const bool unknown = step.code_point >= 0x32FF && ((compatible && is_in(not_compatible, step.code_point)) ||
                                                       (!composed && is_in(not_canonical, step.code_point)));
    if (unknown) {
      result += normal_form(text.substr(done, at - done), form);
      result += text.substr(at, step.length);
      done = at + step.length;
    }
    at += step.length;
  }
  return done == 0 ? normal_form(text, form) : result + normal_form(text.substr(done), form);
}

std::string stripped(std::string_view text, bool left) {
  if (left) {
    while (!text.empty()) {
      const Utf8Step step = utf8_step(text, 0);
      if (!is_white_space(step.code_point)) break;
      text.remove_prefix(step.length);
    }
    return std::string(text);
  }
  size_t end = 0;  // after the last character that is not white space
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    at += step.length;
    if (!is_white_space(step.code_point)) end = at;
  }
  return std::string(text.substr(0, end));
}

}  // namespace

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    result.append(text.substr(done, at - done)).append(to);
    done = at + from.size();
  }
  return result.append(text.substr(done));
}

std::string replace_all(std::string_view text, const Regex& regex, std::string_view to) {
  std::string result;
  size_t done = 0;
  const auto matches = regex.find_all(text, {{0, text.size()}});
  for (const Span& match : matches[0]) {
    result.append(text.substr(done, match.begin - done)).append(to);
    done = match.end;
  }
  return result.append(text.substr(done));
}

Normalizer Normalizer::from_json(const Json& json, const std::string& where) {
  Normalizer result;
  if (!json.is_null()) result.add_steps(json, where, 0);
  return result;
}

void Normalizer::add_steps(const Json& json, const std::string& where, int depth) {
  if (depth > 8) fail("{}: Sequences inside Sequences, more than 8 deep.", where);
  if (steps_.size() >= 64) fail("{}: more than 64 steps.", where);
  const std::string type = string_field(json, "type", where);
  constexpr std::pair<const char*, Kind> plain[] = {{"ByteLevel", Kind::byte_level},
                                                    {"Lowercase", Kind::lowercase},
                                                    {"NFC", Kind::nfc},
                                                    {"NFD", Kind::nfd},
                                                    {"NFKC", Kind::nfkc},
                                                    {"NFKD", Kind::nfkd},
                                                    {"Nmt", Kind::nmt},
                                                    {"StripAccents", Kind::strip_accents}};
  for (const auto& [name, kind] : plain) {
    if (type == name) {
      steps_.push_back({kind});
      return;
    }
  }
  if (type == "Sequence") {
    const Json& list = list_field(json, "normalizers", where);
    for (size_t i = 0; i < list.size(); ++i) {
      add_steps(list[i], fmt::format("{}.normalizers[{}]", where, i), depth + 1);
    }
  } else if (type == "Strip") {
    if (bool_field(json, "strip_left", true, where)) steps_.push_back({Kind::strip_left});
    if (bool_field(json, "strip_right", true, where)) steps_.push_back({Kind::strip_right});
  } else if (type == "BertNormalizer") {
    const bool lower = bool_field(json, "lowercase", true, where);
    if (bool_field(json, "clean_text", true, where)) steps_.push_back({Kind::bert_clean});
    if (bool_field(json, "handle_chinese_chars", true, where)) steps_.push_back({Kind::bert_chinese});
    if (bool_field(json, "strip_accents", lower, where)) steps_.push_back({Kind::bert_accents});
    if (lower) steps_.push_back({Kind::lowercase});
  } else if (type == "Prepend") {
    steps_.push_back({.kind = Kind::prepend, .to = string_field(json, "prepend", where)});
  } else if (type == "Replace") {
    const Pattern pattern = pattern_field(json, where);
    Step step{.kind = pattern.literal ? Kind::replace_string : Kind::replace_regex,
              .from = pattern.source,
              .to = string_field(json, "content", where)};
    if (!pattern.literal) step.regex.push_back(Regex::compile(pattern.source, where + ".pattern"));
    steps_.push_back(std::move(step));
  } else if (type == "Precompiled") {
    const std::string place = where + ".precompiled_charsmap";
    const std::string bytes = base64_bytes(string_field(json, "precompiled_charsmap", where), place);
    if (bytes.empty()) return;  // no rules
    Step step{Kind::precompiled};
    step.charsmap.push_back(Charsmap::parse(bytes, place));
    steps_.push_back(std::move(step));
  } else {
    fail(
        "{}: normalizer \"{}\" is not supported; expected BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, "
        "Nmt, Precompiled, Prepend, Replace, Sequence, Strip or StripAccents.",
        where, type);
  }
}

std::string Normalizer::apply(std::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) result = apply(step, result);
  return result;
}

std::string Normalizer::apply(const Step& step, std::string_view text) {
  switch (step.kind) {
    case Kind::bert_clean: return bert_clean(text);
    case Kind::bert_chinese:
      return mapped(text, [](char32_t c, std::string& out) {
        if (is_han(c)) out.push_back(' ');
        append_utf8(out, c);
        if (is_han(c)) out.push_back(' ');
      });
    case Kind::bert_accents: return without(reference_form(text, NormalForm::nfd), is_nonspacing_mark);
    case Kind::byte_level: return byte_characters(text);
    case Kind::lowercase: return lowercase(text);
    case Kind::nfc: return reference_form(text, NormalForm::nfc);
    case Kind::nfd: return reference_form(text, NormalForm::nfd);
    case Kind::nfkc: return reference_form(text, NormalForm::nfkc);
    case Kind::nfkd: return reference_form(text, NormalForm::nfkd);
    case Kind::nmt: return nmt(text);
    case Kind::precompiled: return step.charsmap[0].apply_by_graphemes(text);
    case Kind::prepend: return text.empty() ? std::string() : step.to + std::string(text);
    case Kind::replace_regex: return replace_all(text, step.regex[0], step.to);
    case Kind::replace_string: return replace_all(text, step.from, step.to);
    case Kind::strip_left: return stripped(text, true);
    case Kind::strip_right: return stripped(text, false);
    case Kind::strip_accents: return without(text, is_accent);
  }
  return std::string(text);
}

}  // namespace backburn::text
