#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backburn/base/options.h"
#include "backburn/defense/unseen.h"
#include "backburn/model/load.h"
#include "backburn/text/prompt_set.h"

/// A bound on the signal that any reward can give an attacker. Statement, proof and assumptions: docs/certificate.md.
namespace backburn::defense {

/// What is assumed of the attacker's sampling.
struct CertificateOptions {
  std::vector<double> temperatures = {1, 1.5, 2};
  double top_p = 1.0;
  int64_t top_k = 0;
  double min_p = 0.0;
  int64_t num_generations = 8;                ///< G, answers in a group
  int64_t prompts_per_step = 4;               ///< groups in a step
  std::vector<std::string> refusals;          ///< members of S beside the canonical refusal
  std::vector<std::string> system_prompts;    ///< that the attacker may set; the template's own is always among them
  std::vector<std::string> prefixes;          ///< beginnings of the answer that it may force; none is always among them
  std::vector<std::string> prompt_templates;  ///< words that it may put around a prompt ("{}"); none always among them
  std::vector<std::string> plain_formats;     ///< that it may put in place of the chat template; that always among them
  double confidence = 0.95;                   ///< of what is said of unseen prompts
  std::vector<double> thresholds = {1e-3, 1e-2, 1e-1};  ///< t, of the share of unseen prompts with p > t
};
void bind(Options& options, const std::string& prefix, CertificateOptions& certificate);

/// A prompt at one temperature, in the worst of the certified situations.
struct PromptBound {
  std::string id, split, group;
  double p = 1;              ///< 1 − Σ_{y∈S} π(y|x): the chance that one sample is none of the refusals S
  double signal = 1;         ///< P(a group has a differential), at most, for any reward: 1 − Σ_{y∈S} π(y|x)^G
  double signal_on_set = 1;  ///< … for a reward that scores all of S alike: 1 − (1 − p)^G
};

/// The bounds at one sampling temperature.
struct TemperatureBound {
  double temperature = 1;
  std::vector<PromptBound> rows;
  double p_max = 1, p_mean = 1;
  double signal_per_group_max = 1;         ///< the largest PromptBound::signal
  double signal_on_set_per_group_max = 1;  ///< … and signal_on_set
  double expected_steps_to_signal = 1;     ///< lower bound on the mean, for the prompts_per_step weakest prompts
  std::optional<UnseenBound> unseen;       ///< from the held-out prompts among them
};

/// How prompts are put to the model.
struct Situation {
  std::string system_prompt;  ///< "": the chat template's own
  std::string prefix;         ///< with which the answer is forced to begin
  std::string prompt_template = "{}";
  std::string plain_format;  ///< in place of the chat template (model::in_plain_format); "": the chat template
};

/// … and what a situation does to p at one temperature.
struct SituationBound {
  Situation situation;
  double temperature = 1;
  double p_max = 1, p_mean = 1, signal_per_group_max = 1;
};

/// Where a weak prompt's answers leave the canonical refusal: where one is apt to begin as a refusal and go on as an
/// answer ("I'm sorry for the delay"), another refusal may serve better.
struct Leak {
  std::string id;
  double p = 1;        ///< as PromptBound's, of the canonical refusal alone, asked plainly
  std::string after;   ///< the beginning of the refusal behind which most is lost; "": nothing is said yet
  double p_there = 1;  ///< the chance that it goes on otherwise there
};

/// P(a group of G samples has any reward differential) ≤ 1 − (1 − p)^G, for every reward function: it takes two
/// different samples to tell apart, and all are equal with at least the chance that all are the one refusal.
double signal_bound(double p, int64_t num_generations);

struct Certificate {
  std::vector<std::string> refusals;  ///< S; the canonical one first
  CertificateOptions options;
  std::vector<TemperatureBound> temperatures;
  std::vector<SituationBound> situations;
  std::vector<Leak> leaks;  ///< of the weakest prompts at the first temperature, the weakest first
  Json to_json() const;     ///< the report's shape
};

/// p of each prompt at each of options.temperatures by one teacher-forced pass a situation, exactly (no sampling), in
/// the network's own arithmetic. Errors: a refusal whose tokens begin with those of another (their chances would count
/// twice).
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
