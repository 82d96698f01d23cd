#include "backburn/model/hub.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"
#include "backburn/base/progress.h"
#include "backburn/base/run_program.h"
#include "backburn/model/gguf.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;

// .json, .jinja, .safetensors, .model: in one pattern, since releases of `hf` differ in how they take several.
constexpr const char* files_of_a_model = "*.[jsm][aios][dfno]*";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);  // of what a symbolic link leads to
}

// Whether all weights that the folder speaks of are there.
bool has_weights(const fs::path& folder) {
  if (is_there(folder / "model.safetensors")) return true;
  const fs::path index = folder / "model.safetensors.index.json";
  if (!is_there(index)) return false;
  const Json json = read_json_file(index);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) return false;
  return std::all_of(json["weight_map"].begin(), json["weight_map"].end(), [&](const Json& file) {
    return file.is_string() && is_there(folder / fs::path(file.get<std::string>()).filename());
  });
}

std::vector<fs::path> gguf_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const fs::path& path = entry.path();
    if (path.extension() == ".gguf" && is_there(path) && !is_later_part(path)) files.push_back(path);
  }
  return files;
}

}  // namespace

bool is_hub_id(const std::string& text) {
  const auto is_name = [](std::string_view part) {
    return !part.empty() && part != "." && part != ".." && std::all_of(part.begin(), part.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
             c == '-';
    });
  };
  const size_t slash = text.find('/');
  if (slash == std::string::npos) return false;
  const std::string_view view = text;
  return is_name(view.substr(0, slash)) && is_name(view.substr(slash + 1));
}

fs::path hub_cache_folder() {
  const auto variable = [](const char* name) -> fs::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (auto cache = variable("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const auto home = variable("HF_HOME"); !home.empty()) return home / "hub";
  if (const auto cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache / "huggingface" / "hub";
  const auto home = variable("HOME");
  if (home.empty()) fail("no folder for the Hub's cache: set HF_HUB_CACHE (or HOME)");
  return home / ".cache" / "huggingface" / "hub";
}

std::optional<fs::path> cached_snapshot(const std::string& id) {
  if (!is_hub_id(id)) fail("\"{}\" is no hub id; expected org/name", id);
  const size_t slash = id.find('/');
  const fs::path repository = hub_cache_folder() / ("models--" + id.substr(0, slash) + "--" + id.substr(slash + 1));
  const fs::path branch = repository / "refs" / "main";
  if (!is_there(branch)) return std::nullopt;
  std::string commit = read_file(branch);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == '\r' || commit.back() == ' ')) commit.pop_back();
  if (commit.empty() || commit.find_first_not_of("0123456789abcdef") != std::string::npos) {
    fail("{}: holds \"{}\", expected a commit", branch.string(), commit.substr(0, 60));
  }
  const fs::path folder = repository / "snapshots" / commit;
  if (is_there(folder / "config.json")) return has_weights(folder) ? std::optional(folder) : std::nullopt;
  const auto files = gguf_files(folder);
  return files.size() == 1 ? std::optional(files.front()) : std::nullopt;
}

fs::path hub_snapshot(const std::string& id) {
  if (const auto found = cached_snapshot(id)) return *found;
  say(id + ": not in the Hub's cache, fetching it with `hf download`");
  const TemporaryFolder folder;
  const auto result = run_program({"hf", "download", id, "--include", files_of_a_model}, folder.path() / "log");
  if (result.status == 127) {
    fail(
        "{}: no such file or folder, not in the Hub's cache ({}), and the program `hf` that could fetch it cannot be "
        "started ({}); install the Python package huggingface_hub, or give a model's folder or .gguf file",
        id, hub_cache_folder().string(), result.last_line);
  }
  if (result.status != 0) fail("{}: `hf download` failed: {}", id, result.last_line);
  if (const auto found = cached_snapshot(id)) return *found;
  fail("{}: the repository has no config.json with safetensors (a .gguf file has to be fetched and named by its path)",
       id);
}

}  // namespace backburn::model
