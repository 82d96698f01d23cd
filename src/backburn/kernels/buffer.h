#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

namespace backburn::kernels {

/// Memory of one thread, not initialised. Not a std::vector: see vector.h for what becomes of other headers' functions
/// in this room.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return data_; }

 private:
  T* data_;
};

}  // namespace backburn::kernels
