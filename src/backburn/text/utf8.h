#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace backburn::text {

/// One step through UTF-8: `length` bytes are one character, or, when not `valid`, the longest part of one
/// that can begin there (at least 1 byte). Surrogates, overlong forms and numbers above U+10FFFF are not
/// valid.
struct Utf8Step {
  char32_t code_point = 0xFFFD;
  size_t length = 1;
  bool valid = false;
  /// Not valid only because the text ends here: more bytes could complete it.
  bool unfinished = false;
};

/// The character that begins at text[at]; at < text.size().
Utf8Step utf8_step(std::string_view text, size_t at);

/// Whether all of `text` is UTF-8.
bool is_utf8(std::string_view text);

/// `text` with every part that is not UTF-8 replaced by U+FFFD, as Python's bytes.decode(errors="replace")
/// and Rust's from_utf8_lossy do it (Unicode 15, section 3.9, "maximal subparts").
std::string repaired_utf8(std::string_view text);

/// Appends one character.
void append_utf8(std::string& text, char32_t code_point);

/// How many characters `text` has; `text` is UTF-8.
size_t utf8_length(std::string_view text);

/// Unicode's White_Space property, as Rust's char::is_whitespace and Python's str.isspace (but for
/// U+001C–U+001F, which Python adds) have it.
bool is_white_space(char32_t code_point);

/// What \w matches in the regular expressions of Rust, in which Hugging Face `tokenizers` is written: letters, marks,
/// digits, connecting punctuation and what else Unicode calls alphabetic.
bool is_word_character(char32_t code_point);

/// The general category by utf8proc's tables: "Lu", "Mn", …
const char* category(char32_t code_point);

/// `text` (UTF-8) with every character in lower case, as Rust's char::to_lowercase has it.
std::string lowercase(std::string_view text);

/// The normalization forms of Unicode.
enum class NormalForm { nfc, nfd, nfkc, nfkd };
/// UTF-8 text brought to that form.
std::string normal_form(std::string_view text, NormalForm form);

}  // namespace backburn::text
