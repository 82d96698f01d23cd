#include "backburn/train/optimizer.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>

#include "backburn/base/error.h"
#include "backburn/base/phases.h"

namespace backburn::train {

OptimizerState make_optimizer_state(const std::vector<at::Tensor>& parameters) {
  OptimizerState state;
  for (const auto& parameter : parameters) {
    state.first_moments.push_back(at::zeros(parameter.sizes(), parameter.options()));
    state.second_moments.push_back(at::zeros(parameter.sizes(), parameter.options()));
    state.steps.push_back(at::zeros({}, parameter.options().dtype(at::kFloat)));
  }
  return state;
}

double learning_rate_at(const OptimizerOptions& options, int64_t step, int64_t max_steps) {
  const auto at = static_cast<double>(step);
  const auto warmup = static_cast<double>(options.warmup_steps);
  if (step < options.warmup_steps) return options.learning_rate * at / warmup;
  if (options.lr_scheduler_type == "constant") return options.learning_rate;
  const double span = std::max(1.0, static_cast<double>(max_steps) - warmup);
  const double progress = std::min(1.0, (at - warmup) / span);
  if (options.lr_scheduler_type == "linear") return options.learning_rate * (1.0 - progress);
  if (options.lr_scheduler_type == "cosine") {
    return options.learning_rate * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }
  fail_usage("lr_scheduler_type \"{}\" is unknown (constant, linear or cosine)", options.lr_scheduler_type);
}

double optimizer_step(const OptimizerOptions& options, double learning_rate, const std::vector<at::Tensor>& parameters,
                      OptimizerState& state) {
  const Phase phase("optimizer");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients, squares;
  for (const auto& parameter : parameters) {
    gradients.push_back(parameter.grad().defined() ? parameter.grad() : at::zeros_like(parameter));
    squares.push_back(gradients.back().square().sum());
  }
  double square = 0;
  // Looked at all at once: a GPU would have to be waited for at each.
  const auto all = at::stack(squares).to(at::kCPU, at::kDouble);
  for (int64_t i = 0; i < all.size(0); ++i) square += all.data_ptr<double>()[i];
  const double norm = std::sqrt(square);
  if (!std::isfinite(norm)) {
    fail("training diverged: the gradient is not a number (norm {}); lower learning_rate", norm);
  }
  if (options.max_grad_norm > 0) {
    // The 1e-6 is torch.nn.utils.clip_grad_norm_'s.
    const double scale = std::min(1.0, options.max_grad_norm / (norm + 1e-6));
    for (auto& gradient : gradients) gradient.mul_(scale);
  }
  at::_foreach_add_(state.steps, 1);
  at::_fused_adamw_(parameters, gradients, state.first_moments, state.second_moments, {}, state.steps, learning_rate,
                    options.adam_beta1, options.adam_beta2, options.weight_decay, options.adam_epsilon,
                    /*amsgrad=*/false, /*maximize=*/false);
  for (const auto& parameter : parameters) {
    parameter.mutable_grad().reset();
    // The fused update doesn't count itself as a change; model::TrainedWeights looks for one.
    parameter.unsafeGetTensorImpl()->bump_version();
  }
  return norm;
}

}  // namespace backburn::train
