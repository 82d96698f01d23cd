#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "backburn/model/load.h"
#include "backburn/train/optimizer.h"

namespace backburn::train {

/// The part of the recipe that says what is trained: a LoRA adapter over all linear layers (PEFT's names).
struct LoraOptions {
  int64_t r = 16;                       ///< rank
  double lora_alpha = 32;               ///< the update is scaled by lora_alpha / r
  bool gradient_checkpointing = false;  ///< see model::Network
};

/// A frozen model and the adapter that is being trained on it. `base` must outlive it, unless it is `owned`.
struct Learner {
  const model::Model* base = nullptr;
  model::Adapter adapter;
  OptimizerState optimizer;
  int64_t step = 0;  ///< steps finished
  bool gradient_checkpointing = false;
  std::shared_ptr<const model::Model> owned = {};  ///< the base, where training began by changing its weights
  at::Tensor value_head = {};                      ///< [hidden + 1] f32, PPO's critic (critic.h); undefined: none

  model::Network network() const {
    auto network = base->network(&adapter);
    network.gradient_checkpointing = gradient_checkpointing;
    return network;
  }
  /// What is trained: the adapter's parameters, then the value head.
  std::vector<at::Tensor> parameters() const;
};

/// A fresh adapter; same seed, same bits.
Learner make_learner(const model::Model& base, const LoraOptions& lora, uint64_t seed);

/// Gives a fresh learner a critic, which at first expects nothing.
void add_value_head(Learner& learner);

/// Clips, steps AdamW at the schedule's rate for `learner.step`, and counts the step. Returns the gradients' norm.
double update(Learner& learner, const OptimizerOptions& options, int64_t max_steps);

/// Writes adapter, optimizer memory and step into one safetensors file, whole or not at all.
void save_checkpoint(const Learner& learner, const std::filesystem::path& path);

/// Goes on where save_checkpoint left off, with the same bits. False when there is no such file. Errors: a damaged
/// file, or one of another model or rank.
bool load_checkpoint(Learner& learner, const std::filesystem::path& path);

/// The steps between two checkpoints: a killed run repeats at most this many.
inline constexpr int64_t checkpoint_steps = 10;

/// Goes on from the checkpoint (an empty path: none), calls `one_step` until `max_steps` are done, and saves now and
/// then and in the end. `one_step` counts its own step in `learner.step`.
void run_steps(Learner& learner, int64_t max_steps, const std::filesystem::path& checkpoint,
               const std::function<void()>& one_step);

/// Steps that a checkpoint holds; 0 when there is no such file.
int64_t checkpoint_step(const std::filesystem::path& path);

}  // namespace backburn::train
