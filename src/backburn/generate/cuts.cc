#include "backburn/generate/cuts.h"

#include <algorithm>

namespace backburn::generate {
namespace {

constexpr size_t least_sorted = 64;  // tokens that are sorted at first; most distributions need no more

template <typename Real>
Kept kept_of(std::span<const Real> probabilities, const SamplingOptions& sampling) {
  const auto floor = static_cast<Real>(sampling.min_p) * *std::max_element(probabilities.begin(), probabilities.end());
  std::vector<int32_t> order;
  order.reserve(probabilities.size());
  for (size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] > 0 && probabilities[i] >= floor) order.push_back(static_cast<int32_t>(i));
  }
  const auto likelier = [&](int32_t left, int32_t right) {
    const Real a = probabilities[static_cast<size_t>(left)], b = probabilities[static_cast<size_t>(right)];
    return a != b ? a > b : left < right;
  };
  size_t most = order.size();
  if (sampling.top_k > 0) most = std::min(most, static_cast<size_t>(sampling.top_k));
  double mass = 0;
  size_t kept = 0, sorted = 0;
  while (kept < most && (kept == 0 || mass < sampling.top_p)) {
    if (kept == sorted) {
      sorted = std::min(order.size(), std::max(least_sorted, 2 * sorted));
      const auto at = [&](size_t index) { return order.begin() + static_cast<std::ptrdiff_t>(index); };
      std::partial_sort(at(kept), at(sorted), order.end(), likelier);
    }
    mass += static_cast<double>(probabilities[static_cast<size_t>(order[kept++])]);
  }
  order.resize(kept);
  return {std::move(order), mass};
}

}  // namespace

bool cuts(const SamplingOptions& sampling) {
  return sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0;
}

Kept kept_tokens(std::span<const float> probabilities, const SamplingOptions& sampling) {
  return kept_of(probabilities, sampling);
}

Kept kept_tokens(std::span<const double> probabilities, const SamplingOptions& sampling) {
  return kept_of(probabilities, sampling);
}

}  // namespace backburn::generate
