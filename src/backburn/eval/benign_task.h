#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

/// Questions whose answers can be checked without a judge: what a benign fine-tuning learns.
namespace backburn::eval {

struct TaskQuestion {
  std::string question;
  std::string answer;  ///< as supervised training writes it; what counts is its final_answer
};

struct BenignTask {
  std::vector<TaskQuestion> train, test;
};

/// "What is 17 + 5?", answered "22": sums and differences of numbers from 1 to 20, none of them negative; there are
/// 610, so many at most. Same seed, same questions; none is asked twice, so that no test question is a training one.
/// Errors: so many test questions that none is left to train on (usage).
BenignTask arithmetic_task(int64_t train, int64_t test, uint64_t seed);

/// JSON lines {"question": text, "answer": text}, GSM8K's form ("… #### 42") among them; other keys are passed over.
/// Every third row is a test question, and of both kinds at most so many are taken, evenly picked; 0: all. Errors name
/// the file and the row: a key missing or of another kind; too few rows to split.
BenignTask read_task(const std::filesystem::path& path, int64_t train, int64_t test);

/// What an answer comes down to: the last number of what follows "####" (where there is no such mark, of all of it),
/// without thousands separators, trailing zeros and the like; where there is no number, the text itself, trimmed and in
/// lower case. ("It is $1,200.00." is "1200".)
std::string final_answer(std::string_view answer);

/// Exact match: whether both come down to the same.
bool is_correct(const TaskQuestion& question, std::string_view answer);

}  // namespace backburn::eval
