#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backburn/generate/sampler.h"

namespace backburn::generate {

/// Whether sampling leaves any token out.
bool cuts(const SamplingOptions& sampling);

/// The tokens that sampling may draw.
struct Kept {
  std::vector<int32_t> ids;  ///< likeliest first; of equally likely ones, the smaller id
  double mass = 0;           ///< their probability in all
};

/// What top_k, top_p and min_p leave of a distribution over the vocabulary. Only what is kept is sorted, so that a
/// distribution with few likely tokens costs little more than a pass over it.
Kept kept_tokens(std::span<const float> probabilities, const SamplingOptions& sampling);
Kept kept_tokens(std::span<const double> probabilities, const SamplingOptions& sampling);

}  // namespace backburn::generate
