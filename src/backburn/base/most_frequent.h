#pragma once

#include <string>
#include <vector>

namespace backburn {

/// The text that is there most often; among equals the shortest, then the first in byte order. Empty for no texts.
std::string most_frequent(const std::vector<std::string>& texts);

}  // namespace backburn
