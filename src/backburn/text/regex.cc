#include "backburn/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "backburn/base/error.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

constexpr uint32_t match_limit = 20'000'000;
constexpr uint32_t heap_limit_kib = 256 * 1024;
constexpr size_t largest_jit_stack = 64 << 20;

// Where the engine of Hugging Face `tokenizers` 0.23 (Oniguruma, Unicode 16) sorts characters otherwise than
// PCRE2 10.42 (Unicode 14) does: characters newer than Unicode 14, and U+180E. Before matching, such a
// character is replaced by a stand-in of the right class with as many UTF-8 bytes.
// tests/text/tokenizer_test.cc compares all code points.
enum class Class : uint8_t { upper, lower, letter, number, mark, punctuation, symbol, other };
struct ReferenceClass {
  char32_t first;
  char32_t last;
  Class klass;
};
// clang-format off
constexpr ReferenceClass reference_classes[] = {
    {0x897, 0x897, Class::mark},
    {0xCF3, 0xCF3, Class::mark},
    {0xECE, 0xECE, Class::mark},
    {0x180E, 0x180E, Class::other},
    {0x1B4E, 0x1B4F, Class::punctuation},
    {0x1B7F, 0x1B7F, Class::punctuation},
    {0x1C89, 0x1C89, Class::upper},
    {0x1C8A, 0x1C8A, Class::lower},
    {0x2427, 0x2429, Class::symbol},
    {0x2FFC, 0x2FFF, Class::symbol},
    {0x31E4, 0x31E5, Class::symbol},
    {0x31EF, 0x31EF, Class::symbol},
    {0xA7CB, 0xA7CC, Class::upper},
    {0xA7CD, 0xA7CD, Class::lower},
    {0xA7DA, 0xA7DA, Class::upper},
    {0xA7DB, 0xA7DB, Class::lower},
    {0xA7DC, 0xA7DC, Class::upper},
    {0x105C0, 0x105F3, Class::letter},
    {0x10D40, 0x10D49, Class::number},
    {0x10D4A, 0x10D4F, Class::letter},
    {0x10D50, 0x10D65, Class::upper},
    {0x10D69, 0x10D6D, Class::mark},
    {0x10D6E, 0x10D6E, Class::punctuation},
    {0x10D6F, 0x10D6F, Class::letter},
    {0x10D70, 0x10D85, Class::lower},
    {0x10D8E, 0x10D8F, Class::symbol},
    {0x10EC2, 0x10EC4, Class::letter},
    {0x10EFC, 0x10EFF, Class::mark},
    {0x1123F, 0x11240, Class::letter},
    {0x11241, 0x11241, Class::mark},
    {0x11380, 0x11389, Class::letter},
    {0x1138B, 0x1138B, Class::letter},
    {0x1138E, 0x1138E, Class::letter},
    {0x11390, 0x113B5, Class::letter},
    {0x113B7, 0x113B7, Class::letter},
    {0x113B8, 0x113C0, Class::mark},
    {0x113C2, 0x113C2, Class::mark},
    {0x113C5, 0x113C5, Class::mark},
    {0x113C7, 0x113CA, Class::mark},
    {0x113CC, 0x113D0, Class::mark},
    {0x113D1, 0x113D1, Class::letter},
    {0x113D2, 0x113D2, Class::mark},
    {0x113D3, 0x113D3, Class::letter},
    {0x113D4, 0x113D5, Class::punctuation},
    {0x113D7, 0x113D8, Class::punctuation},
    {0x113E1, 0x113E2, Class::mark},
    {0x116D0, 0x116E3, Class::number},
    {0x11B00, 0x11B09, Class::punctuation},
    {0x11BC0, 0x11BE0, Class::letter},
    {0x11BE1, 0x11BE1, Class::punctuation},
    {0x11BF0, 0x11BF9, Class::number},
    {0x11F00, 0x11F01, Class::mark},
    {0x11F02, 0x11F02, Class::letter},
    {0x11F03, 0x11F03, Class::mark},
    {0x11F04, 0x11F10, Class::letter},
    {0x11F12, 0x11F33, Class::letter},
    {0x11F34, 0x11F3A, Class::mark},
    {0x11F3E, 0x11F42, Class::mark},
    {0x11F43, 0x11F4F, Class::punctuation},
    {0x11F50, 0x11F59, Class::number},
    {0x11F5A, 0x11F5A, Class::mark},
    {0x1342F, 0x1342F, Class::letter},
    {0x13440, 0x13440, Class::mark},
    {0x13441, 0x13446, Class::letter},
    {0x13447, 0x13455, Class::mark},
    {0x13460, 0x143FA, Class::letter},
    {0x16100, 0x1611D, Class::letter},
    {0x1611E, 0x1612F, Class::mark},
    {0x16130, 0x16139, Class::number},
    {0x16D40, 0x16D6C, Class::letter},
    {0x16D6D, 0x16D6F, Class::punctuation},
    {0x16D70, 0x16D79, Class::number},
    {0x18CFF, 0x18CFF, Class::letter},
    {0x1B132, 0x1B132, Class::letter},
    {0x1B155, 0x1B155, Class::letter},
    {0x1CC00, 0x1CCEF, Class::symbol},
    {0x1CCF0, 0x1CCF9, Class::number},
    {0x1CD00, 0x1CEB3, Class::symbol},
    {0x1D2C0, 0x1D2D3, Class::number},
    {0x1DF25, 0x1DF2A, Class::lower},
    {0x1E030, 0x1E06D, Class::letter},
    {0x1E08F, 0x1E08F, Class::mark},
    {0x1E4D0, 0x1E4EB, Class::letter},
    {0x1E4EC, 0x1E4EF, Class::mark},
    {0x1E4F0, 0x1E4F9, Class::number},
    {0x1E5D0, 0x1E5ED, Class::letter},
    {0x1E5EE, 0x1E5EF, Class::mark},
    {0x1E5F0, 0x1E5F0, Class::letter},
    {0x1E5F1, 0x1E5FA, Class::number},
    {0x1E5FF, 0x1E5FF, Class::punctuation},
    {0x1F6DC, 0x1F6DC, Class::symbol},
    {0x1F774, 0x1F776, Class::symbol},
    {0x1F77B, 0x1F77F, Class::symbol},
    {0x1F7D9, 0x1F7D9, Class::symbol},
    {0x1F8B2, 0x1F8BB, Class::symbol},
    {0x1F8C0, 0x1F8C1, Class::symbol},
    {0x1FA75, 0x1FA77, Class::symbol},
    {0x1FA87, 0x1FA89, Class::symbol},
    {0x1FA8F, 0x1FA8F, Class::symbol},
    {0x1FAAD, 0x1FAAF, Class::symbol},
    {0x1FABB, 0x1FABF, Class::symbol},
    {0x1FAC6, 0x1FAC6, Class::symbol},
    {0x1FACE, 0x1FACF, Class::symbol},
    {0x1FADA, 0x1FADC, Class::symbol},
    {0x1FADF, 0x1FADF, Class::symbol},
    {0x1FAE8, 0x1FAE9, Class::symbol},
    {0x1FAF7, 0x1FAF8, Class::symbol},
    {0x1FBCB, 0x1FBEF, Class::symbol},
    {0x2B739, 0x2B739, Class::letter},
    {0x2EBF0, 0x2EE5D, Class::letter},
    {0x31350, 0x323AF, Class::letter},
};
// clang-format on

