#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "backburn/base/json.h"
#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// Reads the text of a Hugging Face tokenizer.json. Errors name `origin`, the key, and what was expected: another model
/// type, ids out of range or given twice.
TokenizerParts parts_of_json(std::string_view text, const std::string& origin);

/// A tokenizer.json that Hugging Face `tokenizers` loads.
Json json_of(const TokenizerParts& parts);

/// A merge as older files write it: "left right". Errors name `where` and `rank`.
std::pair<std::string, std::string> split_merge(std::string_view line, size_t rank, const std::string& where);

}  // namespace backburn::text
