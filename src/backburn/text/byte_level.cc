#include "backburn/text/byte_level.h"

#include <array>
#include <cstdint>

#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

constexpr size_t alphabet_end = 0x144;

constexpr bool prints(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> characters_of_bytes() {
  std::array<char32_t, 256> characters{};
  char32_t moved = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) characters[byte] = prints(byte) ? char32_t{byte} : moved++;
  return characters;
}
constexpr std::array<char32_t, 256> to_character = characters_of_bytes();

// −1 for what is not in the alphabet.
constexpr std::array<int16_t, alphabet_end> bytes_of_alphabet() {
  std::array<int16_t, alphabet_end> bytes{};
  for (int16_t& byte : bytes) byte = -1;
  for (unsigned byte = 0; byte < 256; ++byte) bytes[to_character[byte]] = static_cast<int16_t>(byte);
  return bytes;
}
constexpr std::array<int16_t, alphabet_end> to_byte = bytes_of_alphabet();

}  // namespace

char32_t byte_character(unsigned byte) { return to_character[byte]; }

std::string byte_characters(std::string_view bytes) {
  std::string characters;
  for (char c : bytes) append_utf8(characters, byte_character(static_cast<unsigned char>(c)));
  return characters;
}

std::optional<std::string> bytes_of_characters(std::string_view characters) {
  std::string bytes;
  for (size_t at = 0; at < characters.size();) {
    const Utf8Step step = utf8_step(characters, at);
    if (step.code_point >= alphabet_end || to_byte[step.code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(to_byte[step.code_point])));
    at += step.length;
  }
  return bytes;
}

}  // namespace backburn::text
