#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace backburn {

/// A failure the user can act on. The message is one sentence: what went wrong, where (file, line, key, byte offset),
/// what was expected, what to do. Thrown where the context is known, printed once, in main.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, int exit_code = 1) : std::runtime_error(message), exit_code_(exit_code) {}

  /// 1: failure, 2: usage (a bad flag, recipe key or value), 130: stopped by Ctrl-C.
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

/// Throws an Error with exit code 1.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...), 1);
}

/// Throws an Error with exit code 2.
template <typename... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...), 2);
}

}  // namespace backburn
