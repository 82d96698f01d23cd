#pragma once

#include <string>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// The pre-tokenizer (and normalizer) that a GGUF file names by tokenizer.ggml.pre, as a tokenizer.json has them.
struct NamedPreTokenizer {
  Json normalizer;  ///< null or {"type": "NFC"}
  Json pre_tokenizer;
  bool ignore_merges = false;
};

/// Errors: a name that is not known; the known ones are listed.
NamedPreTokenizer named_pre_tokenizer(const std::string& name, const std::string& origin);

/// The decoder of byte-level BPE.
Json byte_level_decoder();

/// The way back: a name under which llama.cpp does what these parts do. Errors: there is none.
std::string name_of_pre_tokenizer(const TokenizerParts& parts);

/// The steps of a normalizer or pre-tokenizer, sequences laid out flat, defaults filled in, and without what only
/// changes offsets. None for null.
std::vector<nlohmann::json> steps_of(const Json& part);

/// Whether one of its steps is of that type.
bool has_step(const Json& part, const char* type);

}  // namespace backburn::text