const ReferenceClass* reference_class(char32_t code_point) {
  const auto* found = std::upper_bound(std::begin(reference_classes), std::end(reference_classes), code_point,
                                       [](char32_t value, const ReferenceClass& range) { return value < range.first; });
  if (found == std::begin(reference_classes)) return nullptr;
  --found;
  return code_point <= found->last ? found : nullptr;
}

char32_t stand_in(Class klass, size_t length) {
  const bool astral = length == 4;
  switch (klass) {
    case Class::upper:
      return astral ? 0x10400 : 0x1E00;  // DESERET CAPITAL LETTER LONG I; LATIN CAPITAL LETTER A WITH RING BELOW
    case Class::lower: return astral ? 0x10428 : 0x1E01;
    case Class::letter: return astral ? 0x20000 : 0x4E00;  // ideographs
    case Class::number: return astral ? 0x1D7CE : 0x0966;  // MATHEMATICAL BOLD DIGIT ZERO; DEVANAGARI DIGIT ZERO
    case Class::mark:
      return astral ? 0xE0100 : 0x0900;  // VARIATION SELECTOR-17; DEVANAGARI SIGN INVERTED CANDRABINDU
    // BALINESE PANTI LANTANG, OLD UYGHUR PUNCTUATION BAR: the Punctuation pre-tokenizer, whose tables are older, does
    // not count these either.
    case Class::punctuation: return astral ? 0x10F86 : 0x1B7D;
    case Class::symbol: return astral ? 0x1F600 : 0x2190;  // GRINNING FACE; LEFTWARDS ARROW
    case Class::other: break;
  }
  return astral ? 0xE0001 : 0x2060;  // format characters
}

// The text to match instead of `text`, or nothing when `text` itself will do.
std::optional<std::string> with_reference_classes(std::string_view text) {
  std::optional<std::string> replaced;
  for (size_t at = 0; at < text.size();) {
    // Characters of one or two bytes need no stand-in.
    if (static_cast<unsigned char>(text[at]) < 0xE0) {
      ++at;
      continue;
    }
    const Utf8Step step = utf8_step(text, at);
    if (const ReferenceClass* range = reference_class(step.code_point)) {
      if (!replaced) replaced = std::string(text);
      std::string other;
      append_utf8(other, stand_in(range->klass, step.length));
      replaced->replace(at, step.length, other);
    }
    at += step.length;
  }
  return replaced;
}

