#pragma once

#include "backburn/text/gguf_vocabulary.h"

namespace backburn::text {

class Tokenizer;

/// What a GGUF file says of such a tokenizer, the way back of parts_of, with `size` tokens; those that the parts lack
/// are unused. For byte-level BPE whose pre-tokenizer has a name, and for SentencePiece's BPE. Errors: another kind, a
/// pre-tokenizer or normalizer that no GGUF file can name, more than `size` tokens.
Vocabulary vocabulary_of(const TokenizerParts& parts, size_t size);

/// The same of a tokenizer, by way of its tokenizer.json.
Vocabulary vocabulary_of(const Tokenizer& tokenizer, size_t size);

}  // namespace backburn::text
