#include "backburn/train/critic.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace backburn::train {

at::Tensor values_of(const at::Tensor& value_head, const at::Tensor& hidden) {
  const int64_t width = hidden.size(1);
  return (at::mv(hidden.to(at::kFloat), value_head.narrow(0, 0, width)) + value_head[width]).cpu();
}

TokenAdvantages generalized_advantages(std::span<const double> rewards, std::span<const double> values,
                                       std::span<const int64_t> lengths, const CriticOptions& options) {
  TokenAdvantages result{std::vector<double>(values.size()), std::vector<double>(values.size())};
  size_t end = 0;
  for (size_t answer = 0; answer < lengths.size(); ++answer) {
    end += static_cast<size_t>(lengths[answer]);
    double next_value = 0;
    double advantage = 0;
    for (int64_t back = 1; back <= lengths[answer]; ++back) {
      const size_t token = end - static_cast<size_t>(back);
      const double reward = back == 1 ? rewards[answer] : 0;
      advantage = reward + options.gamma * next_value - values[token] + options.gamma * options.lam * advantage;
      next_value = values[token];
      result.advantages[token] = advantage;
      result.returns[token] = advantage + values[token];
    }
  }
  return result;
}

void whiten(std::span<double> values) {
  const auto count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / std::max(1.0, count);
  double square = 0;
  for (const double value : values) square += (value - mean) * (value - mean);
  const double scale = 1 / std::sqrt(square / std::max(1.0, count - 1) + 1e-8);
  for (double& value : values) value = (value - mean) * scale;
}

at::Tensor value_loss(const at::Tensor& values, const at::Tensor& old_values, const at::Tensor& returns,
                      double cliprange_value) {
  const auto clipped = at::clamp(values, old_values - cliprange_value, old_values + cliprange_value);
  return at::maximum((values - returns).square(), (clipped - returns).square()).sum() / 2;
}

}  // namespace backburn::train
