#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace backburn::text {

/// A prompt in other words, or in another language's frame: `wording` with the prompt where "{}" stands. Errors: a
/// wording without that place (usage).
std::string worded(const std::string& wording, const std::string& prompt);

/// Prompt number `index` in some of the wordings, none twice: `share` of them in the mean (1.5 is one, and for every
/// other prompt a second). Same seed, same choice.
std::vector<std::string> reworded(const std::string& prompt, size_t index, const std::vector<std::string>& wordings,
                                  double share, uint64_t seed);

}  // namespace backburn::text
