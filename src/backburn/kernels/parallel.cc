#include "backburn/kernels/parallel.h"

#include <omp.h>
#include <sched.h>

namespace backburn::kernels {

void parallel(const std::function<void()>& body) {
#pragma omp parallel
  body();
}

int pin_team(std::span<const int> cpus) {
  int bound = 0;
#pragma omp parallel reduction(+ : bound)
  {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpus[static_cast<size_t>(omp_get_thread_num()) % cpus.size()], &mask);
    bound += sched_setaffinity(0, sizeof(mask), &mask) == 0 ? 1 : 0;
  }
  return bound;
}

}  // namespace backburn::kernels
