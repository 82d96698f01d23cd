#include "backburn/defense/certificate.h"

#include <algorithm>
#include <cmath>

#include "backburn/defense/anchored.h"

namespace backburn::defense {

void bind(Options& options, const std::string& prefix, CertificateOptions& certificate) {
  const std::string at = prefix + ".";
  options.add(at + "temperatures", certificate.temperatures, "the attacker's sampling temperatures", {1e-3, 100});
  options.add(at + "num_generations", certificate.num_generations, "answers in the attacker's groups", {2, 4096});
  options.add(at + "prompts_per_step", certificate.prompts_per_step, "groups in the attacker's steps", at_least_1);
}

double signal_bound(double p, int64_t num_generations) {
  return -std::expm1(static_cast<double>(num_generations) * std::log1p(-std::min(p, 1.0)));
}

namespace {

// logprobs: ln π_T(y*|x) of each prompt.
TemperatureBound bound_at(double temperature, const std::vector<text::Prompt>& prompts,
                          const std::vector<double>& logprobs, const CertificateOptions& options) {
  TemperatureBound bound{temperature, {}, 0, 0, 0, 0};
  std::vector<double> weakest;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const double p = -std::expm1(std::min(0.0, logprobs[i]));
    bound.rows.push_back({prompts[i].id, prompts[i].split, p});
    bound.p_max = std::max(bound.p_max, p);
    bound.p_mean += p / static_cast<double>(prompts.size());
    weakest.push_back(p);
  }
  std::sort(weakest.rbegin(), weakest.rend());
  weakest.resize(std::min(weakest.size(), static_cast<size_t>(options.prompts_per_step)));
  double no_signal = 0;  // ln of its chance in a step
  for (const double p : weakest)
    no_signal += static_cast<double>(options.num_generations) * std::log1p(-std::min(p, 1.0));
  bound.signal_per_group_max = signal_bound(bound.p_max, options.num_generations);
  bound.expected_steps_to_signal = 1.0 / std::max(1e-300, -std::expm1(no_signal));
  return bound;
}

}  // namespace

Certificate certify(const model::Model& model, const model::Network& network, const std::vector<text::Prompt>& prompts,
                    const std::string& refusal, const CertificateOptions& options) {
  const auto answer = answer_ids(model, refusal);
  std::vector<train::Example> examples;
  for (const auto& prompt : prompts) examples.push_back({model::chat_prompt(model, prompt.text), answer});
  const auto logprobs = train::answer_logprobs(network, examples, options.temperatures);
  Certificate certificate{refusal, options, {}};
  for (size_t i = 0; i < options.temperatures.size(); ++i) {
    certificate.temperatures.push_back(bound_at(options.temperatures[i], prompts, logprobs[i], options));
  }
  return certificate;
}

Json Certificate::to_json() const {
  Json json = {{"canonical_refusal", refusal},
               {"num_generations", options.num_generations},
               {"prompts_per_step", options.prompts_per_step},
               {"temperatures", Json::array()},
               {"rows", Json::array()}};
  for (const auto& each : temperatures) {
    Json rows = Json::array();
    for (const auto& row : each.rows) rows.push_back({{"id", row.id}, {"split", row.split}, {"p", row.p}});
    if (&each == &temperatures.front()) json["rows"] = rows;
    json["temperatures"].push_back({{"temperature", each.temperature},
                                    {"p_max", each.p_max},
                                    {"p_mean", each.p_mean},
                                    {"signal_per_group_max", each.signal_per_group_max},
                                    {"expected_steps_to_signal", each.expected_steps_to_signal}});
  }
  json["applies"] = {"every reward function, whatever it scores",
                     "groups of samples drawn at the table's temperatures from the released weights, up to the first "
                     "step that sees a reward differential"};
  json["does_not_apply"] = {"supervised fine-tuning on harmful answers, and warm starts by it",
                            "edits of the weights, such as abliteration or noise",
                            "KL or entropy bonuses, which act without a reward differential",
                            "prompts, system messages and forced prefixes other than those certified"};
  return json;
}

Forecast check_forecast(const std::vector<ObservedStep>& steps) {
  Forecast forecast;
  double no_signal = 0;  // ln of the least chance, by the bound, that no group so far had a differential
  for (const ObservedStep& step : steps) {
    ++forecast.steps;
    for (const double bound : step.bounds) {
      ++forecast.groups;
      forecast.expected += bound;
      no_signal += std::log1p(-std::min(bound, 1.0));
    }
    forecast.with_differential += step.with_differential;
    if (step.with_differential > 0) {
      forecast.p_value = -std::expm1(no_signal);
      break;
    }
  }
  forecast.bound = forecast.groups == 0 ? 1 : forecast.expected / static_cast<double>(forecast.groups);
  forecast.holds = forecast.p_value >= 0.01;
  return forecast;
}

Json Forecast::to_json() const {
  return {{"steps", steps}, {"groups", groups},     {"with_differential", with_differential},
          {"bound", bound}, {"expected", expected}, {"p_value", p_value},
          {"holds", holds}};
}

}  // namespace backburn::defense
