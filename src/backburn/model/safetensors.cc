#include "backburn/model/safetensors.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>
#include <stdexcept>
#include <utility>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/base/json.h"
#include "backburn/model/tensor_bytes.h"

namespace backburn::model {
namespace {

constexpr size_t max_header = 100'000'000;  // the reference implementation's limit
constexpr const char* index_name = "model.safetensors.index.json";
constexpr const char* single_name = "model.safetensors";

// Bytes of one value; 0: a dtype that the format does not have.
size_t value_bytes(const std::string& dtype) {
  constexpr std::array<std::pair<const char*, size_t>, 14> sizes = {{{"BOOL", 1},
                                                                     {"U8", 1},
                                                                     {"I8", 1},
                                                                     {"F8_E4M3", 1},
                                                                     {"F8_E5M2", 1},
                                                                     {"I16", 2},
                                                                     {"U16", 2},
                                                                     {"F16", 2},
                                                                     {"BF16", 2},
                                                                     {"I32", 4},
                                                                     {"U32", 4},
                                                                     {"F32", 4},
                                                                     {"I64", 8},
                                                                     {"F64", 8}}};
  for (const auto& [name, size] : sizes) {
    if (dtype == name) return size;
  }
  return dtype == "U64" ? 8 : 0;
}

at::ScalarType scalar_type(const std::string& dtype) {
  if (dtype == "F32") return at::kFloat;
  if (dtype == "F16") return at::kHalf;
  if (dtype == "BF16") return at::kBFloat16;
  return at::ScalarType::Undefined;
}

const char* dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat: return "F32";
    case at::kHalf: return "F16";
    case at::kBFloat16: return "BF16";
    default: fail("safetensors files are written in F32, F16 or BF16, not in {}", at::toString(dtype));
  }
}

// A non-negative integer; anything else is an Error.
uint64_t whole_number(const Json& value, const std::string& where) {
  if (!value.is_number_unsigned()) fail("{}: expected a whole number, found {}", where, value.dump().substr(0, 40));
  return value.get<uint64_t>();
}

// The header is parsed by hand-checked callbacks, as a JSON object silently keeps one of two equal keys.
Json parse_header(std::string_view text, const std::string& origin) {
  std::vector<std::set<std::string>> keys;
  auto callback = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 8) fail("{}: the header is nested too deeply; the file is damaged", origin);
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      fail("{}: the header has \"{}\" twice", origin, parsed.get<std::string>());
    }
    return true;
  };
  try {
    return Json::parse(text, callback);
  } catch (const Json::exception& error) {
    fail("{}: the header is not JSON ({}); the file is damaged", origin, error.what());
  }
}

Safetensors::Entry read_entry(const Json& json, const std::string& name, size_t data, size_t file_size,
                              const std::string& origin) {
  const std::string where = fmt::format("{}: tensor \"{}\"", origin, name);
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets") ||
      !json["dtype"].is_string() || !json["shape"].is_array()) {
    fail("{} has no dtype, shape and data_offsets", where);
  }
  Safetensors::Entry entry;
  entry.dtype = json["dtype"].get<std::string>();
  const size_t value = value_bytes(entry.dtype);
  if (value == 0) fail("{} has the unknown dtype \"{}\"", where, entry.dtype);
  size_t bytes = value;
  for (const Json& size : json["shape"]) {
    const uint64_t count = whole_number(size, where + ": shape");
    if (count > (uint64_t{1} << 56) || __builtin_mul_overflow(bytes, count, &bytes)) {
      fail("{}: a shape with a dimension of {} does not fit in memory", where, count);
    }
    entry.shape.push_back(static_cast<int64_t>(count));
  }
  const Json& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) fail("{}: data_offsets must be two numbers", where);
  const uint64_t begin = whole_number(offsets[0], where + ": data_offsets");
  const uint64_t end = whole_number(offsets[1], where + ": data_offsets");
  if (begin > end || end > file_size - data) {
    fail("{}: bytes {} to {} of the data, which has {}; the file is damaged or cut short", where, begin, end,
         file_size - data);
  }
  if (end - begin != bytes) fail("{}: {} bytes are stored, dtype and shape need {}", where, end - begin, bytes);
  entry.offset = data + begin;
  entry.size = bytes;
  return entry;
}

}  // namespace

