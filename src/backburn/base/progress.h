#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace backburn {

/// Where people read: standard error. A bar with ETA when it is a terminal, a plain line now and then when not.
class Progress {
 public:
  /// `total` items of work under one name ("attack"). total 0: unknown length. `done` of them were finished before, in
  /// another process: the time that is left counts from there.
  Progress(std::string name, int64_t total, int64_t done = 0);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// `done` items are finished; `note` is a short text beside the bar ("harm 3.2").
  void update(int64_t done, const std::string& note = "");

 private:
  void print(bool last);

  std::string name_;
  int64_t total_;
  int64_t done_before_;
  int64_t done_;
  std::string note_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_print_;
};

/// One line on standard error, for what is no progress bar ("align: reused runs/demo/aligned").
void say(const std::string& line);

/// "45 s", "3 min 20 s", "1 h 05 min".
std::string format_seconds(double seconds);

/// Whether standard error is a terminal that may be coloured (NO_COLOR unset).
bool colors_wanted();

}  // namespace backburn
