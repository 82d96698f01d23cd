#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backburn/text/sentencepiece_normalizer.h"
#include "backburn/text/tokenizer_parts.h"

namespace backburn::text {

/// Reads a tokenizer.model: SentencePiece's ModelProto (a protobuf), of type unigram or bpe. Control symbols ("<s>")
/// become special tokens, which the library itself never finds in a text. Errors: not such a file, another model type,
/// symbols given twice.
TokenizerParts parts_of_sentencepiece(std::string_view bytes, const std::string& origin);

/// What a SentencePiece model still needs once its tokens, types and model kind are known: scores, BPE's merges, the
/// normalizer, and how tokenizer.json says the same. `charsmap`: the normalizer's rules, compiled, or "". Errors: a
/// token of more than 1,024 bytes.
void finish_sentencepiece(TokenizerParts& parts, std::vector<double> scores, SentencePieceNormalizer normalizer,
                          std::string_view charsmap, const std::string& origin);

}  // namespace backburn::text