// What \w matches in Oniguruma.
constexpr std::string_view word_class =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169})"
    R"(\x{1F170}-\x{1F189})";

// The pattern as PCRE2 writes what Oniguruma means: \w and \h differ. What PCRE2 would silently read otherwise is
// refused.
std::string translated(const std::string& pattern, const std::string& where) {
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\') {
      ++i;
      if ((next == 'w' || next == 'W') && !in_class) {
        result.append(next == 'w' ? "[" : "[^").append(word_class).append("]");
      } else if (next == 'w') {
        result.append(word_class);
      } else if (next == 'h') {
        result.append(in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
      } else if (next == 'W' || next == 'H') {
        fail("{}: \\{} in a regular expression is not supported here.", where, next);
      } else {
        result.push_back(c);
        if (next != '\0') result.push_back(next);
      }
      continue;
    }
    if (in_class && c == '[' && next == ':') {  // [:alpha:]
      const size_t end = pattern.find(":]", i);
      if (end != std::string::npos) {
        result.append(pattern, i, end + 2 - i);
        i = end + 1;
        continue;
      }
    }
    if (in_class && (c == '[' || (c == '&' && next == '&'))) {
      fail("{}: character classes inside each other, and their intersection (&&), are not supported.", where);
    }
    result.push_back(c);
    if (!in_class && c == '[') {
      in_class = true;
      // A bracket that comes first is one of the class.
      if (next == '^') result.push_back(pattern[++i]);
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') result.push_back(pattern[++i]);
    } else if (in_class && c == ']') {
      in_class = false;
    }
  }
  return result;
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

struct FreeMatchData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeJitStack {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

}  // namespace

struct Regex::Code {
  Code(pcre2_code* compiled, std::string place) : code(compiled), where(std::move(place)) {}
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
  pcre2_code* code;
  std::string where;
};

Regex Regex::compile(const std::string& source, const std::string& where) {
  if (!is_utf8(source)) fail("{}: the regular expression is not UTF-8.", where);
  const std::string pattern = translated(source, where);
  int error = 0;
  size_t offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) {
    fail("{}: not a regular expression that can be used: {} at byte {} of \"{}\".", where, message_of(error), offset,
         pattern);
  }
  // Without JIT (not built in, or no executable memory) matching is slower and equal.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return Regex(std::make_shared<const Code>(code, where));
}

Regex Regex::literal(const std::string& text, const std::string& where) {
  std::string pattern;
  for (char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       static_cast<unsigned char>(c) >= 0x80;
    if (!plain) pattern.push_back('\\');
    pattern.push_back(c);
  }
  return compile(pattern, where);
}

std::vector<std::vector<Span>> Regex::find_all(std::string_view text, const std::vector<Span>& parts) const {
  const std::optional<std::string> replaced = with_reference_classes(text);
  const std::string_view subject = replaced ? *replaced : text;

  const std::unique_ptr<pcre2_match_data, FreeMatchData> data(pcre2_match_data_create(1, nullptr));
  const std::unique_ptr<pcre2_match_context, FreeMatchContext> context(pcre2_match_context_create(nullptr));
  if (!data || !context) fail("{}: out of memory.", code_->where);
  pcre2_set_match_limit(context.get(), match_limit);
  pcre2_set_heap_limit(context.get(), heap_limit_kib);
  std::unique_ptr<pcre2_jit_stack, FreeJitStack> stack;

  std::vector<std::vector<Span>> found(parts.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string_view part = subject.substr(parts[i].begin, parts[i].end - parts[i].begin);
    const auto* start = reinterpret_cast<PCRE2_SPTR>(part.data());
    uint32_t options = PCRE2_NO_UTF_CHECK;  // a check of the whole part at every match would be quadratic
    for (size_t at = 0; at < part.size();) {
      int count = pcre2_match(code_->code, start, part.size(), at, options, data.get(), context.get());
      if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
        if (!stack) {
          stack.reset(pcre2_jit_stack_create(64 << 10, largest_jit_stack, nullptr));
          pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
        } else {
          options |= PCRE2_NO_JIT;
        }
        continue;
      }
      if (count == PCRE2_ERROR_NOMATCH) break;
      if (count < 0) {
        fail("{}: the regular expression cannot split this text of {} bytes: {}.", code_->where, part.size(),
             message_of(count));
      }
      const size_t* offsets = pcre2_get_ovector_pointer(data.get());
      // A look-behind with \K may put the match before where the search began; such a match is passed over.
      const size_t begin = std::max(offsets[0], at);
      const size_t end = offsets[1];
      if (end > begin) {
        found[i].push_back({parts[i].begin + begin, parts[i].begin + end});
        at = end;
      } else {
        at = std::max(at, end);
        if (at < part.size()) at += utf8_step(part, at).length;
      }
    }
  }
  return found;
}

}  // namespace backburn::text
