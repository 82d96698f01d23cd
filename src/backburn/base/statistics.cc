#include "backburn/base/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backburn/base/rng.h"

namespace backburn {

Estimate wilson(int64_t successes, int64_t total) {
  if (total == 0) return {0, 0, 1};
  constexpr double z = 1.959963984540054;  // the normal distribution's 97.5% quantile
  const auto n = static_cast<double>(total);
  const double rate = static_cast<double>(successes) / n;
  const double centre = (rate + z * z / (2 * n)) / (1 + z * z / n);
  const double half = z / (1 + z * z / n) * std::sqrt(rate * (1 - rate) / n + z * z / (4 * n * n));
  // At 0 and n the interval ends where the rate is; rounding must not say otherwise.
  return {rate, successes == 0 ? 0 : centre - half, successes == total ? 1 : centre + half};
}

Estimate bootstrap_mean(std::span<const double> values) {
  if (values.empty()) return {};
  constexpr size_t resamples = 2000;
  const auto mean = [&](double sum) { return sum / static_cast<double>(values.size()); };
  std::vector<double> means(resamples);
  for (size_t i = 0; i < resamples; ++i) {
    double sum = 0;
    for (size_t j = 0; j < values.size(); ++j) sum += values[random_bits(0, i, j) % values.size()];
    means[i] = mean(sum);
  }
  std::sort(means.begin(), means.end());
  return {mean(std::accumulate(values.begin(), values.end(), 0.0)), means[resamples * 25 / 1000],
          means[resamples * 975 / 1000 - 1]};
}

double poisson_binomial_tail(int64_t successes, std::span<const double> probabilities) {
  if (successes <= 0) return 1;
  if (successes > std::ssize(probabilities)) return 0;
  // P(exactly k so far) for k < successes; whoever passes that has arrived.
  std::vector<double> exactly(static_cast<size_t>(successes), 0);
  exactly[0] = 1;
  double tail = 0;
  for (const double probability : probabilities) {
    tail += exactly.back() * probability;
    for (size_t k = exactly.size() - 1; k > 0; --k) {
      exactly[k] = exactly[k] * (1 - probability) + exactly[k - 1] * probability;
    }
    exactly[0] *= 1 - probability;
  }
  return std::min(1.0, tail);
}

Survival kaplan_meier(std::vector<Lifetime> lifetimes) {
  // At equal times, ends count before watches that stop.
  std::sort(lifetimes.begin(), lifetimes.end(), [](const Lifetime& left, const Lifetime& right) {
    return left.time != right.time ? left.time < right.time : left.ended > right.ended;
  });
  Survival survival;
  for (size_t i = 0; i < lifetimes.size(); ++i) {
    if (!lifetimes[i].ended) continue;
    const auto left = static_cast<double>(lifetimes.size() - i);
    survival.surviving *= (left - 1) / left;
    // Equal ends are one drop: only the last of them tells how many are left.
    const bool last =
        i + 1 == lifetimes.size() || lifetimes[i + 1].time != lifetimes[i].time || !lifetimes[i + 1].ended;
    if (last && survival.surviving <= 0.5 + 1e-12 && !survival.median) survival.median = lifetimes[i].time;
  }
  return survival;
}

}  // namespace backburn
