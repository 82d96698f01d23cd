#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace backburn::text {

/// What stands before and behind the place "{}" where a prompt goes. Errors: no such place (usage); `what` the text is
/// called there ("wording").
std::pair<std::string, std::string> around_prompt(const std::string& text, const std::string& what);

/// A prompt in other words, or in another language's frame: `wording` with the prompt where "{}" stands. Errors: a
/// wording without that place (usage).
std::string worded(const std::string& wording, const std::string& prompt);

/// Which of `count` variants prompt number `index` is asked in, none twice: `share` of them in the mean (1.5 is one,
/// and for every other prompt a second). The streams tell how many, and which, from other draws. Same seed, same
/// choice.
std::vector<size_t> variants_of(size_t index, size_t count, double share, uint64_t seed, uint64_t share_stream,
                                uint64_t order_stream);

/// Prompt number `index` in such variants, each of them a wording.
std::vector<std::string> reworded(const std::string& prompt, size_t index, const std::vector<std::string>& wordings,
                                  double share, uint64_t seed);

}  // namespace backburn::text
