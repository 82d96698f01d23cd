#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace backburn::eval {

/// A figure and its 95% interval.
struct Estimate {
  double value = 0, low = 0, high = 0;
};

/// A share with Wilson's score interval (Wilson 1927). `total` 0: value 0, interval [0, 1].
Estimate wilson(int64_t successes, int64_t total);

/// A mean with its percentile bootstrap interval (Efron 1979), 2,000 resamples drawn from a fixed seed.
Estimate bootstrap_mean(std::span<const double> values);

/// P(X ≥ successes) for X ~ Binomial(total, probability), exactly summed.
double binomial_tail(int64_t successes, int64_t total, double probability);

}  // namespace backburn::eval
