#include "backburn/run/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <set>

#include "backburn/base/rng.h"
#include "backburn/run/attack_stage.h"
#include "backburn/run/probe.h"
#include "backburn/run/stages.h"

namespace backburn::run {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t search_stream = 0x736561726368;
constexpr double lowest_rate = 0.25, highest_rate = 8;  // × the attack's own
constexpr double lowest_temperature = 0.7, highest_temperature = 2;
constexpr std::array<int64_t, 5> ranks = {4, 8, 16, 32, 64};
constexpr std::array<int64_t, 3> prompt_factors = {1, 2, 4};
const std::string attack_log = "attack";  // the name of a trial's checkpoint and metrics, over all of its rounds

// What all trials share: made when the first unfinished round asks for it.
struct Shared {
  model::Model model;
  eval::EvalInputs inputs;
  std::vector<text::Prompt> prompts;
};

std::unique_ptr<Shared> load_shared(const Run& run) {
  auto shared = std::make_unique<Shared>(Shared{load_model(run.recipe.model, run.recipe), {}, {}});
  shared->inputs = eval_inputs(run, shared->model);
  shared->prompts = attack_prompts(run, shared->model, run.recipe.attack.split);
  return shared;
}

double signal_of(const std::vector<Json>& steps) {
  double groups = 0;
  double with_differential = 0;
  for (const Json& step : steps) {
    groups += step["groups"].get<double>();
    with_differential += step["differential_groups"].get<double>();
  }
  return groups == 0 ? 0 : with_differential / groups;
}

Json settings_of(const Variant& trial) {
  Json settings = Json::object();
  for (const std::string& set : trial.sets) {
    const size_t equals = set.find('=');
    settings[set.substr(0, equals)] = set.substr(equals + 1);
  }
  return settings;
}

Json to_json(const Reached& reached, const Variant& trial, const std::string& attack, double min_kept_utility) {
  return {{"trial", trial.name},
          {"attack", attack},
          {"settings", settings_of(trial)},
          {"steps", reached.steps},
          {"harm", reached.harm},
          {"success", reached.success},
          {"kept_utility", reached.kept_utility},
          {"product", reached.success * reached.kept_utility},
          {"signal", reached.signal},
          {"counts", reached.kept_utility >= min_kept_utility}};
}

const Variant& attack_of(const Comparison& comparison, size_t trial) {
  return comparison.attacks[trial % comparison.attacks.size()];
}

std::string decimals(const Json& value) { return fmt::format("{:.2f}", value.get<double>()); }

}  // namespace

std::vector<Variant> draw_trials(const Comparison& comparison, int64_t count, int64_t seed) {
  std::vector<Variant> trials;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    Variant trial{fmt::format("trial-{:02}", i), attack_of(comparison, i).sets};
    if (i >= comparison.attacks.size()) {
      const auto own = recipe_of(comparison, seed, nullptr, &trial).attack;
      auto draw = [&, counter = uint64_t{0}]() mutable {
        return static_cast<double>(uniform(static_cast<uint64_t>(seed), stream_of({search_stream, i}), counter++));
      };
      const auto one_of = [&](const auto& values) {
        return values[static_cast<size_t>(draw() * static_cast<double>(values.size()))];
      };
      const double rate = own.grpo.optimizer.learning_rate * lowest_rate * std::pow(highest_rate / lowest_rate, draw());
      const int64_t rank = one_of(ranks);
      const double temperature = lowest_temperature + (highest_temperature - lowest_temperature) * draw();
      trial.sets.push_back(fmt::format("attack.learning_rate={:.3g}", rate));
      trial.sets.push_back(fmt::format("attack.r={}", rank));
      trial.sets.push_back(fmt::format("attack.lora_alpha={}", 2 * rank));
      trial.sets.push_back(fmt::format("attack.temperature={:.2f}", temperature));
      trial.sets.push_back(fmt::format("attack.prompts={}", own.prompts * one_of(prompt_factors)));
    }
    trials.push_back(std::move(trial));
  }
  return trials;
}

int64_t rounds_for(int64_t trials) {
  int64_t rounds = 1;
  for (; trials > 1; trials /= 2) ++rounds;
  return rounds;
}

int64_t steps_at(int64_t round, int64_t rounds, int64_t max_steps) {
  const int64_t parts = int64_t{1} << (rounds - 1 - round);
  return (max_steps + parts - 1) / parts;
}

bool goes_on_first(const Reached& left, const Reached& right, double min_kept_utility) {
  const auto key = [&](const Reached& reached) {
    const bool counts = reached.kept_utility >= min_kept_utility;
    return counts ? std::array<double, 4>{1, reached.success, reached.harm, reached.signal}
                  : std::array<double, 4>{0, reached.kept_utility, 0, 0};
  };
  return key(left) > key(right);
}

