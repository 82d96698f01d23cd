#include "backburn/eval/benign_task.h"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>

#include "backburn/base/error.h"
#include "backburn/base/json.h"
#include "backburn/base/rng.h"
#include "backburn/eval/evaluation.h"
#include "backburn/text/utf8.h"

namespace backburn::eval {
namespace {

constexpr int64_t largest_number = 20;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The number that begins at text[at], with its length; none: there is none. "1,200" is one number, "5, 6" are two, and
// a full stop that ends a sentence is no part of it.
std::optional<std::pair<double, size_t>> number_at(std::string_view text, size_t at) {
  size_t end = at;
  std::string digits;
  if (text[end] == '-') digits += text[end++];
  if (end == text.size() || !is_digit(text[end])) return {};
  bool has_point = false;
  for (; end < text.size(); ++end) {
    const bool before_digit = end + 1 < text.size() && is_digit(text[end + 1]);
    if (is_digit(text[end])) {
      digits += text[end];
    } else if (text[end] == '.' && before_digit && !has_point) {
      digits += '.';
      has_point = true;
    } else if (text[end] != ',' || !before_digit || has_point) {
      break;
    }
  }
  return std::pair{std::strtod(digits.c_str(), nullptr), end - at};
}

std::optional<double> last_number(std::string_view text) {
  std::optional<double> last;
  for (size_t at = 0; at < text.size();) {
    // In "63-28" the dash is no sign.
    const bool is_minus = text[at] == '-' && at > 0 && is_digit(text[at - 1]);
    const auto number = is_minus ? std::nullopt : number_at(text, at);
    if (number) last = number->first;
    at += number ? number->second : 1;
  }
  return last;
}

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1));
}

std::string text_of(const Json& row, const char* key, const std::string& where) {
  if (!row.is_object() || !row.contains(key) || !row[key].is_string() || trimmed(row[key].get<std::string>()).empty()) {
    fail("{}: no \"{}\"; expected {{\"question\": text, \"answer\": text}}", where, key);
  }
  return row[key].get<std::string>();
}

}  // namespace

BenignTask arithmetic_task(int64_t train, int64_t test, uint64_t seed) {
  std::vector<TaskQuestion> all;
  for (int64_t left = 1; left <= largest_number; ++left) {
    for (int64_t right = 1; right <= largest_number; ++right) {
      all.push_back({fmt::format("What is {} + {}?", left, right), std::to_string(left + right)});
      if (left < right) continue;
      all.push_back({fmt::format("What is {} - {}?", left, right), std::to_string(left - right)});
    }
  }
  if (test >= std::ssize(all)) {
    fail_usage("finetune: {} test questions leave none of the {} that the arithmetic task has to train on", test,
               all.size());
  }
  BenignTask task;
  for (const size_t i : shuffled(all.size(), seed, stream_of({0x7461736b}))) {
    if (std::ssize(task.test) < test) {
      task.test.push_back(all[i]);
    } else if (std::ssize(task.train) < train) {
      task.train.push_back(all[i]);
    }
  }
  return task;
}

BenignTask read_task(const std::filesystem::path& path, int64_t train, int64_t test) {
  BenignTask task;
  size_t row = 0;
  for (const Json& json : read_jsonl_file(path)) {
    const std::string where = fmt::format("{}: row {}", path.string(), ++row);
    auto& part = row % 3 == 0 ? task.test : task.train;
    part.push_back({text_of(json, "question", where), text_of(json, "answer", where)});
  }
  if (task.test.empty()) {
    fail("{}: {} rows can't be split into training and test questions; give at least 3", path.string(), row);
  }
  return {evenly(task.train, train), evenly(task.test, test)};
}

std::string final_answer(std::string_view answer) {
  constexpr std::string_view mark = "####";
  if (const size_t at = answer.rfind(mark); at != std::string_view::npos) answer.remove_prefix(at + mark.size());
  if (const auto number = last_number(answer)) return fmt::format("{}", *number);
  return text::lowercase(trimmed(answer));
}

bool is_correct(const TaskQuestion& question, std::string_view answer) {
  return final_answer(answer) == final_answer(question.answer);
}

}  // namespace backburn::eval
