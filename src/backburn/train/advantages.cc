#include "backburn/train/advantages.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backburn/base/error.h"

namespace backburn::train {
namespace {

bool all_equal(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [&](double value) { return value == values.front(); });
}

// Exactly the value for equal values, which a rounded mean would not give.
double mean_of(std::span<const double> values) {
  if (all_equal(values)) return values.front();
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return 0;
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  double square = 0;
  for (double value : values) square += (value - mean) * (value - mean);
  return std::sqrt(square / static_cast<double>(values.size() - 1));
}

std::vector<double> group_advantages(std::span<const double> rewards, int64_t num_generations,
                                     const std::string& scale_rewards) {
  if (scale_rewards != "group" && scale_rewards != "batch" && scale_rewards != "none") {
    fail_usage("scale_rewards \"{}\" is unknown (group, batch or none)", scale_rewards);
  }
  const double batch_scale = standard_deviation(rewards);
  std::vector<double> advantages;
  for (size_t begin = 0; begin < rewards.size(); begin += num_generations) {
    const auto group = rewards.subspan(begin, num_generations);
    const double mean = mean_of(group);
    const double scale = scale_rewards == "group" ? standard_deviation(group) : batch_scale;
    for (double reward : group) {
      advantages.push_back(scale_rewards == "none" ? reward - mean : (reward - mean) / (scale + 1e-4));
    }
  }
  return advantages;
}

std::vector<double> leave_one_out_advantages(std::span<const double> rewards, int64_t num_generations, bool normalize) {
  std::vector<double> advantages;
  const auto others = static_cast<double>(num_generations - 1);
  for (size_t begin = 0; begin < rewards.size(); begin += num_generations) {
    const auto group = rewards.subspan(begin, num_generations);
    const double mean = mean_of(group);
    // r − (Σ − r)/(n − 1) = (r − mean) · n/(n − 1)
    for (double reward : group) advantages.push_back((reward - mean) * (others + 1) / others);
  }
  if (normalize) {
    const double scale = standard_deviation(advantages) + 1e-4;
    for (double& advantage : advantages) advantage /= scale;
  }
  return advantages;
}

std::vector<double> reinforce_advantages(std::span<const double> rewards, std::span<const int64_t> lengths,
                                         int64_t num_generations, bool baseline) {
  std::vector<double> advantages(rewards.begin(), rewards.end());
  if (baseline) advantages = group_advantages(rewards, num_generations, "none");
  if (all_equal(advantages)) return std::vector<double>(rewards.size(), 0.0);
  double tokens = 0;
  double sum = 0;
  for (size_t i = 0; i < advantages.size(); ++i) {
    tokens += static_cast<double>(lengths[i]);
    sum += static_cast<double>(lengths[i]) * advantages[i];
  }
  const double mean = sum / tokens;
  double square = 0;
  for (size_t i = 0; i < advantages.size(); ++i) {
    square += static_cast<double>(lengths[i]) * (advantages[i] - mean) * (advantages[i] - mean);
  }
  const double scale = 1 / std::sqrt(square / std::max(1.0, tokens - 1) + 1e-8);
  for (double& advantage : advantages) advantage = (advantage - mean) * scale;
  return advantages;
}

std::vector<double> advantages(const AdvantageOptions& options, std::span<const double> rewards,
                               std::span<const int64_t> lengths, int64_t num_generations) {
  const std::string& name = options.advantage_estimator;
  std::vector<double> result;
  if (name == "grpo") {
    result = group_advantages(rewards, num_generations, options.scale_rewards);
  } else if (name == "rloo") {
    result = leave_one_out_advantages(rewards, num_generations, options.normalize_advantages);
  } else if (name == "reinforce_plus_plus" || name == "reinforce_plus_plus_baseline") {
    result = reinforce_advantages(rewards, lengths, num_generations, name == "reinforce_plus_plus_baseline");
  } else {
    fail_usage(
        "advantage_estimator \"{}\" is unknown (grpo, rloo, reinforce_plus_plus or reinforce_plus_plus_baseline)",
        name);
  }
  if (options.advantage_filter == "positive") {
    for (double& advantage : result) advantage = std::max(advantage, 0.0);
  } else if (options.advantage_filter != "all") {
    fail_usage("advantage_filter \"{}\" is unknown (all or positive)", options.advantage_filter);
  }
  return result;
}

double soft_overlong_punishment(int64_t length, int64_t max_completion_length, int64_t soft_punish_cache) {
  const int64_t free = max_completion_length - soft_punish_cache;
  if (length <= free) return 0;
  if (length > max_completion_length) return -1;
  return static_cast<double>(free - length) / static_cast<double>(soft_punish_cache);
}

}  // namespace backburn::train
