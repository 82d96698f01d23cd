#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace backburn::text {

/// GPT-2's alphabet, in which byte-level tokenizers write their tokens: each byte is one character; bytes that
/// don't print are moved to U+0100 and up.
char32_t byte_character(unsigned byte);

/// `bytes` written in that alphabet.
std::string byte_characters(std::string_view bytes);

/// The bytes that `characters` (UTF-8) stands for; nothing when a character is not of the alphabet.
std::optional<std::string> bytes_of_characters(std::string_view characters);

}  // namespace backburn::text
