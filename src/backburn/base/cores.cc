#include "backburn/base/cores.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace backburn {
namespace {

// The first line; empty where there is no such file.
std::string line_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<double> share(const std::string& quota, const std::string& period) {
  try {
    const double microseconds = std::stod(quota);  // "max" (v2) throws, v1 says -1
    if (microseconds > 0) return microseconds / std::stod(period);
  } catch (const std::exception&) {
  }
  return {};
}

// One group's own limit, of either version.
std::optional<double> quota_of(const std::filesystem::path& group) {
  std::istringstream both(line_of(group / "cpu.max"));
  std::string quota, period;
  if (both >> quota >> period) return share(quota, period);
  return share(line_of(group / "cpu.cfs_quota_us"), line_of(group / "cpu.cfs_period_us"));
}

// Where a line of /proc/self/cgroup ("4:cpu,cpuacct:/a/b") has its groups; empty: they don't limit the CPU.
std::filesystem::path hierarchy_of(const std::string& controllers) {
  if (controllers.empty()) return "sys/fs/cgroup";
  std::istringstream list(controllers);
  for (std::string each; std::getline(list, each, ',');) {
    if (each == "cpu") return std::filesystem::path("sys/fs/cgroup") / controllers;
  }
  return {};
}

}  // namespace

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return {0};  // more CPUs than a cpu_set_t holds
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<int> one_cpu_a_core(std::span<const int> cpus, const std::filesystem::path& sys) {
  std::vector<int> chosen;
  std::set<std::string> cores;  // each by the list of its CPUs
  for (const int cpu : cpus) {
    const auto topology = sys / ("cpu" + std::to_string(cpu)) / "topology";
    std::string siblings = line_of(topology / "core_cpus_list");
    if (siblings.empty()) siblings = line_of(topology / "thread_siblings_list");  // Linux before 5.3
    if (siblings.empty() || cores.insert(siblings).second) chosen.push_back(cpu);
  }
  return chosen;
}

std::optional<double> cpu_quota(const std::filesystem::path& root) {
  std::optional<double> least;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto hierarchy = hierarchy_of(line.substr(first + 1, second - first - 1));
    if (hierarchy.empty()) continue;
    // The group and all above it. Inside a container the path may be one of the host's: then only the last exists.
    for (auto group = std::filesystem::path(line.substr(second + 1)).relative_path();; group = group.parent_path()) {
      const auto quota = quota_of(root / hierarchy / group);
      if (quota) least = std::min(least.value_or(*quota), *quota);
      if (group.empty()) break;
    }
  }
  return least;
}

std::vector<int> cores_within(std::vector<int> cores, std::optional<double> quota) {
  if (quota && *quota < static_cast<double>(cores.size())) {
    // In whole CPUs: threads that meet at barriers all wait for the one that is throttled.
    cores.resize(static_cast<size_t>(std::max(1.0, std::floor(*quota))));
  }
  return cores;
}

}  // namespace backburn