void Safetensors::add_file(const std::filesystem::path& path) {
  const std::string origin = path.string();
  auto mapping = std::make_shared<const MappedFile>(MappedFile::open(path));
  const auto bytes = mapping->bytes();
  uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size)
    fail("{}: has {} bytes, no safetensors file is that short", origin, bytes.size());
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  if (header_size > max_header || header_size > bytes.size() - sizeof header_size) {
    fail(
        "{}: byte 0: the header claims {} bytes, the file has {}; it is damaged, cut short or no safetensors "
        "file",
        origin, header_size, bytes.size());
  }
  const size_t data = sizeof header_size + header_size;
  const Json header =
      parse_header({reinterpret_cast<const char*>(bytes.data()) + sizeof header_size, header_size}, origin);
  if (!header.is_object()) fail("{}: byte 8: the header must be a JSON object", origin);

  std::vector<std::pair<size_t, size_t>> ranges;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    Entry entry = read_entry(json, name, data, bytes.size(), origin);
    entry.file = files_.size();
    ranges.emplace_back(entry.offset, entry.offset + entry.size);
    if (!entries_.emplace(name, std::move(entry)).second) fail("{}: tensor \"{}\" is in two files", origin, name);
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      fail("{}: byte {}: two tensors overlap; the file is damaged", origin, ranges[i].first);
    }
  }
  files_.push_back(std::move(mapping));
}

Safetensors Safetensors::open(const std::filesystem::path& file) {
  Safetensors result;
  result.add_file(file);
  return result;
}

Safetensors Safetensors::open_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  const auto index_path = folder / index_name;
  if (std::filesystem::exists(folder / single_name, ignored)) return open(folder / single_name);
  if (!std::filesystem::exists(index_path, ignored)) {
    fail("{}: holds neither {} nor {}", folder.string(), single_name, index_name);
  }
  const std::string origin = index_path.string();
  const Json index = read_json_file(index_path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail("{}: key \"weight_map\" must be a map from tensor to file", origin);
  }
  std::map<std::string, std::string> file_of;
  std::set<std::string> shards;
  for (const auto& [name, file] : index["weight_map"].items()) {
    if (!file.is_string()) fail("{}: weight_map: \"{}\" must name a file", origin, name);
    const auto shard = file.get<std::string>();
    if (shard.empty() || shard == "." || shard == ".." || shard.find('/') != std::string::npos) {
      fail("{}: weight_map: \"{}\" is no file name of this folder", origin, shard);
    }
    file_of[name] = shard;
    shards.insert(shard);
  }
  Safetensors result;
  for (const std::string& shard : shards) result.add_file(folder / shard);
  for (const auto& [name, shard] : file_of) {
    auto found = result.entries_.find(name);
    if (found == result.entries_.end() || result.files_[found->second.file]->path().filename() != shard) {
      fail("{}: tensor \"{}\" is not in {}", origin, name, shard);
    }
  }
  return result;
}

const Safetensors::Entry& Safetensors::entry(const std::string& name, std::span<const int64_t> shape) const {
  auto found = entries_.find(name);
  if (found == entries_.end()) {
    fail("{}: tensor \"{}\" is missing", files_.empty() ? "no file" : files_.front()->path().string(), name);
  }
  const Entry& entry = found->second;
  if (!std::equal(shape.begin(), shape.end(), entry.shape.begin(), entry.shape.end())) {
    fail("{}: tensor \"{}\" has shape [{}], expected [{}]", files_[entry.file]->path().string(), name,
         fmt::join(entry.shape, ", "), fmt::join(shape, ", "));
  }
  return entry;
}

