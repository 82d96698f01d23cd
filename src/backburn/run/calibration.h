#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/report/table.h"

namespace backburn::run {

/// The certificate's forecasts against what attacks saw, over all run folders in `folders` (themselves, or anywhere
/// below), in the order of their paths. A JSON object:
///
/// - "runs": a list of {"run" (its path), "stage", "attack", "outside" (the certificate doesn't speak of the attack:
/// the
///   rest is missing), "steps", "groups", "expected", "with_differential", "p_value", "holds" (defense::Forecast),
///   "pooled"};
/// - "pooled": {"runs", "groups", "expected", "with_differential", "p_value", "holds"} or null where there are none;
/// - "violations": the runs whose test fails at 99%.
///
/// Each run's test is the forecast's. The pooled one: with all groups that the pooled attacks sampled, and each group's
/// own bound as its chance, the probability of at least as many differentials as the attacks saw up to their first step
/// with one (poisson_binomial_tail). It is exact and one-sided: groups after that step, whose weights are others,
/// are thought of as drawn from the released weights, and count as having seen none.
/// Runs that draw the same answers until the first differential (same weights, prompts, sampling and seed: the losses
/// of one comparison) are pooled once, by the longest of them. Not pooled: runs whose steps or prompts' bounds were not
/// kept, and dynamic sampling, whose number of groups depends on what they show.
/// Errors: a folder that is missing.
Json calibrate(const std::vector<std::filesystem::path>& folders);

report::Table calibration_table(const Json& calibration);
/// The pooled test, the violations and the attacks that are outside, in words.
std::string calibration_verdict(const Json& calibration);
/// Plot, verdict and table as a part of a static page.
std::string calibration_section(const Json& calibration);

}  // namespace backburn::run
