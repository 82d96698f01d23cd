#pragma once

#include <cstdint>
#include <memory>

#include "backburn/kernels/matrix.h"

namespace backburn::kernels {

/// Memory for matrices that are read from end to end at every token, in pages of 2 MiB where the system has them
/// (transparent huge pages, "madvise" or "always"): a core's prefetcher stops at the end of a page, and in pages of
/// 4 KiB one row is multiplied at two thirds of the speed. What is handed out lies end to end, so that small matrices
/// share a page.
class HugePages {
 public:
  /// `count` values, not initialised, aligned to 64 bytes. They live as long as the pointer.
  std::shared_ptr<bf16[]> take(int64_t count);

 private:
  std::shared_ptr<bf16[]> block_;
  int64_t used_ = 0, touched_ = 0, size_ = 0;  // values
};

}  // namespace backburn::kernels
