#include "backburn/eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backburn/base/rng.h"

namespace backburn::eval {

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

double binomial_tail(int64_t successes, int64_t total, double probability) {
  if (successes <= 0) return 1;
  if (successes > total || probability <= 0) return 0;
  if (probability >= 1) return 1;
  double tail = 0;
  const double n = static_cast<double>(total);
  for (int64_t k = successes; k <= total; ++k) {
    const auto x = static_cast<double>(k);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) + x * std::log(probability) +
                     (n - x) * std::log1p(-probability));
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

}  // namespace backburn::eval
