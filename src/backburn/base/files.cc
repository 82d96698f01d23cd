#include "backburn/base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "backburn/base/error.h"

namespace backburn {
namespace {

[[noreturn]] void fail_on(const std::filesystem::path& path, const char* action) {
  const int error = errno;
  const char* hint = error == ENOSPC ? "; free some space and run the command again" : "";
  fail("{}: cannot {}: {}{}", path.string(), action, std::strerror(error), hint);
}

// A descriptor that closes itself.
struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

size_t open_regular(const std::filesystem::path& path, Descriptor& descriptor) {
  descriptor.value = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor.value < 0) fail_on(path, "open");
  struct stat status = {};
  if (::fstat(descriptor.value, &status) != 0) fail_on(path, "read");
  if (S_ISDIR(status.st_mode)) fail("{}: is a folder, expected a file", path.string());
  return static_cast<size_t>(status.st_size);
}

void write_all(int descriptor, const char* bytes, size_t size, const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t written = ::write(descriptor, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_on(path, "write");
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace

MappedFile MappedFile::open(const std::filesystem::path& path) {
  Descriptor descriptor;
  MappedFile file;
  file.path_ = path;
  file.size_ = open_regular(path, descriptor);
  if (file.size_ > 0) {
    void* address = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, descriptor.value, 0);
    if (address == MAP_FAILED) fail_on(path, "map");
    file.data_ = static_cast<const std::byte*>(address);
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  temporary_ = path_;
  temporary_ += ".tmp-XXXXXX";
  std::string name = temporary_.string();
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail_on(path_, "create a file beside");
  temporary_ = name;
  ::fchmod(descriptor_, 0644);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_all(descriptor_, reinterpret_cast<const char*>(bytes.data()), bytes.size(), path_);
}

void AtomicFile::write(std::string_view text) { write_all(descriptor_, text.data(), text.size(), path_); }

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail_on(path_, "sync");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_on(path_, "rename a finished file to");
  ::close(std::exchange(descriptor_, -1));
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::filesystem::path& path) {
  Descriptor descriptor;
  const size_t expected = open_regular(path, descriptor);
  std::string text;
  text.reserve(expected);
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(descriptor.value, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_on(path, "read");
    if (count == 0) return text;
    text.append(buffer, static_cast<size_t>(count));
  }
}

void append_line(const std::filesystem::path& path, std::string_view line) {
  Descriptor descriptor;
  descriptor.value = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor.value < 0) fail_on(path, "open");
  std::string with_newline(line);
  with_newline += '\n';
  write_all(descriptor.value, with_newline.data(), with_newline.size(), path);
}

void make_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail("{}: cannot create the folder: {}", path.string(), error.message());
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "backburn-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) fail_on(name, "create a temporary folder at");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace backburn
