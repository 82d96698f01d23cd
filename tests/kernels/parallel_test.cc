#include "backburn/kernels/parallel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>
#include <sched.h>

#include <mutex>
#include <thread>
#include <vector>

namespace backburn::kernels {
namespace {

std::vector<int> mask_of_this_thread() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof(mask), &mask);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  }
  return cpus;
}

TEST(Team, IsBoundThreadByThread) {
  // In a thread of its own, whose team and mask end with it.
  std::thread([] {
    auto cpus = mask_of_this_thread();
    if (cpus.size() < 2) GTEST_SKIP() << "one CPU: nothing to choose";
    cpus.resize(2);
    omp_set_num_threads(3);
    EXPECT_EQ(pin_team(cpus), 3);
    std::mutex mutex;
    std::vector<std::vector<int>> masks(3);
    parallel([&] {
      const std::lock_guard lock(mutex);
      masks[static_cast<size_t>(omp_get_thread_num())] = mask_of_this_thread();
    });
    EXPECT_EQ(masks, (std::vector<std::vector<int>>{{cpus[0]}, {cpus[1]}, {cpus[0]}}));
  }).join();
}

TEST(Team, ACpuThatIsNotThereBindsNobody) {
  std::thread([] {
    const auto before = mask_of_this_thread();
    omp_set_num_threads(2);
    EXPECT_EQ(pin_team(std::vector{CPU_SETSIZE - 1}), 0);
    EXPECT_EQ(mask_of_this_thread(), before);
  }).join();
}

}  // namespace
}  // namespace backburn::kernels
