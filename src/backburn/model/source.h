#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "backburn/model/config.h"
#include "backburn/text/tokenizer.h"

namespace backburn::model {

/// Where a MODEL argument leads.
struct ModelSource {
  std::filesystem::path path;  ///< a .gguf file or a Hugging Face folder
  std::string name;            ///< as the argument said it; empty for a path: the file's own name does
  bool is_folder() const;
};

/// A MODEL argument is a .gguf file, a Hugging Face folder, a name of pull.h's table (an Error says how to fetch it
/// when it is not in the cache), or a hub id "org/name" (hub.h), looked for in that order.
ModelSource find_model(const std::string& path_or_name);

/// What can be known of a model without reading its weights. Errors: also those of check_tensors.
ModelConfig config_of(const ModelSource& source);
text::Tokenizer tokenizer_of(const ModelSource& source);
std::optional<std::string> chat_template_of(const ModelSource& source);  ///< Jinja source

/// Stored tensors of one type.
struct StoredTensors {
  std::string type;  ///< "BF16", "Q4_K", …
  int64_t tensors = 0, values = 0, bytes = 0;
};

/// What a model's weights are stored as, the type with the most bytes first.
std::vector<StoredTensors> stored_tensors(const ModelSource& source);

}  // namespace backburn::model
