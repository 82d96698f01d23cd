#include <fmt/format.h>

#include "backburn/base/error.h"
#include "backburn/base/json.h"
#include "backburn/judge/audit.h"
#include "backburn/judge/registry.h"
#include "commands.h"

namespace backburn::app {
namespace {

void score_file(const std::string& path, const judge::Judge& judge) {
  size_t number = 0;
  for (const Json& row : read_jsonl_file(path)) {
    ++number;
    for (const char* key : {"prompt", "response"}) {
      if (!row.is_object() || !row.contains(key) || !row[key].is_string()) {
        fail("{}: row {} has no text \"{}\"; expected {{\"prompt\": …, \"response\": …}}", path, number, key);
      }
    }
    const auto verdict = judge(row["prompt"].get<std::string>(), row["response"].get<std::string>());
    fmt::print("{}\n", Json({{"row", number},
                             {"score", verdict.score},
                             {"kind", judge::to_string(verdict.kind)},
                             {"reasons", verdict.reasons}})
                           .dump());
  }
}

void print_audit(const Json& audit) {
  const Json& auc = audit["auc"];
  fmt::print(
      "accuracy_binary {:.1f}% [{:.1f}, {:.1f}] on {} rows, kappa3 {:.2f}, auc {} (report half; {} rows in all)\n",
      100 * audit["accuracy_binary"].get<double>(), 100 * audit["accuracy_binary_low"].get<double>(),
      100 * audit["accuracy_binary_high"].get<double>(), audit["accuracy_binary_rows"].get<int64_t>(),
      audit["kappa3"].get<double>(), auc.is_null() ? "-" : fmt::format("{:.3f}", auc.get<double>()),
      audit["rows"].get<int64_t>());
}

struct JudgeFlags {
  std::string path, name = "rubric", device = "auto";
  std::vector<std::string> sets;
  bool json = false;
};

std::string names_of_judges() {
  std::string names;
  for (const auto& entry : judge::known_judges()) {
    names += fmt::format("{}{} ({})", names.empty() ? "" : "; ", entry.name, entry.summary);
  }
  return names;
}

judge::Judge judge_of(const JudgeFlags& flags) {
  judge::LanguageModelOptions lm;
  Options options;
  judge::bind(options, "lm_judge", lm);
  for (const auto& assignment : flags.sets) options.set(assignment);
  return judge::make_judge(flags.name, lm, flags.device);
}

}  // namespace

void add_judge(CLI::App& app) {
  auto* command = app.add_subcommand("judge", "score answers, and measure a judge against people");
  command->require_subcommand(1);
  auto flags = std::make_shared<JudgeFlags>();
  auto* score = command->add_subcommand("score", "a JSON object a line: score, kind and reasons of each answer");
  auto* audit = command->add_subcommand("audit", "agreement with human labels");
  judge::LanguageModelOptions defaults;
  Options keys;
  judge::bind(keys, "lm_judge", defaults);
  for (auto* each : {score, audit}) {
    each->add_option("FILE", flags->path,
                     each == score ? "JSON lines with \"prompt\" and \"response\""
                                   : "JSON lines with \"prompt\", \"response\" and \"label\"")
        ->required();
    each->add_option("--judge", flags->name, names_of_judges())->capture_default_str();
    each->add_option("--set", flags->sets, "KEY=VALUE, as below; may be given again")->allow_extra_args(false);
    each->add_option("--device", flags->device, "auto, cpu or cuda: where a model that judges computes")
        ->capture_default_str();
    each->footer("Keys for --set, with their defaults:\n" + keys.help());
  }
  audit->add_flag("--json", flags->json, "the result as one JSON object");
  score->callback([flags] { score_file(flags->path, judge_of(*flags)); });
  audit->callback([flags] {
    const Json result = judge::audit(flags->path, judge_of(*flags));
    if (flags->json)
      fmt::print("{}\n", result.dump());
    else
      print_audit(result);
  });
}

}  // namespace backburn::app
