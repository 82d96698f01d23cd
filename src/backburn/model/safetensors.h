#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backburn/base/files.h"

namespace backburn::model {

/// Tensors stored in safetensors files, mapped and checked when opened: header length, JSON, dtypes, shape ×
/// size (overflow included), offsets inside the file and not overlapping, duplicate names. An Error names
/// file and tensor.
class Safetensors {
 public:
  struct Entry {
    std::string dtype;           ///< as the header spells it: "F32", "BF16", …
    std::vector<int64_t> shape;  ///< outermost first
    size_t file;                 ///< which of the files
    size_t offset;               ///< first byte, from that file's beginning
    size_t size;                 ///< bytes
  };

  /// One file.
  static Safetensors open(const std::filesystem::path& file);
  /// A model's folder: model.safetensors, or the shards that model.safetensors.index.json lists.
  static Safetensors open_folder(const std::filesystem::path& folder);

  const std::map<std::string, Entry>& entries() const { return entries_; }
  bool contains(const std::string& name) const { return entries_.contains(name); }

  /// Where the tensor lies. An Error when it is missing or of another shape.
  const Entry& entry(const std::string& name, std::span<const int64_t> shape) const;

  /// The tensor in `dtype` (f32 or bf16). Stored F32, F16 and BF16 are read; where the stored dtype is the
  /// wanted one, the result VIEWS the read-only mapping (and keeps it alive): it must not be written to. An
  /// Error when the tensor is missing or of another shape, when its dtype is not a float, or when it holds a
  /// NaN or an infinity.
  at::Tensor tensor(const std::string& name, std::span<const int64_t> shape, at::ScalarType dtype) const;

  /// Says that the tensor's bytes won't be read again soon (release_pages).
  void release(const std::string& name) const;

 private:
  void add_file(const std::filesystem::path& path);

  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, Entry> entries_;
};

/// A tensor and the name it is stored under.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// A tensor that is made when it is its turn to be written.
struct TensorToWrite {
  std::string name;
  std::vector<int64_t> shape;
  std::function<at::Tensor()> make;
};

/// Writes one file, whole or not at all, each tensor converted to `dtype` (f32, f16, bf16) as it is streamed
/// out. A value that `dtype` cannot hold (f16 overflow) is an Error that names the tensor.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors, at::ScalarType dtype);

/// Writes model.safetensors into `folder`, or, above `max_shard_bytes`, model-00001-of-0000N.safetensors …
/// and their index, as Transformers does.
void write_safetensors_folder(const std::filesystem::path& folder, std::span<const TensorToWrite> tensors,
                              at::ScalarType dtype, int64_t max_shard_bytes = 5'000'000'000);

}  // namespace backburn::model
