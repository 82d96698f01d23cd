#pragma once

#include <filesystem>

namespace backburn {

/// Memory that this process can still take up, GiB: the system's MemAvailable, or less where a control group (version 1
/// or 2) sets a limit; page cache that would be given back does not count as taken. Infinity where nothing is known.
/// `root` is where proc and sys are looked for.
double available_memory_gib(const std::filesystem::path& root = "/");

}  // namespace backburn
