#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

/// Puts a GGUF file together piece by piece, wrong ones too.
class GgufBuilder {
 public:
  template <typename T>
  static void put(std::string& out, T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    out.append(bytes, sizeof(T));
  }
  static void put_text(std::string& out, const std::string& text) {
    put<uint64_t>(out, text.size());
    out += text;
  }

  GgufBuilder& raw(const std::string& key, uint32_t type, const std::string& value) {
    put_text(metadata_, key);
    put<uint32_t>(metadata_, type);
    metadata_ += value;
    ++values_;
    return *this;
  }
  GgufBuilder& integer(const std::string& key, uint32_t value) {
    std::string bytes;
    put(bytes, value);
    return raw(key, 4, bytes);
  }
  GgufBuilder& number(const std::string& key, float value) {
    std::string bytes;
    put(bytes, value);
    return raw(key, 6, bytes);
  }
  GgufBuilder& text(const std::string& key, const std::string& value) {
    std::string bytes;
    put_text(bytes, value);
    return raw(key, 8, bytes);
  }
  GgufBuilder& texts(const std::string& key, const std::vector<std::string>& list) {
    std::string bytes;
    put<uint32_t>(bytes, 8);
    put<uint64_t>(bytes, list.size());
    for (const std::string& each : list) put_text(bytes, each);
    return raw(key, 9, bytes);
  }
  GgufBuilder& integers(const std::string& key, const std::vector<int32_t>& list) {
    std::string bytes;
    put<uint32_t>(bytes, 5);
    put<uint64_t>(bytes, list.size());
    for (int32_t each : list) put(bytes, each);
    return raw(key, 9, bytes);
  }
  GgufBuilder& numbers(const std::string& key, const std::vector<float>& list) {
    std::string bytes;
    put<uint32_t>(bytes, 6);
    put<uint64_t>(bytes, list.size());
    for (float each : list) put(bytes, each);
    return raw(key, 9, bytes);
  }
  GgufBuilder& flag(const std::string& key, bool value) { return raw(key, 7, std::string(1, value ? 1 : 0)); }

  /// `shape` innermost first, as in the file.
  GgufBuilder& tensor(const std::string& name, uint32_t type, const std::vector<uint64_t>& shape,
                      const std::string& bytes) {
    put_text(table_, name);
    put<uint32_t>(table_, static_cast<uint32_t>(shape.size()));
    for (uint64_t size : shape) put(table_, size);
    put<uint32_t>(table_, type);
    put<uint64_t>(table_, data_.size());
    data_ += bytes;
    data_.resize((data_.size() + 31) / 32 * 32, '\0');
    ++tensors_;
    return *this;
  }
  GgufBuilder& floats(const std::string& name, const std::vector<uint64_t>& shape, const std::vector<float>& values) {
    return tensor(name, 0, shape, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  std::string build(uint32_t version = 3) const {
    std::string out = "GGUF";
    put(out, version);
    put<uint64_t>(out, tensors_);
    put<uint64_t>(out, values_);
    out += metadata_ + table_;
    out.resize((out.size() + 31) / 32 * 32, '\0');
    return out + data_;
  }

 private:
  std::string metadata_, table_, data_;
  uint64_t values_ = 0, tensors_ = 0;
};

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}
