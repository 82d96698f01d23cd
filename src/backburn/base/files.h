#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace backburn {

/// A read-only memory map of a whole file; moves, never copies. Errors: missing, a folder, unreadable.
class MappedFile {
 public:
  static MappedFile open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// A file that appears under its name whole or not at all: bytes go to a temporary name beside it, commit() syncs
/// and renames. Destroyed without commit(), it leaves nothing. Errors (disk full, no permission) name the path.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view text);

/// The whole file as text. Errors: missing, a folder, unreadable.
std::string read_file(const std::filesystem::path& path);

/// Appends one line (and its newline) in a single write, so that a reader never sees half a line.
void append_line(const std::filesystem::path& path, std::string_view line);

/// Creates a folder and its parents. Errors name the path and the reason.
void make_folder(const std::filesystem::path& path);

/// A path that no other process uses, deleted with all that it holds when the object dies. For tests and staging.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace backburn
