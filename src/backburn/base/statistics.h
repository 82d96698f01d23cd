#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace backburn {

/// A figure and its 95% interval.
struct Estimate {
  double value = 0, low = 0, high = 0;
};

/// A share with Wilson's score interval (Wilson 1927). `total` 0: value 0, interval [0, 1].
Estimate wilson(int64_t successes, int64_t total);

/// A mean with its percentile bootstrap interval (Efron 1979), 2,000 resamples drawn from a fixed seed.
Estimate bootstrap_mean(std::span<const double> values);

/// P(at least `successes` of independent events happen), each with its own probability, exactly: the binomial tail
/// where all are equal. For a few successes of many events: time and rounding grow with their product.
double poisson_binomial_tail(int64_t successes, std::span<const double> probabilities);

/// How long something lasted, and whether it ended then or was merely watched no longer.
struct Lifetime {
  double time = 0;
  bool ended = false;
};

struct Survival {
  std::optional<double> median;  ///< first time at which at most half are left; none: more than half outlast the watch
  double surviving = 1;          ///< share that outlasts the last time
};

/// The product-limit estimate (Kaplan and Meier 1958).
Survival kaplan_meier(std::vector<Lifetime> lifetimes);

}  // namespace backburn
