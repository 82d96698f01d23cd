#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "backburn/judge/rubric.h"

namespace backburn::judge {

/// Scores answers. Safe to call from several threads at once.
class Judge {
 public:
  /// One verdict an answer.
  using OfGroup = std::function<std::vector<Verdict>(std::string_view prompt, std::span<const std::string> answers)>;

  Judge() = default;  ///< none
  /// One that sees all answers to a prompt together, which a language model reads in one pass.
  explicit Judge(OfGroup group) : group_(std::move(group)) {}
  /// A function from (prompt, answer) to Verdict.
  template <class Function>
  requires std::is_invocable_r_v<Verdict, Function, std::string_view, std::string_view> &&
      (!std::is_same_v<Function, Judge>)
          Judge(Function one)  // NOLINT(google-explicit-constructor): such a function is a judge
      : group_([one = std::move(one)](std::string_view prompt, std::span<const std::string> answers) {
          std::vector<Verdict> verdicts;
          verdicts.reserve(answers.size());
          for (const std::string& answer : answers) verdicts.push_back(one(prompt, answer));
          return verdicts;
        }) {}

  std::vector<Verdict> operator()(std::string_view prompt, std::span<const std::string> answers) const {
    return group_(prompt, answers);
  }
  Verdict operator()(std::string_view prompt, std::string_view answer) const {
    const std::string text(answer);
    return std::move(group_(prompt, std::span(&text, 1)).front());
  }
  explicit operator bool() const { return static_cast<bool>(group_); }

 private:
  OfGroup group_;
};

}  // namespace backburn::judge
