#include "backburn/kernels/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace backburn::kernels {
namespace {

constexpr int64_t page = int64_t{1} << 21;
constexpr int64_t least_block = int64_t{1} << 28;  // addresses: what is not touched takes no memory

constexpr int64_t ahead = 4;  // pages that are touched before they are wanted, so that threads have some to share

int64_t rounded_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// Makes the system give and clear these pages, each asked for by one thread: two threads that write to the same new
// page probably clear one each, of which one is thrown away.
void touch(char* begin, int64_t bytes) {
  const int64_t pages = bytes / page;
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < pages; ++i) *static_cast<volatile char*>(begin + i * page) = 0;
}

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
    const auto address = reinterpret_cast<int64_t>(begin);
    auto* aligned = reinterpret_cast<bf16*>(static_cast<char*>(begin) + (rounded_up(address, page) - address));
    madvise(aligned, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // refused: pages of 4 KiB, as without it
    block_ = {aligned, [=](bf16*) { munmap(begin, static_cast<size_t>(mapped)); }};
    used_ = touched_ = 0;
    size_ = bytes / size;
  }
  if (used_ + count > touched_) {
    const int64_t least = rounded_up((used_ + count - touched_) * size, page);
    const int64_t bytes = std::min(std::max(least, ahead * page), (size_ - touched_) * size);
    touch(reinterpret_cast<char*>(block_.get() + touched_), bytes);
    touched_ += bytes / size;
  }
  std::shared_ptr<bf16[]> taken(block_, block_.get() + used_);
  used_ += count;
  return taken;
}

}  // namespace backburn::kernels
