#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace backburn::text {

/// One prompt of a set.
struct Prompt {
  std::string id;     ///< the file's own id, or the prompt's number from 1
  std::string text;   ///< what the user says; UTF-8, never empty
  std::string split;  ///< "train" (also when the file says nothing) or "heldout"
  std::string group;  ///< activity or kind; "" when the file says nothing
};

/// Reads prompts; the ending of `origin` (a file name) chooses the form:
///   .jsonl  one object a line: prompt | text | goal | instruction | …, optional id, split, activity | kind |
///   group .json   a list of such objects, or of strings .csv    RFC 4180 with a header; the prompt column is
///   found by its name .txt    one prompt a line
/// Prompt columns, in this order: prompt, text, goal, behavior, forbidden_prompt, instruction, question (any
/// case). The instruction of an Alpaca record with a non-empty "input" is followed by a blank line and that
/// input. A split of "test", "validation", "held-out" or "held_out" means "heldout". Empty lines are skipped.
/// Errors name `origin` and line: no prompts, no prompt column (and the columns there are), a bad line, text
/// that is not UTF-8, an unknown split, an id given twice.
std::vector<Prompt> parse_prompts(std::string_view text, std::string_view origin);

/// parse_prompts of a file.
std::vector<Prompt> read_prompts(const std::filesystem::path& path);

}  // namespace backburn::text
