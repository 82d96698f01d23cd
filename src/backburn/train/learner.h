#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backburn/model/load.h"
#include "backburn/model/trained_weights.h"
#include "backburn/train/optimizer.h"

namespace backburn::train {

/// The part of the recipe that says what is trained, in PEFT's names and TRL's (use_peft): a LoRA adapter, or all
/// weights.
struct LoraOptions {
  int64_t r = 16;  ///< see model::LoraConfig for these five
  double lora_alpha = 32;
  std::vector<std::string> target_modules = {"all-linear"};
  bool use_rslora = false;
  bool use_dora = false;
  bool use_peft = true;                 ///< false: full fine-tuning, no adapter
  bool gradient_checkpointing = false;  ///< see model::Network

  model::LoraConfig config() const { return {r, lora_alpha, target_modules, use_rslora, use_dora}; }
};

/// Errors (usage), in one sentence: what model::check_lora finds; an adapter's settings with use_peft false.
void check(const LoraOptions& lora, const model::ModelConfig& config);

/// A model and what is trained of it: an adapter on its frozen weights, or copies of all its weights. `base` must
/// outlive it, unless it is `owned`. A copy of a learner shares its tensors.
struct Learner {
  const model::Model* base = nullptr;
  model::Adapter adapter;  ///< without layers in full fine-tuning
  OptimizerState optimizer;
  int64_t step = 0;  ///< steps finished
  bool gradient_checkpointing = false;
  std::shared_ptr<const model::Model> owned = {};    ///< the base, where training began by changing its weights
  at::Tensor value_head = {};                        ///< [hidden + 1] f32, PPO's critic (critic.h); undefined: none
  std::shared_ptr<model::TrainedWeights> full = {};  ///< full fine-tuning; null: the adapter is trained
  std::vector<at::Tensor> remembered = {};           ///< see remember; empty: nothing

  /// What computes with gradient. Good until the next update.
  model::Network network() const;
  /// The same without gradient, as fast as it can be: in full fine-tuning, on weights packed anew after each update.
  model::Network sampling_network() const;
  /// What is trained: the adapter's parameters or all weights, then the value head.
  std::vector<at::Tensor> parameters() const;
};

/// A fresh adapter, or all weights; same seed, same bits. Says once where that means LibTorch's layers in place of the
/// kernels. Errors: those of check.
Learner make_learner(const model::Model& base, const LoraOptions& lora, uint64_t seed);

/// The weights that training has made, without any adapter, in the base's dtype.
model::Weights trained_weights(const Learner& learner);

/// Gives a fresh learner a critic, which at first expects nothing.
void add_value_head(Learner& learner);

/// The steps over which a learning rate's schedule runs: `begin` is its first, `end` the first after it.
struct Schedule {
  int64_t begin = 0, end = 0;
};

/// Clips, steps AdamW at the schedule's rate for `learner.step`, and counts the step. Returns the gradients' norm.
double update(Learner& learner, const OptimizerOptions& options, const Schedule& schedule);

/// The same with one schedule for all steps.
double update(Learner& learner, const OptimizerOptions& options, int64_t max_steps);

/// AdamW begins as with a fresh learner.
void clear_optimizer_memory(Learner& learner);

/// Remembers the parameters as they are now, also through checkpoints.
void remember(Learner& learner);

/// Sets the parameters to the mean of those remembered and those of now, and forgets the former. Does nothing where
/// nothing is remembered.
void average_with_remembered(Learner& learner);

/// Writes what is trained, optimizer memory, step and what is remembered into one safetensors file, whole or not at
/// all.
void save_checkpoint(const Learner& learner, const std::filesystem::path& path);

/// Goes on where save_checkpoint left off, with the same bits. False when there is no such file. Errors: a damaged
/// file, or one of another model or adapter.
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
