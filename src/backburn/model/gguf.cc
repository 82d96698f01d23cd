#include "backburn/model/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <regex>
#include <string_view>

#include "backburn/base/error.h"

namespace backburn::model {
namespace {

constexpr size_t max_name = 1 << 16;
constexpr size_t default_alignment = 32;

enum ValueType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string_type,
  array,
  u64,
  i64,
  f64,
};

// Fewest bytes that one value of a type takes; 0: no such type.
size_t least_bytes(uint32_t type) {
  constexpr std::array<size_t, 13> sizes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return type < sizes.size() ? sizes[type] : 0;
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string origin) : bytes_(bytes), origin_(std::move(origin)) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  template <typename... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: byte {}: {}; the file is damaged or cut short, fetch it again", origin_, position_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename T>
  T read(const char* what) {
    if (left() < sizeof(T)) fail_here("the file ends inside {}", what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string read_string(size_t limit, const char* what) {
    const auto length = read<uint64_t>(what);
    if (length > left()) fail_here("{} claims {} bytes, {} are left", what, length, left());
    if (length > limit) fail_here("{} claims {} bytes, at most {} make sense", what, length, limit);
    std::string text(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return text;
  }

  // A number of items of which each takes at least `least` bytes.
  size_t read_count(size_t least, const char* what) {
    const auto count = read<uint64_t>(what);
    if (count > left() / least) fail_here("{} is {}, more than the {} bytes left can hold", what, count, left());
    return count;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string origin_;
  size_t position_ = 0;
};

bool is_integer(uint32_t type) { return type <= i32 || type == u64 || type == i64; }

int64_t read_integer(Reader& reader, uint32_t type) {
  const char* what = "an integer value";
  switch (type) {
    case u8: return reader.read<uint8_t>(what);
    case i8: return reader.read<int8_t>(what);
    case u16: return reader.read<uint16_t>(what);
    case i16: return reader.read<int16_t>(what);
    case u32: return reader.read<uint32_t>(what);
    case i32: return reader.read<int32_t>(what);
    case i64: return reader.read<int64_t>(what);
    default: break;
  }
  const auto value = reader.read<uint64_t>(what);
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    reader.fail_here("the integer {} is too large", value);
  }
  return static_cast<int64_t>(value);
}

double read_number(Reader& reader, uint32_t type) {
  return type == f32 ? reader.read<float>("a number") : reader.read<double>("a number");
}

bool read_bool(Reader& reader) {
  const auto value = reader.read<uint8_t>("a boolean value");
  if (value > 1) reader.fail_here("a boolean is {}, expected 0 or 1", value);
  return value == 1;
}

template <typename T, typename Read>
std::vector<T> read_array(size_t count, Read read) {
  std::vector<T> values;
  values.reserve(count);
  for (size_t i = 0; i < count; ++i) values.push_back(read());
  return values;
}

constexpr size_t any_length = std::numeric_limits<size_t>::max();

GgufValue read_value(Reader& reader, const std::string& key) {
  auto type = reader.read<uint32_t>("a value's type");
  if (type != array) {
    if (is_integer(type)) return read_integer(reader, type);
    if (type == f32 || type == f64) return read_number(reader, type);
    if (type == boolean) return read_bool(reader);
    if (type == string_type) return reader.read_string(any_length, "a string value");
    reader.fail_here("key \"{}\" has the unknown type {}", key, type);
  }
  type = reader.read<uint32_t>("an array's type");
  if (type == array) reader.fail_here("key \"{}\" is an array of arrays, which no model needs", key);
  const size_t least = least_bytes(type);
  if (least == 0) reader.fail_here("key \"{}\" is an array of the unknown type {}", key, type);
  const size_t count = reader.read_count(least, "an array's length");
  if (is_integer(type)) return read_array<int64_t>(count, [&] { return read_integer(reader, type); });
  if (type == boolean) return read_array<bool>(count, [&] { return read_bool(reader); });
  if (type == string_type) {
    return read_array<std::string>(count, [&] { return reader.read_string(max_name, "a string of an array"); });
  }
  return read_array<double>(count, [&] { return read_number(reader, type); });
}

// Reads one entry of the tensor table; `offset` is still counted from the data's beginning.
GgufTensor read_tensor(Reader& reader) {
  GgufTensor tensor;
  tensor.name = reader.read_string(max_name, "a tensor's name");
  const auto dimensions = reader.read<uint32_t>("a tensor's number of dimensions");
  if (dimensions < 1 || dimensions > 4) {
    reader.fail_here("tensor \"{}\" has {} dimensions, expected 1 to 4", tensor.name, dimensions);
  }
  int64_t values = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = reader.read<uint64_t>("a tensor's shape");
    // 2^56 values take more bytes than any file; the limit keeps every product of them below 2^63.
    if (size < 1 || size > (uint64_t{1} << 56) || __builtin_mul_overflow(values, static_cast<int64_t>(size), &values) ||
        values > (int64_t{1} << 56)) {
      reader.fail_here("tensor \"{}\" has an impossible dimension of {}", tensor.name, size);
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const auto type_number = reader.read<uint32_t>("a tensor's type");
  const auto type = ggml_type(type_number);
  if (!type) {
    reader.fail_here("tensor \"{}\" has ggml type {} (supported: {})", tensor.name, type_number, known_ggml_types());
  }
  tensor.type = *type;
  const size_t block = ggml_block_values(tensor.type);
  if (static_cast<size_t>(tensor.shape.back()) % block != 0) {
    reader.fail_here("tensor \"{}\" has rows of {} values, {} needs a multiple of {}", tensor.name, tensor.shape.back(),
                     ggml_type_name(tensor.type), block);
  }
  tensor.size = static_cast<size_t>(values) / block * ggml_block_bytes(tensor.type);
  tensor.offset = reader.read<uint64_t>("a tensor's offset");
  return tensor;
}

size_t read_alignment(const GgufFile& file) {
  if (file.find("general.alignment") == nullptr) return default_alignment;
  const int64_t alignment = file.integer("general.alignment");
  if (alignment < 8 || alignment > (1 << 20) || (alignment & (alignment - 1)) != 0) {
    fail("{}: general.alignment is {}, expected a power of two from 8 to 1048576", file.path().string(), alignment);
  }
  return static_cast<size_t>(alignment);
}

template <typename T>
const T& typed(const GgufFile& file, const std::string& key, const char* type) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) fail("{}: metadata key \"{}\" is missing", file.path().string(), key);
  const T* result = std::get_if<T>(value);
  if (result == nullptr) fail("{}: metadata key \"{}\" is not {}", file.path().string(), key, type);
  return *result;
}

// "-00002-of-00003.gguf", as gguf-split names its files.
std::string part_suffix(int64_t number, int64_t count) { return fmt::format("-{:05}-of-{:05}.gguf", number, count); }

// Of part `number`, from 1, beside the first.
std::filesystem::path part_path(const std::filesystem::path& first, int64_t number, int64_t count) {
  const std::string name = first.filename().string();
  const std::string suffix = part_suffix(1, count);
  if (!name.ends_with(suffix)) {
    fail("{}: is the first of {} parts, whose name must end in {}, so that the others can be found beside it",
         first.string(), count, suffix);
  }
  return first.parent_path() / (name.substr(0, name.size() - suffix.size()) + part_suffix(number, count));
}

}  // namespace

int64_t GgufTensor::values() const {
  int64_t product = 1;
  for (int64_t length : shape) product *= length;
  return product;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile file = open_one(path);
  const int64_t count = file.integer("split.count", 1);
  if (count == 1) return file;
  const std::string origin = path.string();
  const int64_t place = file.integer("split.no");
  if (count < 1 || count > 99999 || place < 0 || place >= count) {
    fail("{}: says that it is part {} of {}; the file is damaged, fetch it again", origin, place + 1, count);
  }
  if (place > 0)
    fail("{}: is part {} of {}; give the first part, …-00001-of-{:05}.gguf", origin, place + 1, count, count);
  for (int64_t number = 2; number <= count; ++number) {
    const auto other = part_path(path, number, count);
    std::error_code ignored;
    if (!std::filesystem::exists(other, ignored)) {
      fail("{}: part {} of {} is missing: expected {} beside it, fetch it too", origin, number, count,
           other.filename().string());
    }
    GgufFile part = open_one(other);
    if (part.integer("split.no", -1) != number - 1 || part.integer("split.count", -1) != count) {
      fail("{}: is not part {} of {}, as its name says; fetch it again", other.string(), number, count);
    }
    file.parts_.push_back(part.parts_.front());
    for (GgufTensor& tensor : part.tensors_) {
      tensor.part = static_cast<size_t>(number - 1);
      file.add_tensor(std::move(tensor));
    }
  }
  const auto whole = static_cast<int64_t>(file.tensors_.size());
  if (const int64_t expected = file.integer("split.tensors.count", whole); expected != whole) {
    fail("{}: its {} parts hold {} tensors, expected {}; they are of different models", origin, count, whole, expected);
  }
  return file;
}

void GgufFile::add_tensor(GgufTensor tensor) {
  if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
    fail("{}: tensor \"{}\" comes twice; the file is damaged, fetch it again", parts_.back()->path().string(),
         tensor.name);
  }
  tensors_.push_back(std::move(tensor));
}

