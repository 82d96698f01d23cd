#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// The special tokens around a text, as a tokenizer.json's "post_processor" has them for a single text:
/// BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing.
class PostProcessor {
 public:
  /// Null: none. `ids` are those of all tokens. Errors: another type of step, a missing or wrong value, an unknown
  /// token.
  static PostProcessor from_json(const Json& json, const TokenIds& ids, const std::string& where);

  std::vector<int32_t> apply(std::vector<int32_t> ids) const;

 private:
  // What a step gives: special tokens, and −1 where its input goes.
  using Template = std::vector<int32_t>;
  void add_steps(const Json& json, const TokenIds& ids, const std::string& where, int depth);
  std::vector<Template> steps_;
};

}  // namespace backburn::text
