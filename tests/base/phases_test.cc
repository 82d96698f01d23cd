#include "backburn/base/phases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/files.h"
#include "backburn/base/json.h"

namespace backburn {
namespace {

Json trace_of(const std::filesystem::path& path) { return Json::parse(read_file(path))["traceEvents"]; }

TEST(Phases, AreWrittenAsCompleteEventsInnerFirst) {
  const TemporaryFolder folder;
  { const Phase before("before recording"); }
  record_phases();
  {
    const Phase outer("outer");
    const Phase inner("inner");
  }
  make_folder(folder.path());
  write_phases(folder.path() / "trace.json");
  const Json events = trace_of(folder.path() / "trace.json");
  ASSERT_EQ(events.size(), 2);
  EXPECT_EQ(events[0]["name"], "inner");
  EXPECT_EQ(events[1]["name"], "outer");
  EXPECT_EQ(events[0]["ph"], "X");
  EXPECT_LE(events[1]["ts"], events[0]["ts"]);
  EXPECT_GE(events[1]["dur"], events[0]["dur"]);
}

}  // namespace
}  // namespace backburn
