#pragma once

#include <string>
#include <vector>

#include "backburn/judge/judge.h"
#include "backburn/judge/language_model.h"

namespace backburn::judge {

/// One line of the table of judges.
struct JudgeEntry {
  std::string name;
  std::string summary;
};

/// The judges that make_judge knows, in the order in which they are shown.
std::vector<JudgeEntry> known_judges();

/// The judge of that name; `lm` and `device` are what the one that is a language model needs. An unknown name is a
/// usage error that lists the known ones and names the nearest.
Judge make_judge(const std::string& name, const LanguageModelOptions& lm = {}, const std::string& device = "auto");

}  // namespace backburn::judge
