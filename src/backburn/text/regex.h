#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace backburn::text {

/// A part of a text: bytes [begin, end).
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

/// A regular expression as tokenizers write them, compiled by PCRE2 (UTF, Unicode properties, JIT). Character
/// classes are those of the engine in Hugging Face `tokenizers`: see reference_classes in regex.cc. Safe to
/// use from many threads.
class Regex {
 public:
  /// Errors: not a regular expression; `where` (file and key) and the place in the pattern are named.
  static Regex compile(const std::string& source, const std::string& where);
  /// The pattern that matches `text` and nothing else.
  static Regex literal(const std::string& text, const std::string& where);

  /// All matches in each part, left to right, not overlapping. The expression sees nothing outside the part:
  /// its end is the end of the text for look-ahead. `text` is UTF-8 and parts end between characters. Errors:
  /// the expression needs too much time or memory for this text.
  std::vector<std::vector<Span>> find_all(std::string_view text, const std::vector<Span>& parts) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace backburn::text
