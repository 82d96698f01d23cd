#pragma once

namespace backburn::kernels {

/// Whether this machine can run the functions of this room: x86-64 with AVX-512 F, BW, VL, DQ and BF16. Where it can't,
/// callers take LibTorch's operations instead.
bool available();

}  // namespace backburn::kernels
