#include "backburn/model/trained_weights.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include "backburn/model/packed.h"

namespace backburn::model {
namespace {

// `weights` with every tensor changed, and unpacked; what was one tensor (a tied head) stays one.
template <class Change>
Weights changed(const ModelConfig& config, Weights weights, const Change& change) {
  weights.packed.reset();
  for (const NamedWeight& each : named_weights(config, weights)) *each.tensor = change(*each.tensor);
  if (config.tie_word_embeddings) weights.head = weights.embedding;
  return weights;
}

}  // namespace

TrainedWeights::TrainedWeights(const ModelConfig& config, const Weights& weights)
    : TrainedWeights(config, weights, weights.embedding.scalar_type()) {}

TrainedWeights::TrainedWeights(const ModelConfig& config, const Weights& weights, at::ScalarType dtype)
    : config_(config), dtype_(dtype), masters_(changed(config, weights, [](const at::Tensor& tensor) {
        return tensor.detach().to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).requires_grad_(true);
      })) {}

std::vector<at::Tensor> TrainedWeights::parameters() const {
  std::vector<at::Tensor> list;
  Weights weights = masters_;
  for (const NamedWeight& each : named_weights(config_, weights)) list.push_back(*each.tensor);
  return list;
}

std::vector<int64_t> TrainedWeights::versions() const {
  std::vector<int64_t> list;
  for (const at::Tensor& each : parameters()) list.push_back(each._version());
  return list;
}

const Weights& TrainedWeights::computing() const {
  if (const auto now = versions(); now != computing_of_) {
    const at::AutoGradMode with_gradient(true);
    computing_ = changed(config_, masters_, [&](const at::Tensor& master) { return master.to(dtype_); });
    computing_of_ = now;
  }
  return computing_;
}

const Weights& TrainedWeights::sampling() const {
  if (const auto now = versions(); now != sampling_of_) {
    sampling_ = {};  // before the next ones take up memory
    sampling_ = changed(config_, computing(), [](const at::Tensor& tensor) { return tensor.detach(); });
    sampling_.packed = PackedWeights::make(config_, sampling_);
    sampling_of_ = now;
  }
  return sampling_;
}

}  // namespace backburn::model
