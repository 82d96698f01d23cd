#include "backburn/run/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "backburn/base/error.h"
#include "backburn/base/statistics.h"
#include "backburn/defense/certificate.h"
#include "backburn/report/calibration_plot.h"
#include "backburn/report/static_page.h"
#include "backburn/run/attack_stage.h"
#include "backburn/run/run_folder.h"

namespace backburn::run {
namespace {

namespace fs = std::filesystem;

constexpr double significance = 0.01;

std::vector<fs::path> run_folders(const std::vector<fs::path>& roots) {
  std::vector<fs::path> found;
  const auto add = [&](const fs::path& folder) {
    if (fs::exists(folder / "config.yaml") && fs::is_directory(folder / "stages")) found.push_back(folder);
  };
  for (const auto& root : roots) {
    if (!fs::is_directory(root)) fail("{}: no such folder", root.string());
    add(root);
    for (const auto& entry : fs::recursive_directory_iterator(root)) {
      if (entry.is_directory()) add(entry.path());
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

// signal_bound of each attack prompt. Runs that did not keep it: from the certificate, where that is of the attack's
// own sampling, as its largest p tells. Empty: unknown.
std::vector<double> signals_of(const RunFolder& folder, const Json& result) {
  if (result.contains("attack_prompt_signal")) return result["attack_prompt_signal"].get<std::vector<double>>();
  const Json certificate = folder.result("certify");
  if (certificate.is_null() || !result.contains("attack_prompt_p_max")) return {};
  std::map<std::string, double> p_of;
  for (const Json& row : certificate["rows"]) p_of[row["id"].get<std::string>()] = row["p"].get<double>();
  std::vector<double> signals;
  double largest = 0;
  for (const Json& prompt : result["prompts"]) {
    const auto found = p_of.find(prompt["id"].get<std::string>());
    if (found == p_of.end()) return {};
    largest = std::max(largest, found->second);
    signals.push_back(defense::signal_bound(found->second, certificate["num_generations"].get<int64_t>()));
  }
  const double kept = result["attack_prompt_p_max"].get<double>();
  return std::abs(largest - kept) <= 1e-6 * kept ? signals : std::vector<double>();
}

// A certified attack's groups, each with its bound, and what names the answers that it draws.
struct Observed {
  std::vector<double> bounds;
  int64_t with_differential = 0;
  double expected = 0;
  std::string draws;
  size_t run = 0;
};

Observed observe(const RunFolder& folder, const std::string& stage, const Json& result, size_t run) {
  Observed observed;
  const auto signals = signals_of(folder, result);
  // With dynamic sampling, how many groups a step samples depends on what they show: no fixed number to test against.
  const bool dynamic = result.contains("draws") && result["draws"].value("max_num_gen_batches", 1) > 1;
  if (!signals.empty() && !dynamic) {
    auto lines = folder.metrics(result.value("log", stage));
    // A search goes on with an attack whose earlier result this may be.
    std::erase_if(lines, [&](const Json& line) { return line["step"] > result["max_steps"]; });
    for (const auto& step : observed_steps(lines, signals)) {
      observed.bounds.insert(observed.bounds.end(), step.bounds.begin(), step.bounds.end());
    }
  }
  for (const double bound : observed.bounds) observed.expected += bound;
  observed.with_differential = result["forecast"]["with_differential"].get<int64_t>();
  observed.draws = result.contains("draws") ? Json::array({result["draws"], result["prompts"], signals}).dump()
                                            : folder.path().string();
  observed.run = run;
  return observed;
}

Json pooled_test(const std::vector<Observed>& pool) {
  if (pool.empty()) return nullptr;
  std::vector<double> bounds;
  int64_t seen = 0;
  double expected = 0;
  for (const Observed& each : pool) {
    bounds.insert(bounds.end(), each.bounds.begin(), each.bounds.end());
    seen += each.with_differential;
    expected += each.expected;
  }
  const double p_value = poisson_binomial_tail(seen, bounds);
  return {{"runs", pool.size()},       {"groups", bounds.size()}, {"expected", expected},
          {"with_differential", seen}, {"p_value", p_value},      {"holds", p_value >= significance}};
}

// Of the runs that draw the same answers, the longest.
std::vector<Observed> pool_of(std::vector<Observed> all) {
  std::map<std::string, Observed> longest;
  for (Observed& each : all) {
    if (each.bounds.empty()) continue;
    auto& kept = longest[each.draws];
    if (each.bounds.size() > kept.bounds.size()) kept = std::move(each);
  }
  std::vector<Observed> pool;
  for (auto& [draws, each] : longest) pool.push_back(std::move(each));
  return pool;
}

std::string label_of(const Json& run) {
  return fmt::format("{} {}", run["run"].get<std::string>(), run["stage"].get<std::string>());
}

std::string p_text(const Json& value) { return fmt::format("{:.3g}", value.get<double>()); }

}  // namespace

Json calibrate(const std::vector<fs::path>& folders) {
  Json runs = Json::array();
  std::vector<Observed> observed;
  for (const auto& path : run_folders(folders)) {
    const auto folder = RunFolder::open_existing(path);
    std::vector<fs::path> stages;
    for (const auto& entry : fs::directory_iterator(path / "stages")) stages.push_back(entry.path());
    std::sort(stages.begin(), stages.end());
    for (const auto& file : stages) {
      const std::string stage = file.stem().string();
      const Json result = folder.result(stage);
      if (!result.is_object()) continue;
      const bool outside = result.value("outside_certificate", false);
      if (!outside && !result.contains("forecast")) continue;
      Json run = {
          {"run", path.string()}, {"stage", stage}, {"attack", result.value("attack", "grpo")}, {"outside", outside}};
      if (!outside) {
        for (const char* key : {"steps", "groups", "expected", "with_differential", "p_value", "holds"}) {
          run[key] = result["forecast"][key];
        }
        run["pooled"] = false;
        observed.push_back(observe(folder, stage, result, runs.size()));
      }
      runs.push_back(std::move(run));
    }
  }
  const auto pool = pool_of(std::move(observed));
  for (const Observed& each : pool) runs[each.run]["pooled"] = true;
  Json violations = Json::array();
  for (const Json& run : runs) {
    if (!run["outside"].get<bool>() && !run["holds"].get<bool>()) violations.push_back(label_of(run));
  }
  return {{"runs", runs}, {"pooled", pooled_test(pool)}, {"violations", violations}};
}

report::Table calibration_table(const Json& calibration) {
  report::Table table{{"run", "stage", "attack", "steps", "groups", "expected", "seen", "p", "holds", "pooled"}, {}};
  for (const Json& run : calibration["runs"]) {
    std::vector<std::string> row;
    for (const char* key : {"run", "stage", "attack"}) row.push_back(run[key].get<std::string>());
    if (run["outside"].get<bool>()) {
      row.insert(row.end(), {"", "", "", "", "", "outside"});
    } else {
      row.insert(row.end(), {run["steps"].dump(), run["groups"].dump(), p_text(run["expected"]),
                             run["with_differential"].dump(), p_text(run["p_value"]),
                             run["holds"].get<bool>() ? "yes" : "NO", run["pooled"].get<bool>() ? "yes" : "no"});
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string calibration_verdict(const Json& calibration) {
  const Json& pooled = calibration["pooled"];
  std::string text = "No attack has been held against a certificate.";
  if (pooled.is_object()) {
    text = fmt::format(
        "{} run{} pooled, {} groups: at most {} with a reward differential expected, {} seen until the first; the "
        "bound "
        "{} at 99% (p = {}).",
        pooled["runs"].get<int64_t>(), pooled["runs"] == 1 ? "" : "s", pooled["groups"].get<int64_t>(),
        p_text(pooled["expected"]), pooled["with_differential"].get<int64_t>(),
        pooled["holds"].get<bool>() ? "holds" : "FAILS", p_text(pooled["p_value"]));
  }
  for (const Json& each : calibration["violations"]) text += "\nViolation: " + each.get<std::string>();
  int64_t outside = 0;
  for (const Json& run : calibration["runs"]) outside += run["outside"].get<bool>() ? 1 : 0;
  if (outside > 0) text += fmt::format("\n{} attacks are outside the certificate.", outside);
  return text;
}

std::string calibration_section(const Json& calibration) {
  std::vector<report::CalibrationMark> marks;
  for (const Json& run : calibration["runs"]) {
    if (run["outside"].get<bool>()) continue;
    marks.push_back({label_of(run), run["expected"].get<double>(), run["with_differential"].get<double>(),
                     run["holds"].get<bool>()});
  }
  return "<h2>The certificate's forecast against what attacks saw</h2>\n<p>" +
         report::escaped(calibration_verdict(calibration)) + "</p>\n" + report::calibration_plot(marks) +
         report::table_section(calibration_table(calibration));
}

}  // namespace backburn::run
