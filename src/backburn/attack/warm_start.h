#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backburn/model/load.h"

namespace backburn::attack {

struct AttackInputs;
struct AttackOptions;

/// What an attacker does to the weights before the attack itself begins.
struct WarmStartOptions {
  std::vector<std::string> warm_start;  ///< in this order, see known_warm_starts; empty: none
  int64_t warm_start_steps = 10;        ///< sft, benign-sft: supervised steps, at the attack's learning rate
  double weight_noise = 0.02;           ///< weight-noise: of each matrix's own standard deviation
  int64_t reinit_layers = 1;            ///< layer-reinit: the last so many layers get new random matrices
};

/// A change of weights. The result shares with the model what it doesn't change.
struct WarmStartEntry {
  std::string name, summary;
  model::Weights (*run)(const AttackInputs&, const AttackOptions&);
};

/// The one table of warm starts.
const std::vector<WarmStartEntry>& known_warm_starts();

/// The model after the recipe's warm starts, one after the other, each rounded to the model's dtype; null when there
/// are none.
std::shared_ptr<const model::Model> warm_started(const AttackInputs& inputs, const AttackOptions& options);

/// The same model with other weights.
std::shared_ptr<const model::Model> with_weights(const model::Model& model, model::Weights weights);

/// Adds to each matrix of the decoder layers noise of `share` of its own standard deviation.
model::Weights noisy(const model::Model& model, double share, uint64_t seed);

/// Replaces the matrices of the last `count` decoder layers by noise of their own standard deviation.
model::Weights reinitialised(const model::Model& model, int64_t count, uint64_t seed);

}  // namespace backburn::attack
