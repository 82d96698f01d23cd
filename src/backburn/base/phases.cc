#include "backburn/base/phases.h"

#include <chrono>
#include <vector>

#include "backburn/base/files.h"
#include "backburn/base/json.h"

namespace backburn {
namespace {

using Clock = std::chrono::steady_clock;

struct Event {
  const char* name;
  int64_t begin, duration;  // microseconds
};

// Like a log, this is written to from everywhere: handing it through every call would say nothing more.
struct Recording {
  bool on = false;
  Clock::time_point start;
  std::vector<Event> events;
  int64_t now() const { return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count(); }
};
Recording recording;

}  // namespace

void record_phases() { recording = {true, Clock::now(), {}}; }

void write_phases(const std::filesystem::path& path) {
  Json events = Json::array();
  for (const auto& [name, begin, duration] : recording.events) {
    events.push_back({{"name", name}, {"ph", "X"}, {"ts", begin}, {"dur", duration}, {"pid", 1}, {"tid", 1}});
  }
  write_file(path, Json({{"traceEvents", events}}).dump() + "\n");
}

Phase::Phase(const char* name) : name_(name) {
  if (recording.on) begin_ = recording.now();
}

Phase::~Phase() {
  if (begin_ >= 0) recording.events.push_back({name_, begin_, recording.now() - begin_});
}

}  // namespace backburn
