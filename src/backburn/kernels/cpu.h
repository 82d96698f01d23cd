#pragma once

namespace backburn::kernels {

/// What this room's functions are compiled for: x86-64 with AVX-512 F, BW, VL, DQ and BF16, or with AVX2, FMA and F16C.
/// Both give the same result to the last bit as far as the two processors round alike: bf16 products are summed in f32
/// in the same order.
enum class Instructions { none, avx2, avx512 };

/// The best of them that this machine has, and that LibTorch's own variable ATEN_CPU_CAPABILITY allows (avx2: not
/// avx512; default: none).
Instructions instructions();

/// Whether the functions of this room can be called. Where they can't, callers take LibTorch's operations instead.
bool available();

}  // namespace backburn::kernels
