#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

namespace backburn {

/// The logical CPUs that this process may run on (its affinity mask), in ascending order.
std::vector<int> allowed_cpus();

/// The first of `cpus` (ascending) on each physical core, as Linux describes them below `sys`. A CPU that is not
/// described counts as a core.
std::vector<int> one_cpu_a_core(std::span<const int> cpus,
                                const std::filesystem::path& sys = "/sys/devices/system/cpu");

/// How many CPUs' time the control groups (v1 or v2) of this process leave it; none: no limit. `root` is where /proc
/// and /sys are.
std::optional<double> cpu_quota(const std::filesystem::path& root = "/");

/// The cores that computing is meant to take: those of `cores`, or the first of them as far as the quota goes in whole
/// CPUs, at least one.
std::vector<int> cores_within(std::vector<int> cores, std::optional<double> quota);

}  // namespace backburn
