#include "backburn/text/unigram.h"

#include <algorithm>
#include <limits>

#include "backburn/base/error.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

constexpr double unknown_penalty = 10;

// The best spelling of the text up to a place.
struct Best {
  double score = 0;
  size_t begin = std::numeric_limits<size_t>::max();  // of its last token; max: none yet
  int32_t id = -1;                                    // of its last token; −1: an unknown character
  bool reached() const { return begin != std::numeric_limits<size_t>::max(); }
};

}  // namespace

Unigram::Unigram(const TokenizerParts& parts, const TokenIds& ids, const std::vector<int32_t>& byte_ids,
                 const std::string& origin)
    : model_(&parts.model), ids_(&ids) {
  if (model_->unknown < 0) fail("{}: the Unigram model has no unknown token (unk_id).", origin);
  lowest_ = std::numeric_limits<double>::infinity();
  highest_ = -lowest_;
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (!parts.in_model[id] || parts.tokens[id].empty()) continue;
    trie_.add(parts.tokens[id], static_cast<int32_t>(id));
    lowest_ = std::min(lowest_, model_->scores[id]);
    highest_ = std::max(highest_, model_->scores[id]);
  }
  if (model_->byte_fallback) byte_ids_ = byte_ids;
}

void Unigram::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  const bool single = model_->single_precision;
  const auto rounded = [single](double score) { return single ? double{static_cast<float>(score)} : score; };
  std::vector<Best> best(piece.size() + 1);
  const auto offer = [&](size_t begin, size_t end, int32_t id, double score) {
    const double sum = rounded(score + best[begin].score);
    if (!best[end].reached() || sum > best[end].score) best[end] = {sum, begin, id};
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t character = utf8_step(piece, at).length;
    bool has_character = false;
    trie_.walk(piece.substr(at), [&](size_t length, int32_t id) {
      const bool always = !model_->always.empty() && model_->always[static_cast<size_t>(id)];
      // A symbol that is always chosen gets a bonus that no other spelling of so many bytes has.
      const double score =
          always ? rounded(static_cast<double>(length) * highest_) - 0.1 : model_->scores[static_cast<size_t>(id)];
      offer(at, at + length, id, score);
      has_character = has_character || length == character;
    });
    if (!has_character) offer(at, at + character, -1, rounded(lowest_ - unknown_penalty));
    at += character;
  }

  // From the end; unknown characters in a row are one token.
  std::vector<Best> path;  // begin: as in best; score: not used
  for (size_t end = piece.size(); end > 0; end = best[end].begin) path.push_back(best[end]);
  size_t end = 0;
  for (size_t i = path.size(); i > 0; --i) {
    const size_t begin = path[i - 1].begin;
    if (path[i - 1].id >= 0) {
      ids.push_back(path[i - 1].id);
      continue;
    }
    while (i > 1 && path[i - 2].id < 0) --i;
    end = i > 1 ? path[i - 2].begin : piece.size();
    const std::string_view unknown = piece.substr(begin, end - begin);
    const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    const bool as_bytes =
        !byte_ids_.empty() && std::all_of(unknown.begin(), unknown.end(), [&](char c) { return byte_id(c) >= 0; });
    if (const int32_t known = ids_->find(unknown); known >= 0) {
      ids.push_back(known);
    } else if (as_bytes) {
      for (char c : unknown) ids.push_back(byte_id(c));
    } else {
      ids.push_back(model_->unknown);
    }
  }
}

}  // namespace backburn::text
