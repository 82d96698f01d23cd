#include "backburn/run/run_folder.h"

#include <sstream>
#include <system_error>

#include "backburn/base/error.h"
#include "backburn/base/files.h"

namespace backburn::run {
namespace {

namespace fs = std::filesystem;

// What to say of two configurations that differ: the first line that is not the same.
std::string first_difference(const std::string& older, const std::string& newer) {
  std::istringstream left(older), right(newer);
  std::string a, b;
  while (true) {
    const bool more_left = static_cast<bool>(std::getline(left, a));
    const bool more_right = static_cast<bool>(std::getline(right, b));
    if (!more_left && !more_right) return "";
    if (!more_left) a = "(nothing)";
    if (!more_right) b = "(nothing)";
    if (a != b)
      return fmt::format("\"{}\" there, \"{}\" now", a.substr(a.find_first_not_of(' ')),
                         b.substr(b.find_first_not_of(' ')));
  }
}

Json stamped(const std::string& stage, int64_t step, const Json& line) {
  Json json = {{"stage", stage}, {"step", step}};
  json.update(line);
  json["step"] = step;
  return json;
}

// A killed process may leave half a last line; it belongs to a step that will be run again.
std::vector<Json> whole_lines(const fs::path& path) {
  std::vector<Json> lines;
  if (!fs::exists(path)) return lines;
  std::istringstream stream(read_file(path));
  for (std::string line; std::getline(stream, line);) {
    Json json = Json::parse(line, nullptr, false);
    if (json.is_object()) lines.push_back(std::move(json));
  }
  return lines;
}

void drop_after(const fs::path& path, const std::string& stage, int64_t step) {
  if (!fs::exists(path)) return;
  std::string kept;
  for (const Json& line : whole_lines(path)) {
    if (line.value("stage", "") != stage || line.value("step", int64_t{0}) <= step) kept += line.dump() + "\n";
  }
  write_file(path, kept);
}

}  // namespace

RunFolder RunFolder::open(const fs::path& path, const std::string& config_yaml) {
  const fs::path config = path / "config.yaml";
  if (fs::exists(config)) {
    const std::string older = read_file(config);
    if (older != config_yaml) {
      fail_usage("{} holds a run of another configuration ({}); give another --out, or remove that folder",
                 path.string(), first_difference(older, config_yaml));
    }
  } else if (fs::exists(path) && (!fs::is_directory(path) || !fs::is_empty(path))) {
    fail_usage("{} exists and is no run folder of backburn; give another --out", path.string());
  }
  make_folder(path / "stages");
  make_folder(path / "checkpoints");
  if (!fs::exists(config)) write_file(config, config_yaml);
  return RunFolder(path);
}

RunFolder RunFolder::open_existing(const fs::path& path) {
  if (!fs::exists(path / "config.yaml")) fail("{}: no run folder (it has no config.yaml)", path.string());
  return RunFolder(path);
}

std::string RunFolder::config() const { return read_file(path_ / "config.yaml"); }

bool RunFolder::finished(const std::string& stage) const { return fs::exists(path_ / "stages" / (stage + ".json")); }

Json RunFolder::result(const std::string& stage) const {
  return finished(stage) ? read_json_file(path_ / "stages" / (stage + ".json")) : Json();
}

void RunFolder::finish(const std::string& stage, const Json& result) const {
  write_file(path_ / "stages" / (stage + ".json"), result.dump(1) + "\n");
  std::error_code ignored;
  fs::remove(checkpoint(stage), ignored);
}

fs::path RunFolder::checkpoint(const std::string& stage) const {
  return path_ / "checkpoints" / (stage + ".safetensors");
}

void RunFolder::rewind(const std::string& stage, int64_t step) const {
  drop_after(path_ / "metrics.jsonl", stage, step);
  drop_after(path_ / "completions.jsonl", stage, step);
}

void RunFolder::add_metrics(const std::string& stage, int64_t step, const Json& line) const {
  append_line(path_ / "metrics.jsonl", stamped(stage, step, line).dump());
}

void RunFolder::add_completion(const std::string& stage, int64_t step, const Json& line) const {
  append_line(path_ / "completions.jsonl", stamped(stage, step, line).dump());
}

std::vector<Json> RunFolder::metrics(const std::string& stage) const {
  std::vector<Json> lines;
  for (Json& line : whole_lines(path_ / "metrics.jsonl")) {
    if (line.value("stage", "") == stage) lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace backburn::run
