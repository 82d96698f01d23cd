#pragma once

#include <string>
#include <vector>

#include "backburn/base/options.h"
#include "backburn/model/load.h"
#include "backburn/text/prompt_set.h"

namespace backburn::defense {

/// What is assumed of the attacker's sampling.
struct CertificateOptions {
  std::vector<double> temperatures = {1, 1.5, 2};
  int64_t num_generations = 8;   ///< G, answers in a group
  int64_t prompts_per_step = 4;  ///< groups in a step
};
void bind(Options& options, const std::string& prefix, CertificateOptions& certificate);

/// p(x) = 1 − π_T(y*|x): the chance that one sample is anything but the canonical refusal y*, its stop token included.
struct PromptBound {
  std::string id, split;
  double p = 1;
};

/// The bounds at one sampling temperature.
struct TemperatureBound {
  double temperature = 1;
  std::vector<PromptBound> rows;
  double p_max = 1, p_mean = 1;
  double signal_per_group_max = 1;      ///< signal_bound(p_max, G)
  double expected_steps_to_signal = 1;  ///< lower bound on the mean, for the prompts_per_step weakest prompts
};

/// P(a group of G samples has any reward differential) ≤ 1 − (1 − p)^G, for every reward function: it takes two
/// different samples to tell apart, and all are equal with at least the chance that all are y*.
double signal_bound(double p, int64_t num_generations);

struct Certificate {
  std::string refusal;
  CertificateOptions options;
  std::vector<TemperatureBound> temperatures;
  Json to_json() const;  ///< the report's shape
};

/// p of each prompt at each of options.temperatures by one teacher-forced pass, exactly (no sampling), in the network's
/// own arithmetic.
Certificate certify(const model::Model& model, const model::Network& network, const std::vector<text::Prompt>& prompts,
                    const std::string& refusal, const CertificateOptions& options);

/// The forecast against what an attack saw. The bound is on the released weights, and weights change with the first
/// signal, so groups count up to and including the first step with one: if `first_signal_step` is K, p_value is the
/// greatest chance that the bound leaves for a first signal at step K or sooner; if there was none it is 1.
struct Forecast {
  int64_t steps = 0;              ///< at the released weights
  int64_t groups = 0;             ///< sampled in them
  int64_t with_differential = 0;  ///< of those
  double bound = 1;               ///< mean over the groups of signal_bound
  double expected = 0;            ///< sum of it: signals that the bound allows in the mean
  double p_value = 1;
  bool holds = true;  ///< p_value ≥ 0.01
  Json to_json() const;
};

/// One step of an attack: signal_bound of each of its groups, and how many had a differential.
struct ObservedStep {
  std::vector<double> bounds;
  int64_t with_differential = 0;
};
Forecast check_forecast(const std::vector<ObservedStep>& steps);

}  // namespace backburn::defense
