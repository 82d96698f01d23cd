#include "backburn/judge/registry.h"

#include <fmt/ranges.h>

#include "backburn/base/error.h"
#include "backburn/base/options.h"

namespace backburn::judge {
namespace {

struct Row {
  const char* name;
  const char* summary;
  Judge (*make)(const LanguageModelOptions& lm, const std::string& device);
};

constexpr Row table[] = {
    {"rubric", "transparent rules, English: does the answer do the job, and how well",
     [](const LanguageModelOptions&, const std::string&) { return Judge(&rubric); }},
    {"lm", "a language model, asked for a number (lm_judge.*)",
     [](const LanguageModelOptions& lm, const std::string& device) { return language_model_judge(lm, device); }},
};

}  // namespace

std::vector<JudgeEntry> known_judges() {
  std::vector<JudgeEntry> judges;
  for (const Row& row : table) judges.push_back({row.name, row.summary});
  return judges;
}

Judge make_judge(const std::string& name, const LanguageModelOptions& lm, const std::string& device) {
  std::vector<std::string> names;
  for (const Row& row : table) {
    if (name == row.name) return row.make(lm, device);
    names.emplace_back(row.name);
  }
  const std::string near = nearest(name, names);
  fail_usage("There is no judge \"{}\"; known: {}.{}", name, fmt::join(names, ", "),
             near.empty() ? "" : fmt::format(" Did you mean \"{}\"?", near));
}

}  // namespace backburn::judge
