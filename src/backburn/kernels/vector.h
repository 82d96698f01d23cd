#pragma once

// Only for the .cc files that are compiled once for each instruction set (CMakeLists.txt names them), and after all
// other headers: everything below it is compiled for that set, and an inline function of another header compiled so
// might be what a machine without it runs. For the same reason all of it lies in the set's own namespace,
// BACKBURN_VECTOR; dispatch.cc chooses between the two.
#ifdef BACKBURN_AVX2
#include "backburn/kernels/vector_avx2.h"
#else
#include "backburn/kernels/vector_avx512.h"
#endif

namespace backburn::kernels::BACKBURN_VECTOR {

/// Bits for those of the 16 columns from `column` on that are below n.
inline Mask columns_below(int64_t n, int64_t column) {
  const int64_t left = n - column;
  return left >= 16 ? 0xFFFF : left <= 0 ? 0 : static_cast<Mask>((1U << left) - 1U);
}

/// eˣ to about 2 ulp: 2ⁿ · a polynomial on [−½ ln 2, ½ ln 2]. −∞ gives 0.
inline Floats exp16(Floats x) {
  x = max(min(x, all(88.0F)), all(-104.0F));
  const Floats n = nearest(x * all(1.44269504088896341F));
  Floats r = fnmadd(n, all(0.693359375F), x);
  r = fnmadd(n, all(-2.12194440e-4F), r);
  Floats p = all(1.9875691500e-4F);
  p = fmadd(p, r, all(1.3981999507e-3F));
  p = fmadd(p, r, all(8.3334519073e-3F));
  p = fmadd(p, r, all(4.1665795894e-2F));
  p = fmadd(p, r, all(1.6666665459e-1F));
  p = fmadd(p, r, all(5.0000001201e-1F));
  p = fmadd(p * r, r, r + all(1.0F));
  return times_power_of_2(p, n);
}

inline Floats sigmoid16(Floats x) {
  const Floats one = all(1.0F);
  return one / (one + exp16(zeros() - x));
}

}  // namespace backburn::kernels::BACKBURN_VECTOR
