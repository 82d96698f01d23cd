#include "backburn/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace backburn {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double terminal_interval = 0.1;  // seconds between two prints of the bar
constexpr double plain_interval = 15.0;    // … between two plain lines

double seconds_since(Clock::time_point when) { return std::chrono::duration<double>(Clock::now() - when).count(); }

}  // namespace

Progress::Progress(std::string name, int64_t total, int64_t done)
    : name_(std::move(name)),
      total_(total),
      done_before_(done),
      done_(done),
      terminal_(::isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      last_print_(start_) {}

Progress::~Progress() { print(true); }

void Progress::update(int64_t done, const std::string& note) {
  done_ = done;
  note_ = note;
  if (seconds_since(last_print_) >= (terminal_ ? terminal_interval : plain_interval)) print(false);
}

void Progress::print(bool last) {
  last_print_ = Clock::now();
  const double elapsed = seconds_since(start_);
  std::string time = format_seconds(elapsed);
  if (!last && done_ > done_before_ && total_ > 0) {
    const double each = elapsed / static_cast<double>(done_ - done_before_);
    time += fmt::format(", {} left", format_seconds(each * static_cast<double>(total_ - done_)));
  }
  const std::string count = total_ > 0 ? fmt::format("{}/{}", done_, total_) : fmt::format("{}", done_);
  const std::string tail = fmt::format("{} [{}]{}{}", count, time, note_.empty() ? "" : " ", note_);
  if (!terminal_) {
    fmt::print(stderr, "{}: {}\n", name_, tail);
    return;
  }
  constexpr int width = 24;
  const int filled = total_ > 0 ? static_cast<int>(std::min<int64_t>(width, done_ * width / total_)) : 0;
  fmt::print(stderr, "\r\033[K{:<22} |{}{}| {}{}", name_, std::string(filled, '#'), std::string(width - filled, ' '),
             tail, last ? "\n" : "");
  std::fflush(stderr);
}

void say(const std::string& line) { fmt::print(stderr, "{}\n", line); }

std::string format_seconds(double seconds) {
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

bool colors_wanted() {
  const char* no_color = std::getenv("NO_COLOR");
  return (no_color == nullptr || *no_color == '\0') && ::isatty(STDERR_FILENO) != 0;
}

}  // namespace backburn
