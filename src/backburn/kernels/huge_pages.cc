#include "backburn/kernels/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace backburn::kernels {
namespace {

constexpr int64_t page = int64_t{1} << 21;
constexpr int64_t least_block = int64_t{1} << 28;  // addresses: what is not touched takes no memory

int64_t rounded_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

}  // namespace

std::shared_ptr<bf16[]> HugePages::take(int64_t count) {
  constexpr auto size = static_cast<int64_t>(sizeof(bf16));
  count = rounded_up(count, 64 / size);
  if (used_ + count > size_) {
    const int64_t bytes = rounded_up(std::max(count * size, least_block), page);
    const int64_t mapped = bytes + page;  // mmap aligns to 4 KiB only
    void* begin =
        mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) throw std::bad_alloc();
    auto* aligned = reinterpret_cast<bf16*>(rounded_up(reinterpret_cast<int64_t>(begin), page));
    madvise(aligned, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // refused: pages of 4 KiB, as without it
    block_ = {aligned, [=](bf16*) { munmap(begin, static_cast<size_t>(mapped)); }};
    used_ = 0;
    size_ = bytes / size;
  }
  std::shared_ptr<bf16[]> taken(block_, block_.get() + used_);
  used_ += count;
  return taken;
}

}  // namespace backburn::kernels
