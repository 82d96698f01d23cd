#include "backburn/run/check_recipe.h"

#include "backburn/text/wordings.h"

namespace backburn::run {
namespace {

void check_places(const std::string& key, const std::vector<std::string>& texts) {
  for (const auto& text : texts) {
    if (!text.empty()) text::around_prompt(text, key);
  }
}

}  // namespace

void check_recipe(const Recipe& recipe) {
  check_places("attack.plain_format", {recipe.attack.pose.plain_format});
  check_places("attack.prompt_templates", recipe.attack.pose.prompt_templates);
  check_places("defend.plain_formats", recipe.defend.neutralization.plain_formats);
  check_places("certify.plain_formats", recipe.certify.plain_formats);
  check_places("certify.prompt_templates", recipe.certify.prompt_templates);
  const train::Group nothing_sampled;  // so that all it does is to check
  attack::weighted_rewards(recipe.attack.reward, {nothing_sampled, {}, 0, 0});
}

}  // namespace backburn::run
