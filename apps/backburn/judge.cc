#include <fmt/format.h>

#include "backburn/base/error.h"
#include "backburn/base/json.h"
#include "backburn/judge/audit.h"
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
  fmt::print("accuracy_binary {:.1f}% [{:.1f}, {:.1f}] on {} rows, kappa3 {:.2f} (report half; {} rows in all)\n",
             100 * audit["accuracy_binary"].get<double>(), 100 * audit["accuracy_binary_low"].get<double>(),
             100 * audit["accuracy_binary_high"].get<double>(), audit["accuracy_binary_rows"].get<int64_t>(),
             audit["kappa3"].get<double>(), audit["rows"].get<int64_t>());
}

}  // namespace

void add_judge(CLI::App& app) {
  auto* command = app.add_subcommand("judge", "score answers, and measure a judge against people");
  command->require_subcommand(1);
  auto path = std::make_shared<std::string>();
  auto name = std::make_shared<std::string>("rubric");
  auto json = std::make_shared<bool>(false);
  auto* score = command->add_subcommand("score", "a JSON object a line: score, kind and reasons of each answer");
  auto* audit = command->add_subcommand("audit", "agreement with human labels");
  for (auto* each : {score, audit}) {
    each->add_option("FILE", *path,
                     each == score ? "JSON lines with \"prompt\" and \"response\""
                                   : "JSON lines with \"prompt\", \"response\" and \"label\"")
        ->required();
    each->add_option("--judge", *name, "which judge")->capture_default_str();
  }
  audit->add_flag("--json", *json, "the result as one JSON object");
  score->callback([=] { score_file(*path, judge::make_judge(*name)); });
  audit->callback([=] {
    const Json result = judge::audit(*path, judge::make_judge(*name));
    if (*json)
      fmt::print("{}\n", result.dump());
    else
      print_audit(result);
  });
}

}  // namespace backburn::app
