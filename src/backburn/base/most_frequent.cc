#include "backburn/base/most_frequent.h"

#include <cstdint>
#include <map>

namespace backburn {

std::string most_frequent(const std::vector<std::string>& texts) {
  std::map<std::string, int64_t> counts;
  for (const auto& text : texts) ++counts[text];
  std::string best;
  int64_t most = 0;
  for (const auto& [text, count] : counts) {
    if (count < most || (count == most && text.size() >= best.size())) continue;
    best = text;
    most = count;
  }
  return best;
}

}  // namespace backburn
