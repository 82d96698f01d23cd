#include "backburn/model/tensor_bytes.h"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#include "backburn/base/error.h"

namespace backburn::model {
namespace {

// The index of the first value whose exponent bits are all ones (NaN or infinity), or `size`.
template <typename Bits>
int64_t first_special(const Bits* values, int64_t size, Bits exponent) {
  constexpr int64_t chunk = 1 << 16;
  std::atomic<int64_t> first = size;
  at::parallel_for(0, (size + chunk - 1) / chunk, 16, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t stop = std::min(size, (part + 1) * chunk);
      int special = 0;
      for (int64_t i = part * chunk; i < stop; ++i) special |= (values[i] & exponent) == exponent;
      if (special == 0) continue;
      int64_t i = part * chunk;
      while ((values[i] & exponent) != exponent) ++i;
      int64_t seen = first;
      while (i < seen && !first.compare_exchange_weak(seen, i)) {
      }
      return;
    }
  });
  return first;
}

}  // namespace

at::Tensor view_bytes(std::shared_ptr<const MappedFile> mapping, std::span<const std::byte> bytes,
                      std::span<const int64_t> shape, at::ScalarType dtype) {
  auto keep = [mapping = std::move(mapping)](void*) {};
  return at::from_blob(const_cast<std::byte*>(bytes.data()), at::IntArrayRef(shape.data(), shape.size()), keep,
                       at::TensorOptions().dtype(dtype));
}

void check_finite(const at::Tensor& tensor, const std::string& name, const std::string& origin) {
  const int64_t size = tensor.numel();
  int64_t first = size;
  if (tensor.scalar_type() == at::kFloat) {
    first = first_special<uint32_t>(static_cast<const uint32_t*>(tensor.const_data_ptr()), size, 0x7f800000u);
  } else {
    const uint16_t exponent = tensor.scalar_type() == at::kHalf ? 0x7c00 : 0x7f80;
    first = first_special<uint16_t>(static_cast<const uint16_t*>(tensor.const_data_ptr()), size, exponent);
  }
  if (first < size) {
    fail("{}: tensor \"{}\" holds a NaN or an infinity (value {} of {}); the weights are damaged", origin, name, first,
         size);
  }
}

void release_pages(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  auto* data = const_cast<std::byte*>(bytes.data());
  const auto address = reinterpret_cast<uintptr_t>(data);
  const auto begin = (address + page - 1) / page * page;
  const auto end = (address + bytes.size()) / page * page;
  if (begin < end) ::madvise(data + (begin - address), end - begin, MADV_DONTNEED);
}

}  // namespace backburn::model
