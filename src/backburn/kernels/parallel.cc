#include "backburn/kernels/parallel.h"

namespace backburn::kernels {

void parallel(const std::function<void()>& body) {
#pragma omp parallel
  body();
}

}  // namespace backburn::kernels