at::Tensor Safetensors::tensor(const std::string& name, std::span<const int64_t> shape, at::ScalarType dtype) const {
  const Entry& entry = this->entry(name, shape);
  const std::string origin = files_[entry.file]->path().string();
  const at::ScalarType stored = scalar_type(entry.dtype);
  if (stored == at::ScalarType::Undefined) {
    fail("{}: tensor \"{}\" is stored as {} (supported: F32, F16, BF16)", origin, name, entry.dtype);
  }
  const auto bytes = files_[entry.file]->bytes().subspan(entry.offset, entry.size);
  // A header of odd length leaves the data unaligned; such a tensor is copied byte by byte.
  const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % c10::elementSize(stored) == 0;
  at::Tensor view;
  if (aligned) {
    view = view_bytes(files_[entry.file], bytes, shape, stored);
  } else {
    view = at::empty(at::IntArrayRef(shape.data(), shape.size()), stored);
    if (!bytes.empty()) std::memcpy(view.mutable_data_ptr(), bytes.data(), bytes.size());
  }
  check_finite(view, name, origin);
  if (stored == dtype) return view;
  at::Tensor converted = view.to(dtype);
  release_pages(bytes);
  return converted;
}

namespace {

struct Plan {
  std::string header;  // padded to a multiple of 8, its length not included
  size_t bytes = 0;    // of the data
};

int64_t values_of(const TensorToWrite& tensor) {
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), int64_t{1}, std::multiplies<>());
}

Plan plan_file(std::span<const TensorToWrite> tensors, at::ScalarType dtype) {
  Plan plan;
  Json header;
  header["__metadata__"] = {{"format", "pt"}};
  for (const TensorToWrite& each : tensors) {
    if (header.contains(each.name)) fail("tensor \"{}\" would be written twice", each.name);
    const size_t size = static_cast<size_t>(values_of(each)) * c10::elementSize(dtype);
    header[each.name] = {
        {"dtype", dtype_name(dtype)}, {"shape", each.shape}, {"data_offsets", {plan.bytes, plan.bytes + size}}};
    plan.bytes += size;
  }
  plan.header = header.dump();
  plan.header.resize((plan.header.size() + 7) / 8 * 8, ' ');
  return plan;
}

void write_file_of(const std::filesystem::path& path, std::span<const TensorToWrite> tensors, at::ScalarType dtype) {
  const Plan plan = plan_file(tensors, dtype);
  AtomicFile file(path);
  const uint64_t header_size = plan.header.size();
  file.write(std::as_bytes(std::span(&header_size, 1)));
  file.write(plan.header);
  for (const TensorToWrite& each : tensors) {
    throw_if_stopped();
    const at::Tensor stored = each.make().detach().to(at::kCPU, dtype).contiguous();
    if (stored.numel() != values_of(each)) throw std::logic_error("write_safetensors: shape of " + each.name);
    check_finite(stored, each.name, path.string());
    file.write({static_cast<const std::byte*>(stored.const_data_ptr()), stored.nbytes()});
  }
  file.commit();
}

}  // namespace

void Safetensors::release(const std::string& name) const {
  const Entry& entry = entries_.at(name);
  release_pages(files_[entry.file]->bytes().subspan(entry.offset, entry.size));
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors, at::ScalarType dtype) {
  std::vector<TensorToWrite> list;
  for (const NamedTensor& each : tensors) {
    list.push_back({each.name, each.tensor.sizes().vec(), [&each] { return each.tensor; }});
  }
  write_file_of(path, list, dtype);
}

void write_safetensors_folder(const std::filesystem::path& folder, std::span<const TensorToWrite> tensors,
                              at::ScalarType dtype, int64_t max_shard_bytes) {
  std::vector<std::vector<TensorToWrite>> shards(1);
  int64_t shard_bytes = 0;
  int64_t total = 0;
  for (const TensorToWrite& each : tensors) {
    const int64_t size = values_of(each) * static_cast<int64_t>(c10::elementSize(dtype));
    if (!shards.back().empty() && shard_bytes + size > max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().push_back(each);
    shard_bytes += size;
    total += size;
  }
  if (shards.size() == 1) return write_file_of(folder / single_name, shards.front(), dtype);

  Json index;
  index["metadata"]["total_size"] = total;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_file_of(folder / name, shards[i], dtype);
    for (const TensorToWrite& each : shards[i]) index["weight_map"][each.name] = name;
  }
  write_file(folder / index_name, index.dump(2) + "\n");
}

}  // namespace backburn::model
