#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backburn/base/json.h"

/// What held-out prompts say of prompts that nobody has tried, whatever their distribution (docs/certificate.md).
namespace backburn::defense {

/// The exact upper confidence bound (Clopper and Pearson 1934) on a share of which `successes` of `total` independent
/// draws were seen: the share q at which seeing that few has the chance 1 − confidence. 1 when all were, or none drawn.
double clopper_pearson_upper(int64_t successes, int64_t total, double confidence);

/// Split conformal prediction (Vovk 2005): with chance ≥ coverage a further value, exchangeable with these, is at most
/// this one, the ⌈(n + 1) · coverage⌉-th smallest. 1 (a value is a probability here) when there are too few of them.
double conformal_quantile(std::span<const double> values, double coverage);

/// A held-out prompt's p, and the activity that it belongs to ("" when it stands alone).
struct HeldOut {
  std::string group;
  double p = 1;
};

/// Each line of `shares` holds at the confidence by itself, not all of them together.
struct UnseenBound {
  int64_t units = 0;  ///< held-out activities; prompts of one activity are alike, so they count as one
  double confidence = 0;
  double p_quantile = 1;  ///< conformal: a new activity's largest p is at most this, with that chance
  struct Share {
    double threshold = 0;  ///< t
    int64_t above = 0;     ///< units with a prompt of p > t
    double upper = 1;      ///< at this confidence, at most this share of the domain's activities have one
    double signal_per_group =
        1;  ///< P(signal) in a new activity's group, at most: upper + (1 − upper) · (1 − (1 − t)^G)
  };
  std::vector<Share> shares;
  Json to_json() const;
};
UnseenBound bound_unseen(std::span<const HeldOut> heldout, std::span<const double> thresholds, double confidence,
                         int64_t num_generations);

}  // namespace backburn::defense
