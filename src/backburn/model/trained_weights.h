#pragma once

#include <vector>

#include "backburn/model/weights.h"

namespace backburn::model {

/// All weights of a model while they are trained (full fine-tuning): f32 masters, so that small steps are not rounded
/// away, and what computes with them.
class TrainedWeights {
 public:
  /// Copies of `weights`, which may themselves be views of a read-only file. A head that is the embedding stays so.
  TrainedWeights(const ModelConfig& config, const Weights& weights);
  /// A copy that goes its own way.
  TrainedWeights(const TrainedWeights& other) : TrainedWeights(other.config_, other.masters_, other.dtype_) {}
  TrainedWeights& operator=(const TrainedWeights&) = delete;

  /// The masters in the order of named_weights: embedding, layers, final norm, and a head of its own.
  std::vector<at::Tensor> parameters() const;

  /// The masters' values in the model's dtype, differentiable in the masters: a gradient arrives there in f32. Never
  /// packed, since the kernels give no gradient of weights. Made anew after the masters have changed; until then the
  /// reference is good.
  const Weights& computing() const;

  /// The same values without gradient, packed for the kernels where these fit: what generation reads.
  const Weights& sampling() const;

 private:
  TrainedWeights(const ModelConfig& config, const Weights& weights, at::ScalarType dtype);
  std::vector<int64_t> versions() const;

  ModelConfig config_;
  at::ScalarType dtype_;
  Weights masters_;
  mutable Weights computing_, sampling_;
  mutable std::vector<int64_t> computing_of_, sampling_of_;  // the masters' versions of which they were made
};

}  // namespace backburn::model
