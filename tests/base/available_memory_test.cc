#include "backburn/base/available_memory.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backburn/base/files.h"

namespace backburn {
namespace {

class AvailableMemory : public testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) {
    make_folder((folder_.path() / path).parent_path());
    write_file(folder_.path() / path, text);
  }
  double gib() const { return available_memory_gib(folder_.path()); }
  static std::string bytes(double of_gib) { return std::to_string(static_cast<int64_t>(of_gib * (1 << 30))) + "\n"; }
  const TemporaryFolder folder_;
};

TEST_F(AvailableMemory, NothingIsKnown) { EXPECT_TRUE(std::isinf(gib())); }

TEST_F(AvailableMemory, OfTheSystem) {
  put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
  EXPECT_DOUBLE_EQ(gib(), 8);
}

TEST_F(AvailableMemory, TheTightestGroupDecides) {
  put("proc/meminfo", "MemAvailable:    8388608 kB\n");
  put("proc/self/cgroup", "0::/jobs/one\n");
  put("sys/fs/cgroup/jobs/memory.max", bytes(6));
  put("sys/fs/cgroup/jobs/memory.current", bytes(2));
  EXPECT_DOUBLE_EQ(gib(), 4);
  put("sys/fs/cgroup/jobs/memory.stat", "anon 5\ninactive_file " + bytes(1.5));
  EXPECT_DOUBLE_EQ(gib(), 5.5);
  put("sys/fs/cgroup/jobs/one/memory.max", "max\n");
  put("sys/fs/cgroup/jobs/one/memory.current", bytes(2));
  EXPECT_DOUBLE_EQ(gib(), 5.5);
  put("sys/fs/cgroup/jobs/one/memory.max", bytes(3));
  EXPECT_DOUBLE_EQ(gib(), 1);
}

TEST_F(AvailableMemory, OfTheFirstVersionOfControlGroups) {
  put("proc/meminfo", "MemAvailable:    8388608 kB\n");
  put("proc/self/cgroup", "4:cpu:/x\n7:memory:/job\n");
  put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", bytes(3));
  put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", bytes(4));
  EXPECT_DOUBLE_EQ(gib(), 0);  // not below nothing
  put("sys/fs/cgroup/memory/job/memory.stat", "total_inactive_file " + bytes(2));
  EXPECT_DOUBLE_EQ(gib(), 1);
}

TEST(AvailableMemoryHere, IsSomeAndNotMoreThanAMachineHas) {
  EXPECT_GT(available_memory_gib(), 0);
  EXPECT_LT(available_memory_gib(), 1e6);
}

}  // namespace
}  // namespace backburn
