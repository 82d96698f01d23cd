#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "backburn/base/json.h"

namespace backburn::run {

/// A run's folder: config.yaml, metrics.jsonl, completions.jsonl, stages/NAME.json (a finished stage's result),
/// checkpoints/ (only while a stage runs), models and report.html. Opening it again with the same configuration goes on
/// where it was left.
class RunFolder {
 public:
  /// Creates the folder, or opens an older run of the same configuration. Errors (usage): it holds a run of another
  /// configuration (the first differing line is named), or is a folder with other things in it.
  static RunFolder open(const std::filesystem::path& path, const std::string& config_yaml);
  /// Opens a run to read it. Errors: no run there.
  static RunFolder open_existing(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::string config() const;

  bool finished(const std::string& stage) const;
  /// A finished stage's result; null when it is not finished.
  Json result(const std::string& stage) const;
  void finish(const std::string& stage, const Json& result) const;

  /// The stage's checkpoint file, to be removed by finish().
  std::filesystem::path checkpoint(const std::string& stage) const;

  /// Drops what an interrupted run wrote for steps of the stage after `step`, which will be run again.
  void rewind(const std::string& stage, int64_t step) const;
  /// Appends a line; `line` gets the keys "stage" and "step" first.
  void add_metrics(const std::string& stage, int64_t step, const Json& line) const;
  void add_completion(const std::string& stage, int64_t step, const Json& line) const;
  /// The stage's lines of metrics.jsonl.
  std::vector<Json> metrics(const std::string& stage) const;

 private:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace backburn::run
