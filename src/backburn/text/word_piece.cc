#include "backburn/text/word_piece.h"

#include "backburn/base/error.h"
#include "backburn/text/utf8.h"

namespace backburn::text {

WordPiece::WordPiece(const TokenizerParts& parts, const TokenIds& ids, const std::string& origin)
    : model_(&parts.model), ids_(&ids) {
  if (model_->unknown < 0) fail("{}: the WordPiece model has no unknown token (unk_token).", origin);
}

void WordPiece::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  const size_t before = ids.size();
  if (utf8_length(piece) > model_->max_characters) {
    ids.push_back(model_->unknown);
    return;
  }
  std::string wanted;
  for (size_t begin = 0; begin < piece.size();) {
    int32_t found = -1;
    size_t end = piece.size();
    for (; end > begin; --end) {
      if (end < piece.size() && (static_cast<unsigned char>(piece[end]) & 0xC0) == 0x80) continue;
      wanted = begin == 0 ? std::string() : model_->subword_prefix;
      wanted += piece.substr(begin, end - begin);
      found = ids_->find(wanted);
      if (found >= 0) break;
    }
    if (found < 0) {
      ids.resize(before);
      ids.push_back(model_->unknown);
      return;
    }
    ids.push_back(found);
    begin = end;
  }
}

void WordLevel::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  const int32_t found = ids_->find(piece);
  if (found >= 0 || unknown_ >= 0) ids.push_back(found >= 0 ? found : unknown_);
}

}  // namespace backburn::text
