#include "backburn/text/tokenizer_parts.h"

#include "backburn/base/error.h"
#include "backburn/text/utf8.h"

namespace backburn::text {

void TokenizerParts::put(const std::string& token, int32_t id, bool of_model, const std::string& where) {
  if (!is_utf8(token)) fail("{}: the token of id {} is not UTF-8.", where, id);
  const auto at = static_cast<size_t>(id);
  if (at >= tokens.size()) {
    tokens.resize(at + 1);
    in_model.resize(at + 1);
  }
  if (!tokens[at].empty() && tokens[at] != token) {
    fail("{}: the id {} is given to \"{}\" and to \"{}\".", where, id, tokens[at], token);
  }
  tokens[at] = token;
  if (of_model) in_model[at] = 1;
}

TokenIds::TokenIds(const TokenizerParts& parts, bool of_model) {
  ids_.reserve(parts.tokens.size());
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.tokens[id].empty() || (of_model && !parts.in_model[id])) continue;
    ids_.emplace(parts.tokens[id], static_cast<int32_t>(id));
  }
}

std::vector<int32_t> TokenIds::bytes() const {
  std::vector<int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) ids.push_back(find(fmt::format("<0x{:02X}>", byte)));
  return ids;
}

}  // namespace backburn::text
