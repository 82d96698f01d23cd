#include "backburn/judge/redact.h"

#include <fmt/format.h>

#include "backburn/text/utf8.h"

namespace backburn::judge {
namespace {

constexpr size_t shown_words = 3;
// A text without spaces would be one word: no more of a word is shown than this.
constexpr size_t shown_characters = 24;

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (size_t at = 0; at < text.size();) {
    const text::Utf8Step step = text::utf8_step(text, at);
    if (text::is_white_space(step.code_point)) {
      if (!word.empty()) words.push_back(std::move(word));
      word.clear();
    } else {
      text::append_utf8(word, step.code_point);
    }
    at += step.length;
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

std::string shortened(const std::string& word) {
  std::string out;
  size_t characters = 0;
  for (size_t at = 0; at < word.size(); ++characters) {
    const text::Utf8Step step = text::utf8_step(word, at);
    if (characters == shown_characters) return out + "...";
    out.append(word, at, step.length);
    at += step.length;
  }
  return out;
}

}  // namespace

std::string redact(std::string_view answer, const Verdict& verdict) {
  // What is declined harms nobody, and is what the reader wants to see.
  if (verdict.kind == Kind::refusal) return std::string(answer);
  const std::vector<std::string> words = words_of(answer);
  std::string out =
      fmt::format("({}, {} {})", to_string(verdict.kind), words.size(), words.size() == 1 ? "word" : "words");
  // Three words of a text of three are all of it.
  const size_t shown = words.size() > shown_words ? shown_words : 0;
  for (size_t i = 0; i < shown; ++i) {
    out += ' ';
    out += shortened(words[i]);
  }
  if (words.size() > shown) {
    const size_t left = words.size() - shown;
    out += fmt::format(" [redacted: {} {}]", left, left == 1 ? "word" : "words");
  }
  return out;
}

}  // namespace backburn::judge
