#include "backburn/base/peak_memory.h"

#include <sys/resource.h>

namespace backburn {

double peak_rss_gib() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1024.0 * 1024.0);  // Linux counts in KiB
}

}  // namespace backburn