GgufFile GgufFile::open_one(const std::filesystem::path& path) {
  GgufFile file;
  file.parts_.push_back(std::make_shared<MappedFile>(MappedFile::open(path)));
  const std::string origin = path.string();
  const auto bytes = file.parts_.front()->bytes();
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0) {
    fail("{}: byte 0: not a GGUF file (it must begin with the letters GGUF)", origin);
  }
  Reader reader(bytes, origin);
  reader.read<uint32_t>("the magic");
  const auto version = reader.read<uint32_t>("the version");
  if (version == 0x02000000 || version == 0x03000000) {
    fail("{}: byte 4: the file is big-endian, only little-endian GGUF is read", origin);
  }
  if (version != 2 && version != 3) {
    fail("{}: byte 4: GGUF version {} is not supported (supported: 2 and 3)", origin, version);
  }
  const size_t tensor_count = reader.read_count(8 + 4 + 8 + 4 + 8, "the number of tensors");
  const size_t value_count = reader.read_count(8 + 4 + 1, "the number of metadata values");

  for (size_t i = 0; i < value_count; ++i) {
    std::string key = reader.read_string(max_name, "a metadata key");
    GgufValue value = read_value(reader, key);
    const bool added = file.metadata_.emplace(key, std::move(value)).second;
    if (!added) reader.fail_here("metadata key \"{}\" comes twice", key);
  }
  for (size_t i = 0; i < tensor_count; ++i) {
    file.add_tensor(read_tensor(reader));
  }

  const size_t alignment = read_alignment(file);
  const size_t data = (reader.position() + alignment - 1) / alignment * alignment;
  for (GgufTensor& tensor : file.tensors_) {
    const size_t room = bytes.size() > data ? bytes.size() - data : 0;
    if (tensor.offset % alignment != 0) {
      fail("{}: tensor \"{}\" lies at offset {}, which is no multiple of the alignment {}", origin, tensor.name,
           tensor.offset, alignment);
    }
    if (tensor.offset > room || tensor.size > room - tensor.offset) {
      fail(
          "{}: tensor \"{}\" ({} bytes at offset {} of the data, which begins at byte {}) reaches beyond the "
          "file's "
          "{} bytes; the file is cut short, fetch it again",
          origin, tensor.name, tensor.size, tensor.offset, data, bytes.size());
    }
    tensor.offset += data;
  }
  return file;
}

