#include "backburn/judge/audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/statistics.h"

namespace backburn::judge {
namespace {

// In the order of the labels' numbers, which is also the order of the classes of kappa.
constexpr std::array<const char*, 3> label_names{"1_full_compliance", "2_full_refusal", "3_partial_refusal"};
enum Label : size_t { compliance_label, refusal_label, partial_label };

constexpr std::array kinds{Kind::refusal, Kind::partial_refusal, Kind::evasive, Kind::broken, Kind::compliance};

struct Row {
  std::string prompt, response, model;
  Label label = compliance_label;
  Half half = Half::tune;
};

std::string string_of(const Json& json, const char* key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end()) fail("{}: \"{}\" is missing; expected prompt, response and label.", where, key);
  if (!found->is_string()) fail("{}: \"{}\" must be a string, not {}.", where, key, found->type_name());
  return found->get<std::string>();
}

Row row_of(const Json& json, const std::string& where) {
  if (!json.is_object()) fail("{}: expected an object, found {}.", where, json.type_name());
  Row row;
  row.prompt = string_of(json, "prompt", where);
  row.response = string_of(json, "response", where);
  const std::string label = string_of(json, "label", where);
  const auto found = std::find(label_names.begin(), label_names.end(), label);
  if (found == label_names.end()) {
    fail("{}: label \"{}\" is not known; expected {}, {} or {}.", where, label, label_names[0], label_names[1],
         label_names[2]);
  }
  row.label = static_cast<Label>(found - label_names.begin());
  if (json.contains("model")) row.model = string_of(json, "model", where);
  row.half = half_of(row.prompt);
  return row;
}

std::vector<Row> read_rows(const std::filesystem::path& path) {
  // Line by line, so that an error names its line even when empty lines stand before it.
  const std::string text = read_file(path);
  std::vector<Row> rows;
  size_t line = 1;
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view content = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (content.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", path.string(), line);
    Json value = Json::parse(content, nullptr, false);
    if (value.is_discarded()) fail("{}: not a JSON value; expected one object a line.", where);
    rows.push_back(row_of(value, where));
  }
  if (rows.empty()) fail("{}: no rows; the file is empty.", path.string());
  return rows;
}

struct Judged {
  const Row* row;
  Kind kind;
  double score;
};

bool agrees(const Judged& judged) { return (judged.kind == Kind::refusal) == (judged.row->label == refusal_label); }

bool is_binary(const Judged& judged) { return judged.row->label != partial_label; }

// Cohen's kappa (Cohen 1960) of label and verdict; 1 when both always say the same one thing.
double kappa3(const std::vector<Judged>& rows) {
  std::array<std::array<double, 3>, 3> table{};
  for (const Judged& judged : rows) {
    const size_t said = judged.kind == Kind::refusal           ? refusal_label
                        : judged.kind == Kind::partial_refusal ? partial_label
                                                               : compliance_label;
    table[judged.row->label][said] += 1 / static_cast<double>(rows.size());
  }
  double observed = 0;
  double expected = 0;
  for (size_t i = 0; i < 3; ++i) {
    observed += table[i][i];
    double labelled = 0;
    double said = 0;
    for (size_t j = 0; j < 3; ++j) {
      labelled += table[i][j];
      said += table[j][i];
    }
    expected += labelled * said;
  }
  return expected > 1 - 1e-12 ? 1 : (observed - expected) / (1 - expected);
}

struct Accuracy {
  size_t right = 0, total = 0;
  double share() const { return total == 0 ? 0 : static_cast<double>(right) / static_cast<double>(total); }
};

Accuracy binary_accuracy(const std::vector<Judged>& rows) {
  Accuracy accuracy;
  for (const Judged& judged : rows) {
    if (!is_binary(judged)) continue;
    ++accuracy.total;
    accuracy.right += agrees(judged) ? 1 : 0;
  }
  return accuracy;
}

// How often an answer that complies scores higher than one that refuses, ties counting half: the area under the ROC
// curve (Mann and Whitney 1947). Nothing without both.
Json area_under_curve(const std::vector<Judged>& rows) {
  double above = 0;
  double pairs = 0;
  for (const Judged& complying : rows) {
    if (complying.row->label != compliance_label) continue;
    for (const Judged& refusing : rows) {
      if (refusing.row->label != refusal_label) continue;
      above += complying.score > refusing.score ? 1 : complying.score == refusing.score ? 0.5 : 0;
      pairs += 1;
    }
  }
  return pairs == 0 ? Json() : Json(above / pairs);
}

Json agreement(const std::vector<Judged>& rows) {
  Json json;
  std::set<std::string_view> prompts;
  std::set<std::string_view> models;
  for (const Judged& judged : rows) {
    prompts.insert(judged.row->prompt);
    if (!judged.row->model.empty()) models.insert(judged.row->model);
  }
  json["rows"] = rows.size();
  json["prompts"] = prompts.size();
  for (size_t label = 0; label < label_names.size(); ++label) {
    json["labels"][label_names[label]] =
        std::count_if(rows.begin(), rows.end(), [&](const Judged& judged) { return judged.row->label == label; });
  }
  const Accuracy accuracy = binary_accuracy(rows);
  const auto interval = wilson(static_cast<int64_t>(accuracy.right), static_cast<int64_t>(accuracy.total));
  json["accuracy_binary"] = accuracy.share();
  json["accuracy_binary_low"] = interval.low;
  json["accuracy_binary_high"] = interval.high;
  json["accuracy_binary_rows"] = accuracy.total;
  json["kappa3"] = kappa3(rows);
  json["auc"] = area_under_curve(rows);
  for (size_t label = 0; label < label_names.size(); ++label) {
    for (const Kind kind : kinds) {
      json["confusion"][label_names[label]][to_string(kind)] =
          std::count_if(rows.begin(), rows.end(),
                        [&](const Judged& judged) { return judged.row->label == label && judged.kind == kind; });
    }
  }
  json["models"] = Json::object();
  for (const std::string_view model : models) {
    std::vector<Judged> of_model;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(of_model),
                 [&](const Judged& judged) { return judged.row->model == model; });
    json["models"][std::string(model)] = {{"rows", of_model.size()},
                                          {"accuracy_binary", binary_accuracy(of_model).share()}};
  }
  return json;
}

}  // namespace

Half half_of(std::string_view prompt) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : prompt) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  // The lowest bit alone of FNV-1a is the parity of the bytes' lowest bits; the fold mixes higher ones in.
  for (const int shift : {32, 16, 8}) hash ^= hash >> shift;
  return (hash & 1) == 0 ? Half::tune : Half::report;
}

Json audit(const std::filesystem::path& path, const Judge& judge) {
  const std::vector<Row> rows = read_rows(path);
  std::vector<Judged> tune;
  std::vector<Judged> report;
  for (const Row& row : rows) {
    auto& half = row.half == Half::tune ? tune : report;
    const Verdict verdict = judge(row.prompt, row.response);
    half.push_back({&row, verdict.kind, verdict.score});
  }
  if (tune.empty() || report.empty()) {
    fail("{}: all {} rows fall into the {} half; more prompts are needed.", path.string(), rows.size(),
         tune.empty() ? "report" : "tune");
  }
  Json json = agreement(report);
  json["tune"] = agreement(tune);
  return json;
}

}  // namespace backburn::judge
