#include "backburn/base/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace backburn {
namespace {

namespace fs = std::filesystem;
constexpr double gib = 1024.0 * 1024 * 1024;

// The number after `key` in a file of lines "KEY NUMBER …"; an empty key: the file's first word. Empty for "max" and
// for what is not there.
std::optional<double> number_in(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    if (!key.empty() && (!(words >> word) || word != key)) continue;
    double value = 0;
    return words >> value ? std::optional(value) : std::nullopt;
  }
  return std::nullopt;
}

// A group's limit less what its processes hold; page cache that is not in use can be given back.
std::optional<double> left_in_group(const fs::path& folder, const char* limit, const char* used, const char* cache) {
  const auto most = number_in(folder / limit, "");
  const auto now = number_in(folder / used, "");
  if (!most || !now) return std::nullopt;
  return *most - std::max(0.0, *now - number_in(folder / "memory.stat", cache).value_or(0));
}

// This process's group below `mount`, and the groups around it: /proc/self/cgroup has lines "ID:CONTROLLERS:PATH".
std::vector<fs::path> groups_of(const fs::path& root, const fs::path& mount, const std::string& controller) {
  std::vector<fs::path> folders = {mount};
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line.substr(first + 1, second - first - 1) != controller) continue;
    fs::path folder = mount;
    for (const fs::path& part : fs::path(line.substr(second + 1)).relative_path()) folders.push_back(folder /= part);
  }
  return folders;
}

}  // namespace

double available_memory_gib(const fs::path& root) {
  double bytes = std::numeric_limits<double>::infinity();
  if (const auto kib = number_in(root / "proc/meminfo", "MemAvailable:")) bytes = *kib * 1024;
  for (const fs::path& group : groups_of(root, root / "sys/fs/cgroup", "")) {
    if (const auto left = left_in_group(group, "memory.max", "memory.current", "inactive_file")) {
      bytes = std::min(bytes, *left);
    }
  }
  for (const fs::path& group : groups_of(root, root / "sys/fs/cgroup/memory", "memory")) {
    if (const auto left =
            left_in_group(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")) {
      bytes = std::min(bytes, *left);
    }
  }
  return std::max(0.0, bytes / gib);
}

}  // namespace backburn
