#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace backburn::model {

/// Models of the Hugging Face Hub in its local cache, in the layout of the huggingface_hub library:
/// models--ORG--NAME/refs/main holds a commit, models--ORG--NAME/snapshots/COMMIT the files.

/// "org/name", of letters, digits, ".", "_" and "-".
bool is_hub_id(const std::string& text);

/// $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
std::filesystem::path hub_cache_folder();

/// The folder of the model's main branch in the cache, or, where it holds one .gguf file and no config.json, that file.
/// Empty when the model is not there, or only in part: its config.json and weights alone count.
std::optional<std::filesystem::path> cached_snapshot(const std::string& id);

/// cached_snapshot; a model that is not there is fetched by `hf download`, as that is configured. Errors: no program
/// `hf`, a download that fails (with its last line), a repository without weights that are read here.
std::filesystem::path hub_snapshot(const std::string& id);

}  // namespace backburn::model
