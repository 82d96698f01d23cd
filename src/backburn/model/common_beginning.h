#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

namespace backburn::model {

/// How many tokens both sequences begin with, at the most `most`.
inline size_t common_beginning(std::span<const int32_t> left, std::span<const int32_t> right, size_t most) {
  const auto within = left.first(std::min({most, left.size(), right.size()}));
  return static_cast<size_t>(std::mismatch(within.begin(), within.end(), right.begin()).first - within.begin());
}

}  // namespace backburn::model
