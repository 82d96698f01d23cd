#include "backburn/defense/unseen.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "backburn/defense/certificate.h"

namespace backburn::defense {
namespace {

// P(X ≤ successes) for X ~ Binomial(total, share), 0 < share < 1, exactly summed.
double binomial_at_most(int64_t successes, int64_t total, double share) {
  const auto n = static_cast<double>(total);
  double chance = 0;
  for (int64_t k = 0; k <= successes; ++k) {
    const auto x = static_cast<double>(k);
    chance += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) + x * std::log(share) +
                       (n - x) * std::log1p(-share));
  }
  return std::min(1.0, chance);
}

// The largest p of each activity; prompts without one stand for themselves.
std::vector<double> worst_of_each(std::span<const HeldOut> heldout) {
  std::vector<double> worst;
  std::map<std::string, size_t> place;
  for (const HeldOut& each : heldout) {
    const auto [at, is_new] =
        each.group.empty() ? std::pair(place.end(), true) : place.emplace(each.group, worst.size());
    if (is_new) {
      worst.push_back(each.p);
    } else {
      worst[at->second] = std::max(worst[at->second], each.p);
    }
  }
  return worst;
}

}  // namespace

double clopper_pearson_upper(int64_t successes, int64_t total, double confidence) {
  if (successes >= total) return 1;
  double low = 0;
  double high = 1;
  // The chance falls as the share grows; halving to the last bit, and the end that claims less.
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) break;
    (binomial_at_most(successes, total, middle) > 1 - confidence ? low : high) = middle;
  }
  return high;
}

double conformal_quantile(std::span<const double> values, double coverage) {
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  // (n + 1) · coverage may be an integer that rounding lifts just above itself.
  const double rank = std::ceil((static_cast<double>(sorted.size()) + 1) * coverage - 1e-9);
  if (rank > static_cast<double>(sorted.size())) return 1;
  return sorted[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

UnseenBound bound_unseen(std::span<const HeldOut> heldout, std::span<const double> thresholds, double confidence,
                         int64_t num_generations) {
  const auto worst = worst_of_each(heldout);
  UnseenBound bound{static_cast<int64_t>(worst.size()), confidence, conformal_quantile(worst, confidence), {}};
  for (const double threshold : thresholds) {
    const auto above = std::count_if(worst.begin(), worst.end(), [&](double p) { return p > threshold; });
    const double upper = clopper_pearson_upper(above, bound.units, confidence);
    bound.shares.push_back({threshold, above, upper, upper + (1 - upper) * signal_bound(threshold, num_generations)});
  }
  return bound;
}

Json UnseenBound::to_json() const {
  Json json = {{"units", units}, {"confidence", confidence}, {"p_quantile", p_quantile}, {"shares", Json::array()}};
  for (const Share& share : shares) {
    json["shares"].push_back({{"threshold", share.threshold},
                              {"above", share.above},
                              {"upper", share.upper},
                              {"signal_per_group", share.signal_per_group}});
  }
  return json;
}

}  // namespace backburn::defense
