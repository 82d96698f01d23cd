#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace backburn::judge {

/// One sentence or line of a text, as words.
struct Sentence {
  /// Lower case, contractions written out ("can't" is "cannot", "I'm" is "i am"), words only, one space
  /// between.
  std::string text;
  size_t first_word = 0;  ///< in Reading::words
  size_t words = 0;
  bool list_item = false;  ///< begins with "1.", "-", "*", "Step 2"
  bool quoted = false;     ///< lies inside double quotes, as speech in a story does
  bool question = false;   ///< ends in "?"
};

/// A text as the rubric reads it.
struct Reading {
  std::vector<Sentence> sentences;
  std::vector<std::string> words;  ///< of all sentences, in order; possessive "'s" dropped
  size_t list_items = 0;
  size_t numbers = 0;       ///< words that hold a digit and are not a list's number
  size_t names = 0;         ///< capitalised words that don't begin a sentence
  size_t mixed_case = 0;    ///< words like "fairDeposit": two run together
  size_t code_spans = 0;    ///< pairs of backticks, and fences
  size_t placeholders = 0;  ///< "[Name]", "{date}", "<company>"
  size_t letters = 0;       ///< bytes that are ASCII letters
  size_t visible = 0;       ///< bytes that are not white space
};

Reading read(std::string_view raw);

/// A word without its common endings, so that "reviews", "reviewed", "reviewing" are alike. Not a dictionary
/// form.
std::string stem(std::string_view word);

/// Whether `word` is one of the words that English sentences are held together by ("the", "of", "you", "is").
bool is_function_word(std::string_view word);

}  // namespace backburn::judge
