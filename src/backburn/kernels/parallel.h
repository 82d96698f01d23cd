#pragma once

#include <functional>

namespace backburn::kernels {

/// Runs `body` in every thread of one team (OpenMP's, the same threads that LibTorch uses): what calls team_…
/// functions.
void parallel(const std::function<void()>& body);

}  // namespace backburn::kernels
