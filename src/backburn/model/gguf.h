#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "backburn/base/files.h"
#include "backburn/model/ggml.h"

namespace backburn::model {

/// A metadata value. Integers of every width are int64 (an uint64 above 2^63 − 1 is an Error), floats are
/// double.
using GgufValue = std::variant<bool, int64_t, double, std::string, std::vector<bool>, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

/// One tensor's entry in the file's table.
struct GgufTensor {
  std::string name;            ///< "blk.0.attn_q.weight"
  GgmlType type;               ///< how its values are stored
  std::vector<int64_t> shape;  ///< outermost first, as PyTorch counts (the file lists the innermost first)
  size_t offset;               ///< first byte, from its file's beginning
  size_t size;                 ///< bytes
  size_t part = 0;             ///< which file of a split model, from 0
  int64_t values() const;      ///< product of the shape
};

/// A GGUF file, version 2 or 3, little-endian (specification: ggml-org/ggml, docs/gguf.md), mapped and fully
/// checked when opened: magic, version, counts, string and array lengths, types, duplicate names, alignment,
/// and that every tensor lies inside the file. An Error names the file and the byte offset.
///
/// A model that llama.cpp's gguf-split has cut into files "…-00001-of-0000N.gguf" is opened by its first, which holds
/// the metadata, as if it were one file; an Error says which part is missing, or doesn't belong.
class GgufFile {
 public:
  static GgufFile open(const std::filesystem::path& path);

  /// Of the first part, where there are several.
  const std::filesystem::path& path() const { return parts_.front()->path(); }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  /// The value under `key`, or nullptr.
  const GgufValue* find(const std::string& key) const;
  /// The tensor of that name, or nullptr.
  const GgufTensor* find_tensor(const std::string& name) const;

  /// Typed look-ups: an Error when the value is missing or of another type.
  int64_t integer(const std::string& key) const;
  double number(const std::string& key) const;
  const std::string& string(const std::string& key) const;
  const std::vector<std::string>& strings(const std::string& key) const;
  const std::vector<int64_t>& integers(const std::string& key) const;
  const std::vector<double>& numbers(const std::string& key) const;
  /// `fallback` when the value is missing.
  bool flag(const std::string& key, bool fallback) const;
  int64_t integer(const std::string& key, int64_t fallback) const;
  double number(const std::string& key, double fallback) const;

  /// A tensor's stored bytes, in the mapping.
  std::span<const std::byte> bytes(const GgufTensor& tensor) const;
  /// Keeps the mapping alive for tensors that view it.
  std::shared_ptr<const MappedFile> mapping(const GgufTensor& tensor) const { return parts_[tensor.part]; }

 private:
  static GgufFile open_one(const std::filesystem::path& path);
  void add_tensor(GgufTensor tensor);

  std::vector<std::shared_ptr<const MappedFile>> parts_;
  std::map<std::string, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t> tensor_index_;
};

/// Whether the file's name says that it is a part of a split model, and not the first: "…-00002-of-00003.gguf".
bool is_later_part(const std::filesystem::path& path);

/// The metadata of a file that is being written, in order.
class GgufMetadata {
 public:
  /// Stored as an unsigned 32-bit integer; an Error when it does not fit.
  void integer(const std::string& key, int64_t value);
  void number(const std::string& key, double value);  ///< stored as f32
  void flag(const std::string& key, bool value);
  void text(const std::string& key, std::string_view value);
  void texts(const std::string& key, std::span<const std::string> values);
  void integers(const std::string& key, std::span<const int32_t> values);
  void numbers(const std::string& key, std::span<const double> values);  ///< stored as f32

  size_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  size_t count_ = 0;
};

/// A tensor of a file that is being written.
struct GgufEntry {
  std::string name;
  GgmlType type;
  std::vector<int64_t> shape;  ///< outermost first
  size_t bytes() const;
};

/// Writes a GGUF file, version 3, whole or not at all. `write_tensor` is called for one entry after the other and
/// writes exactly entry.bytes() bytes. Errors: a row that is no whole number of blocks.
void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata, std::span<const GgufEntry> entries,
                const std::function<void(size_t index, AtomicFile& file)>& write_tensor);

}  // namespace backburn::model
