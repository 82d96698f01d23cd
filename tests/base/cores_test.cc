#include "backburn/base/cores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "backburn/base/files.h"

namespace backburn {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::IsSubsetOf;
using testing::Not;

struct Cores : testing::Test {
  void put(const std::string& path, const std::string& text) const {
    make_folder((folder.path() / path).parent_path());
    write_file(folder.path() / path, text);
  }
  const TemporaryFolder folder;
};

TEST_F(Cores, OneCpuOfEachCore) {
  for (const int cpu : {0, 1, 2, 3}) {
    put("cpu" + std::to_string(cpu) + "/topology/core_cpus_list", cpu % 2 == 0 ? "0,2\n" : "1,3\n");
  }
  for (const int cpu : {4, 5}) put("cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", "4-5\n");
  EXPECT_THAT(one_cpu_a_core(std::vector{0, 1, 2, 3, 4, 5}, folder.path()), ElementsAre(0, 1, 4));
  EXPECT_THAT(one_cpu_a_core(std::vector{2, 3, 5}, folder.path()), ElementsAre(2, 3, 5));
  EXPECT_THAT(one_cpu_a_core(std::vector{7, 8}, folder.path()), ElementsAre(7, 8));  // not described
}

TEST_F(Cores, TheTightestQuotaOfAllGroupsCounts) {
  EXPECT_FALSE(cpu_quota(folder.path()).has_value());
  put("proc/self/cgroup", "0::/outer/inner\n");
  put("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
  EXPECT_FALSE(cpu_quota(folder.path()).has_value());
  put("sys/fs/cgroup/outer/cpu.max", "350000 100000\n");
  EXPECT_EQ(cpu_quota(folder.path()), 3.5);
  put("sys/fs/cgroup/outer/inner/cpu.max", "150000 100000\n");
  EXPECT_EQ(cpu_quota(folder.path()), 1.5);
  // A path of the host's, inside a container.
  put("proc/self/cgroup", "0::/somewhere/else\n");
  put("sys/fs/cgroup/cpu.max", "200000 50000\n");
  EXPECT_EQ(cpu_quota(folder.path()), 4);
}

TEST_F(Cores, TheFirstVersionOfControlGroupsToo) {
  put("proc/self/cgroup", "9:memory:/m\n4:cpu,cpuacct:/box\n1:cpuset:/\nnonsense\n");
  put("sys/fs/cgroup/memory/m/cpu.cfs_quota_us", "1\n");  // not the controller
  put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(cpu_quota(folder.path()).has_value());
  put("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(cpu_quota(folder.path()), 2.5);
}

TEST(CoresWithin, WholeCpusOfTheQuotaAndAtLeastOne) {
  const std::vector<int> cores = {0, 2, 4, 6};
  EXPECT_EQ(cores_within(cores, {}), cores);
  EXPECT_EQ(cores_within(cores, 64), cores);
  EXPECT_THAT(cores_within(cores, 2.9), ElementsAre(0, 2));
  EXPECT_THAT(cores_within(cores, 0.3), ElementsAre(0));
}

TEST(CoresOfThisMachine, AreAmongTheAllowedCpus) {
  const auto cpus = allowed_cpus();
  const auto cores = one_cpu_a_core(cpus);
  EXPECT_THAT(cores, Not(IsEmpty()));
  EXPECT_THAT(cores, IsSubsetOf(cpus));
  EXPECT_TRUE(std::is_sorted(cores.begin(), cores.end()));
}

}  // namespace
}  // namespace backburn