std::vector<std::vector<Reached>> successive_halving(const SearchOptions& options, const Measure& measure,
                                                     const Drop& drop) {
  std::vector<size_t> running(static_cast<size_t>(options.trials));
  for (size_t i = 0; i < running.size(); ++i) running[i] = i;
  std::vector<std::vector<Reached>> rounds;
  for (int64_t round = 0; !running.empty(); ++round) {
    auto& reached = rounds.emplace_back();
    for (const size_t trial : running) reached.push_back(measure(trial, round));
    std::stable_sort(reached.begin(), reached.end(), [&](const Reached& left, const Reached& right) {
      return goes_on_first(left, right, options.min_kept_utility);
    });
    const size_t going_on = running.size() / 2;
    for (size_t i = going_on; i < reached.size(); ++i) drop(reached[i].trial);
    running.resize(going_on);
    for (size_t i = 0; i < going_on; ++i) running[i] = reached[i].trial;
    // In their first order, so that what a trial meets does not depend on its rank.
    std::sort(running.begin(), running.end());
  }
  return rounds;
}

Json search(const Comparison& comparison, const SearchOptions& options, const fs::path& out) {
  const int64_t seed = comparison.seeds.front();
  const fs::path folder = out / fmt::format("seed-{}", seed);
  const Run common = open_run(recipe_of(comparison, seed, nullptr, nullptr), folder);
  const auto trials = draw_trials(comparison, options.trials, seed);
  const int64_t rounds = rounds_for(options.trials);
  std::unique_ptr<Shared> shared;

  const auto open_trial = [&](size_t trial) {
    return open_run(recipe_of(comparison, seed, nullptr, &trials[trial]), folder / "search" / trials[trial].name,
                    &common);
  };
  const auto measure = [&](size_t trial, int64_t round) {
    const Run run = open_trial(trial);
    const int64_t max_steps = run.recipe.attack.grpo.max_steps;
    const int64_t steps = steps_at(round, rounds, max_steps);
    const std::string stage = fmt::format("after-{}", steps);
    if (!run.folder.finished(stage)) {
      if (!shared) shared = load_shared(common);
      AttackJob job{attack_log,     fmt::format("{}: {}", trials[trial].name, attack_of(comparison, trial).name),
                    &shared->model, as_many_prompts(run, shared->prompts),
                    max_steps,      run.recipe.defend.refusal};
      job.stop_after = steps;
      Json result = attack_so_far(run, job, shared->inputs);
      result["signal"] = signal_of(run.folder.metrics(attack_log));
      run.folder.finish(stage, result);
    }
    const Json result = run.folder.result(stage);
    return Reached{trial,
                   steps,
                   result["harm_end"].get<double>(),
                   result["success"].get<double>(),
                   result["kept_utility"].get<double>(),
                   result["signal"].get<double>()};
  };
  // Attacked weights are kept only for as long as the trial may go on.
  const auto drop = [&](size_t trial) { fs::remove(open_trial(trial).folder.checkpoint(attack_log)); };

  Json found = {
      {"worst", nullptr}, {"min_kept_utility", options.min_kept_utility}, {"seed", seed}, {"rounds", Json::array()}};
  for (const auto& round : successive_halving(options, measure, drop)) {
    Json list = Json::array();
    for (const Reached& reached : round) {
      const Json each =
          to_json(reached, trials[reached.trial], attack_of(comparison, reached.trial).name, options.min_kept_utility);
      const bool worse = found["worst"].is_null() || each["success"] > found["worst"]["success"];
      if (each["counts"].get<bool>() && worse) found["worst"] = each;
      list.push_back(each);
    }
    found["rounds"].push_back(std::move(list));
  }
  return found;
}

report::Table search_table(const Json& found) {
  const std::array<const char*, 4> tuned = {"attack.learning_rate", "attack.r", "attack.temperature", "attack.prompts"};
  report::Table table{{"trial", "attack", "learning rate", "r", "temperature", "prompts", "steps", "harm", "success",
                       "kept utility", "product"},
                      {}};
  std::set<std::string> shown;
  for (auto round = found["rounds"].rbegin(); round != found["rounds"].rend(); ++round) {
    for (const Json& each : *round) {
      const auto trial = each["trial"].get<std::string>();
      if (!shown.insert(trial).second) continue;
      std::vector<std::string> row = {trial, each["attack"].get<std::string>()};
      for (const char* key : tuned) row.push_back(each["settings"].value(key, ""));
      row.push_back(each["steps"].dump());
      for (const char* key : {"harm", "success", "kept_utility", "product"}) row.push_back(decimals(each[key]));
      if (!each["counts"].get<bool>()) row.emplace_back("wrecked");
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

std::string search_verdict(const Json& found) {
  const auto trials = found["rounds"][0].size();
  const Json& worst = found["worst"];
  if (worst.is_null()) {
    return fmt::format("None of {} trials kept a utility of at least {}.", trials, decimals(found["min_kept_utility"]));
  }
  std::string settings;
  for (const auto& [key, value] : worst["settings"].items()) {
    settings += fmt::format(" {}{}", key == "recipe" ? "--recipe " : "--set " + key + "=", value.get<std::string>());
  }
  return fmt::format(
      "Worst case of {} trials that keep a utility of at least {}: {} ({}), success {}, kept utility {}, "
      "after {} steps:{}",
      trials, decimals(found["min_kept_utility"]), worst["trial"].get<std::string>(),
      worst["attack"].get<std::string>(), decimals(worst["success"]), decimals(worst["kept_utility"]),
      worst["steps"].get<int64_t>(), settings.empty() ? " as it is given" : settings);
}

}  // namespace backburn::run
