#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace backburn::train {

/// AdamW and its schedule, in TRL's / Transformers' names.
struct OptimizerOptions {
  double learning_rate = 2e-4;
  std::string lr_scheduler_type = "constant";  ///< constant, linear or cosine; all start with the warm-up
  int64_t warmup_steps = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double weight_decay = 0.0;
  double max_grad_norm = 1.0;  ///< gradients are scaled down to this norm; 0: never
};

/// AdamW's memory: what a checkpoint must hold beside the parameters.
struct OptimizerState {
  std::vector<at::Tensor> first_moments, second_moments;  ///< like the parameters
  std::vector<at::Tensor> steps;                          ///< scalar f32 each: updates made
};
OptimizerState make_optimizer_state(const std::vector<at::Tensor>& parameters);

/// The learning rate of update `step` (0-based) out of `max_steps`, as Transformers' get_scheduler gives it.
double learning_rate_at(const OptimizerOptions& options, int64_t step, int64_t max_steps);

/// Clips the gradients, applies one AdamW update (Loshchilov 2017) at `learning_rate`, and clears the gradients.
/// Returns the gradients' norm before clipping. Errors: a gradient that is not a number.
double optimizer_step(const OptimizerOptions& options, double learning_rate, const std::vector<at::Tensor>& parameters,
                      OptimizerState& state);

}  // namespace backburn::train
