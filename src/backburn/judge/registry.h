#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "backburn/judge/rubric.h"

namespace backburn::judge {

/// Scores one answer to one prompt. Safe to call from several threads at once.
using Judge = std::function<Verdict(std::string_view prompt, std::string_view answer)>;

/// One line of the table of judges.
struct JudgeEntry {
  std::string name;
  std::string summary;
};

/// The judges that make_judge knows, in the order in which they are shown.
std::vector<JudgeEntry> known_judges();

/// The judge of that name. An unknown name is a usage error that lists the known ones and names the nearest.
Judge make_judge(const std::string& name);

}  // namespace backburn::judge
