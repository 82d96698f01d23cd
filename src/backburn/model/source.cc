#include "backburn/model/source.h"

#include <algorithm>
#include <map>

#include "backburn/base/error.h"
#include "backburn/base/json.h"
#include "backburn/model/gguf_families.h"
#include "backburn/model/gguf_model.h"
#include "backburn/model/hub.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/pull.h"
#include "backburn/model/safetensors.h"

namespace backburn::model {
namespace {

std::string known_names() {
  std::string names;
  for (const NamedModel& each : named_models()) names += (names.empty() ? "" : ", ") + each.name;
  return names;
}

}  // namespace

ModelSource find_model(const std::string& path_or_name) {
  const std::filesystem::path path = path_or_name;
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return {path, ""};
  if (const NamedModel* named = find_named_model(path_or_name)) {
    if (!is_cached(*named)) {
      fail("{}: not in the cache ({}), fetch it with `backburn pull {}`", named->name, cached_path(*named).string(),
           named->name);
    }
    return {cached_path(*named), named->name};
  }
  if (is_hub_id(path_or_name)) return {hub_snapshot(path_or_name), path_or_name};
  fail("{}: no such file or folder, and no model of that name (known names: {})", path_or_name, known_names());
}

ModelConfig config_of(const ModelSource& source) {
  if (!source.is_folder()) {
    const GgufFile file = GgufFile::open(source.path);
    ModelConfig config = config_from_gguf(file);
    check_tensors(config, file);
    return config;
  }
  const auto path = source.path / "config.json";
  ModelConfig config = config_from_hugging_face(read_json_file(path), path.string());
  check_tensors(config, Safetensors::open_folder(source.path), path.string());
  return config;
}

text::Tokenizer tokenizer_of(const ModelSource& source) {
  if (source.is_folder()) return tokenizer_of_folder(source.path);
  return text::Tokenizer::from_vocabulary(vocabulary(GgufFile::open(source.path)), source.path.string());
}

std::optional<std::string> chat_template_of(const ModelSource& source) {
  if (!source.is_folder()) return chat_template(GgufFile::open(source.path));
  const auto found = chat_template_of_folder(source.path);
  return found ? std::optional(found->source) : std::nullopt;
}

std::vector<StoredTensors> stored_tensors(const ModelSource& source) {
  std::map<std::string, StoredTensors> by_type;
  const auto add = [&](const std::string& type, const std::vector<int64_t>& shape, size_t bytes) {
    StoredTensors& sum = by_type[type];
    sum.type = type;
    int64_t values = 1;
    for (const int64_t size : shape) values *= size;
    sum.tensors += 1;
    sum.values += values;
    sum.bytes += static_cast<int64_t>(bytes);
  };
  if (source.is_folder()) {
    const Safetensors files = Safetensors::open_folder(source.path);
    for (const auto& [name, entry] : files.entries()) add(entry.dtype, entry.shape, entry.size);
  } else {
    const GgufFile file = GgufFile::open(source.path);
    for (const GgufTensor& tensor : file.tensors()) add(ggml_type_name(tensor.type), tensor.shape, tensor.size);
  }
  std::vector<StoredTensors> list;
  for (auto& [type, sum] : by_type) list.push_back(std::move(sum));
  std::sort(list.begin(), list.end(), [](const auto& left, const auto& right) { return left.bytes > right.bytes; });
  return list;
}

bool ModelSource::is_folder() const {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

}  // namespace backburn::model
