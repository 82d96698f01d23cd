#pragma once

#include <functional>
#include <span>

namespace backburn::kernels {

/// Runs `body` in every thread of one team (OpenMP's, the same threads that LibTorch uses): what calls team_…
/// functions.
void parallel(const std::function<void()>& body);

/// Binds the team's threads to these CPUs, the first (the caller) to cpus[0] and so on, over again where there are more
/// threads. What the caller starts later inherits its CPU. Returns how many threads the kernel has bound.
int pin_team(std::span<const int> cpus);

}  // namespace backburn::kernels
