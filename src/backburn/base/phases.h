#pragma once

#include <cstdint>
#include <filesystem>

namespace backburn {

/// From now on the main thread's phases are remembered (about 40 bytes each), for write_phases.
void record_phases();

/// Writes what was recorded as a Chrome trace (chrome://tracing, Perfetto): complete events, microseconds since
/// record_phases().
void write_phases(const std::filesystem::path& path);

/// Names what happens from here to the end of the scope, for `--profile`. Costs a look at a flag when nothing is
/// recorded. Of the main thread only: workers in a parallel region have no phases of their own.
class Phase {
 public:
  explicit Phase(const char* name);  ///< a literal: the pointer is kept
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;
  ~Phase();

 private:
  const char* name_;
  int64_t begin_ = -1;  // microseconds; −1: not recorded
};

}  // namespace backburn
