#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "backburn/base/files.h"

namespace backburn::model {

/// A tensor that views `bytes` of a read-only mapping and keeps the mapping alive. Must not be written to.
at::Tensor view_bytes(std::shared_ptr<const MappedFile> mapping, std::span<const std::byte> bytes,
                      std::span<const int64_t> shape, at::ScalarType dtype);

/// Throws an Error that names the tensor and the value's index when a NaN or an infinity is in a contiguous
/// f32, f16 or bf16 tensor. Reads in place.
void check_finite(const at::Tensor& tensor, const std::string& name, const std::string& origin);

/// Tells the system that these bytes of a mapping won't be read again soon, so that they stop counting as
/// this program's memory. They are read from disk again when they are.
void release_pages(std::span<const std::byte> bytes);

}  // namespace backburn::model
