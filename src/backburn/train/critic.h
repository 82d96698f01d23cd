#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace backburn::train {

/// PPO's critic (Schulman 2017, arXiv 1707.06347): how much reward is to come, read off the hidden state that predicts
/// a token. Names and defaults are those of TRL's PPOConfig.
struct CriticOptions {
  double gamma = 1.0;            ///< what a token later is worth
  double lam = 0.95;             ///< GAE's λ: 1 trusts the rewards alone, 0 the critic
  double vf_coef = 0.1;          ///< weight of the critic's loss
  double cliprange_value = 0.2;  ///< how far a value may move from the one before the update
};

/// hidden [rows, hidden] · weights + bias, [rows] f32 on the CPU; value_head [hidden + 1] holds weights and bias.
at::Tensor values_of(const at::Tensor& value_head, const at::Tensor& hidden);

/// Generalized Advantage Estimation (Schulman 2015, arXiv 1506.02438, eq. 16) of answers laid end to end: an answer's
/// reward comes with its last token. Per token.
struct TokenAdvantages {
  std::vector<double> advantages;
  std::vector<double> returns;  ///< advantage + value: what the critic should have said
};
TokenAdvantages generalized_advantages(std::span<const double> rewards, std::span<const double> values,
                                       std::span<const int64_t> lengths, const CriticOptions& options);

/// (x − mean) / √(variance + 1e-8), with the unbiased variance.
void whiten(std::span<double> values);

/// Σ over tokens of ½ max((V − R)², (clip(V) − R)²), V clipped to ±cliprange_value around the old one. All [tokens].
at::Tensor value_loss(const at::Tensor& values, const at::Tensor& old_values, const at::Tensor& returns,
                      double cliprange_value);

}  // namespace backburn::train
