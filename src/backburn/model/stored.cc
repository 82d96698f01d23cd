#include "backburn/model/stored.h"

#include <ATen/Functions.h>
#include <fmt/format.h>

#include <map>
#include <utility>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/model/gguf_model.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/source.h"

namespace backburn::model {

WeightReader StoredModel::reader(at::ScalarType dtype) const {
  const auto last = std::make_shared<std::optional<NamedWeight>>();
  return [read = read, release = release, last, dtype](const NamedWeight& weight) {
    if (*last) release(**last);
    *last = weight;
    return read(weight, dtype);
  };
}

StoredModel open_model(const std::string& path_or_name) {
  const ModelSource source = find_model(path_or_name);
  StoredModel stored = source.is_folder() ? open_hugging_face(source.path) : open_gguf(source.path);
  if (!source.name.empty()) stored.model.name = source.name;
  return stored;
}

Model read_all(StoredModel stored, at::ScalarType dtype) {
  Model& model = stored.model;
  for (const NamedWeight& each : named_weights(model.config, model.weights)) {
    throw_if_stopped();
    *each.tensor = stored.read(each, dtype);
  }
  if (model.config.tie_word_embeddings) model.weights.head = model.weights.embedding;
  return std::move(model);
}

WeightReader reader_of(const Model& model) {
  const auto tensors = std::make_shared<std::map<std::string, at::Tensor>>();
  Weights weights = model.weights;
  for (const NamedWeight& each : named_weights(model.config, weights)) (*tensors)[each.name] = *each.tensor;
  return [tensors, name = model.name](const NamedWeight& weight) {
    const at::Tensor& tensor = tensors->at(weight.name);
    if (!tensor.defined()) fail("{} is quantised: its tensor \"{}\" is not in memory", name, weight.name);
    return tensor;
  };
}

WeightReader merged(const ModelConfig& config, WeightReader read, const Adapter& adapter) {
  const auto pairs = std::make_shared<std::map<std::string, LoraPair>>();
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    const auto linear = linear_layers(config, layer);
    for (size_t i = 0; i < linear.size(); ++i) {
      const LoraPair& pair = adapter.layers[layer].at(i);
      if (pair.a.defined()) (*pairs)[fmt::format("model.layers.{}.{}.weight", layer, linear[i].module)] = pair;
    }
  }
  return [pairs, read = std::move(read), scale = adapter.scale()](const NamedWeight& wanted) {
    const at::Tensor weight = read(wanted);
    const auto found = pairs->find(wanted.name);
    return found == pairs->end() ? weight : updated(weight, found->second, scale);
  };
}

}  // namespace backburn::model
