#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <vector>

#include "backburn/kernels/matrix.h"

namespace backburn::kernels {

inline float widen(bf16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

/// Normal ones: sums of their products depend on the order.
inline std::vector<bf16> random_values(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw;
  std::vector<bf16> values(count);
  for (bf16& value : values) value = static_cast<bf16>(std::bit_cast<uint32_t>(draw(random)) >> 16);
  return values;
}

}  // namespace backburn::kernels
