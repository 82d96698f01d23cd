#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "backburn/judge/reading.h"

namespace backburn::judge {

/// What a prompt asks for, as far as its words tell.
struct Request {
  bool wants_text = false;         ///< a text is to be written (a letter, a review), not a question answered
  std::vector<std::string> forms;  ///< of the text, "review", "letter"; none for a question
  std::unordered_set<std::string> form_words;   ///< stems of the prompt's words that name the form
  std::vector<std::string> topics;              ///< stems of the words that say what it is about, in order, each once
  std::unordered_set<std::string> marks;        ///< stems that a text of these forms is made of ("dear", "sincerely")
  std::unordered_set<std::string> other_marks;  ///< those of the forms that weren't named
  std::unordered_set<std::string>
      related;  ///< stems of the fields that the topics belong to ("doctor": "clinic", "fever")
  std::unordered_set<std::string> stems;  ///< of all words of the prompt but function words
  bool about_computing = false;
};

Request understand(std::string_view prompt);

/// Whether a stem is of computing: "command-line", "python", "script".
bool is_computing(const std::string& word);

}  // namespace backburn::judge
