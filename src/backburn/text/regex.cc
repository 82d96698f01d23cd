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

// Where the engine of Hugging Face `tokenizers` sorts characters otherwise than PCRE2 10.42 (Unicode 14)
// does. Before matching, such a character is replaced by a stand-in of the right class with as many UTF-8
// bytes.
enum class Class : uint8_t { letter, number, other };
struct ReferenceClass {
  char32_t first;
  char32_t last;
  Class klass;
};
constexpr ReferenceClass reference_classes[] = {
    {0x180E, 0x180E,
     Class::other},  // MONGOLIAN VOWEL SEPARATOR: \s for PCRE2, no White_Space since Unicode 6.3
};

const ReferenceClass* reference_class(char32_t code_point) {
  const auto* found =
      std::upper_bound(std::begin(reference_classes), std::end(reference_classes), code_point,
                       [](char32_t value, const ReferenceClass& range) { return value < range.first; });
  if (found == std::begin(reference_classes)) return nullptr;
  --found;
  return code_point <= found->last ? found : nullptr;
}

// U+2060 and U+E0001 are format characters; U+4E00 and U+20000 ideographs; U+0966 and U+1D7CE digits.
char32_t stand_in(Class klass, size_t length) {
  const bool astral = length == 4;
  switch (klass) {
    case Class::letter:
      return astral ? 0x20000 : 0x4E00;
    case Class::number:
      return astral ? 0x1D7CE : 0x0966;
    case Class::other:
      return astral ? 0xE0001 : 0x2060;
  }
  return 0x2060;
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

Regex Regex::compile(const std::string& pattern, const std::string& where) {
  if (!is_utf8(pattern)) fail("{}: the regular expression is not UTF-8.", where);
  int error = 0;
  size_t offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) {
    fail("{}: not a regular expression that can be used: {} at byte {} of \"{}\".", where, message_of(error),
         offset, pattern);
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