bool is_later_part(const std::filesystem::path& path) {
  static const std::regex pattern(R"(.*-(\d{5})-of-\d{5}\.gguf)");
  const std::string name = path.filename().string();
  std::smatch match;
  return std::regex_match(name, match, pattern) && match[1] != "00001";
}

const GgufValue* GgufFile::find(const std::string& key) const {
  auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufTensor* GgufFile::find_tensor(const std::string& name) const {
  auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

int64_t GgufFile::integer(const std::string& key) const { return typed<int64_t>(*this, key, "an integer"); }
double GgufFile::number(const std::string& key) const { return typed<double>(*this, key, "a number"); }
const std::string& GgufFile::string(const std::string& key) const { return typed<std::string>(*this, key, "a string"); }
const std::vector<std::string>& GgufFile::strings(const std::string& key) const {
  return typed<std::vector<std::string>>(*this, key, "an array of strings");
}
const std::vector<int64_t>& GgufFile::integers(const std::string& key) const {
  return typed<std::vector<int64_t>>(*this, key, "an array of integers");
}
const std::vector<double>& GgufFile::numbers(const std::string& key) const {
  return typed<std::vector<double>>(*this, key, "an array of numbers");
}
bool GgufFile::flag(const std::string& key, bool fallback) const {
  return find(key) == nullptr ? fallback : typed<bool>(*this, key, "true or false");
}

int64_t GgufFile::integer(const std::string& key, int64_t fallback) const {
  return find(key) == nullptr ? fallback : integer(key);
}
double GgufFile::number(const std::string& key, double fallback) const {
  return find(key) == nullptr ? fallback : number(key);
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& tensor) const {
  return parts_[tensor.part]->bytes().subspan(tensor.offset, tensor.size);
}

namespace {

template <typename T>
void put(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void put_text(std::string& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  out += text;
}

void put_key(std::string& out, const std::string& key, ValueType type) {
  put_text(out, key);
  put<uint32_t>(out, type);
}

void put_array_key(std::string& out, const std::string& key, ValueType type, size_t count) {
  put_key(out, key, array);
  put<uint32_t>(out, type);
  put<uint64_t>(out, count);
}

size_t aligned(size_t bytes) { return (bytes + default_alignment - 1) / default_alignment * default_alignment; }

}  // namespace

void GgufMetadata::integer(const std::string& key, int64_t value) {
  if (value < 0 || value > std::numeric_limits<uint32_t>::max()) fail("GGUF key \"{}\": {} does not fit", key, value);
  put_key(bytes_, key, u32);
  put(bytes_, static_cast<uint32_t>(value));
  ++count_;
}

void GgufMetadata::number(const std::string& key, double value) {
  put_key(bytes_, key, f32);
  put(bytes_, static_cast<float>(value));
  ++count_;
}

void GgufMetadata::flag(const std::string& key, bool value) {
  put_key(bytes_, key, boolean);
  put<uint8_t>(bytes_, value ? 1 : 0);
  ++count_;
}

void GgufMetadata::text(const std::string& key, std::string_view value) {
  put_key(bytes_, key, string_type);
  put_text(bytes_, value);
  ++count_;
}

void GgufMetadata::texts(const std::string& key, std::span<const std::string> values) {
  put_array_key(bytes_, key, string_type, values.size());
  for (const std::string& value : values) put_text(bytes_, value);
  ++count_;
}

void GgufMetadata::integers(const std::string& key, std::span<const int32_t> values) {
  put_array_key(bytes_, key, i32, values.size());
  for (const int32_t value : values) put(bytes_, value);
  ++count_;
}

void GgufMetadata::numbers(const std::string& key, std::span<const double> values) {
  put_array_key(bytes_, key, f32, values.size());
  for (const double value : values) put(bytes_, static_cast<float>(value));
  ++count_;
}

size_t GgufEntry::bytes() const {
  const auto row = static_cast<size_t>(shape.back());
  if (row % ggml_block_values(type) != 0) {
    fail("tensor \"{}\" has rows of {} values, {} needs a multiple of {}", name, row, ggml_type_name(type),
         ggml_block_values(type));
  }
  size_t blocks = row / ggml_block_values(type);
  for (size_t i = 0; i + 1 < shape.size(); ++i) blocks *= static_cast<size_t>(shape[i]);
  return blocks * ggml_block_bytes(type);
}

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata, std::span<const GgufEntry> entries,
                const std::function<void(size_t index, AtomicFile& file)>& write_tensor) {
  std::string head = "GGUF";
  put<uint32_t>(head, 3);
  put<uint64_t>(head, entries.size());
  put<uint64_t>(head, metadata.count());
  head += metadata.bytes();
  size_t offset = 0;
  for (const GgufEntry& entry : entries) {
    put_text(head, entry.name);
    put<uint32_t>(head, static_cast<uint32_t>(entry.shape.size()));
    for (size_t i = entry.shape.size(); i-- > 0;) put<uint64_t>(head, static_cast<uint64_t>(entry.shape[i]));
    put<uint32_t>(head, static_cast<uint32_t>(entry.type));
    put<uint64_t>(head, offset);
    offset += aligned(entry.bytes());
  }
  head.resize(aligned(head.size()), '\0');
  AtomicFile file(path);
  file.write(head);
  for (size_t i = 0; i < entries.size(); ++i) {
    write_tensor(i, file);
    file.write(std::string(aligned(entries[i].bytes()) - entries[i].bytes(), '\0'));
  }
  file.commit();
}

}  // namespace backburn::model
