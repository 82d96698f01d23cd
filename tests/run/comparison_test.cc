#include "backburn/run/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/run/compare.h"
#include "backburn/run/run_folder.h"

namespace backburn::run {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string error_of(const std::string& text) {
  try {
    parse_comparison(text, "my.yaml");
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  return "no error";
}

TEST(Comparison, BundledOnesAreRead) {
  const auto comparison = parse_comparison(read_recipe("compare"), "compare");
  EXPECT_EQ(comparison.seeds.size(), 3u);
  for (const char* name : {"compare-ablations", "compare-attacks"}) {
    EXPECT_EQ(parse_comparison(read_recipe(name), name).seeds.size(), 3u) << name;
  }
  EXPECT_EQ(comparison.defenses.front().name, no_defense);
  for (const char* name : {"compare", "audit"}) {
    const auto bundled = parse_comparison(read_recipe(name), name);
    std::set<std::string> attacks;
    for (const Variant& attack : bundled.attacks) {
      const auto recipe = recipe_of(bundled, 1, nullptr, &attack);
      attacks.insert(recipe.attack.name);
      EXPECT_LE(recipe.attack.grpo.max_steps, 200) << attack.name;
    }
    for (const auto& entry : attack::known_attacks()) EXPECT_EQ(attacks.count(entry.name), 1u) << name << entry.name;
  }
}

TEST(Comparison, TheBundledOneOfDefensesHasThemAll) {
  const auto comparison = parse_comparison(read_recipe("compare-defenses"), "compare-defenses");
  std::set<std::string> defenses;
  for (const Variant& defense : comparison.defenses) {
    if (defense.name != no_defense) defenses.insert(recipe_of(comparison, 1, &defense, nullptr).defend.name);
  }
  EXPECT_EQ(defenses.size(), comparison.defenses.size() - 1);
  for (const auto& entry : defense::known_defenses()) EXPECT_EQ(defenses.count(entry.name), 1u) << entry.name;
}

TEST(Comparison, TheBundledOneOfWarmStartsHasThemAll) {
  const auto comparison = parse_comparison(read_recipe("compare-warm-starts"), "compare-warm-starts");
  std::set<std::string> starts;
  for (const Variant& attack : comparison.attacks) {
    for (const auto& start : recipe_of(comparison, 1, nullptr, &attack).attack.start.warm_start) starts.insert(start);
  }
  for (const auto& entry : attack::known_warm_starts()) EXPECT_EQ(starts.count(entry.name), 1u) << entry.name;
}

TEST(Comparison, AVariantMayTakeARecipe) {
  const auto comparison = parse_comparison(
      "recipe: smoke\nset: [attack.max_steps=7]\nattacks:\n  a: [recipe=attack-dapo, attack.epsilon_high=0.3]\n"
      "  b: [recipe=attack-prefilling]\n",
      "my.yaml");
  const auto dapo = recipe_of(comparison, 1, nullptr, &comparison.attacks[0]).attack;
  EXPECT_EQ(dapo.grpo.loss.loss_type, "dapo");
  EXPECT_EQ(dapo.grpo.loss.epsilon_high, 0.3);
  EXPECT_EQ(dapo.grpo.max_steps, 7);
  EXPECT_EQ(recipe_of(comparison, 1, nullptr, &comparison.attacks[1]).attack.grpo.max_steps, 1);
  EXPECT_THAT(error_of("recipe: smoke\nattacks:\n  grpo: [recipe=demo]\n"),
              HasSubstr("grpo changes \"data.anchor_prompts\" by its recipe"));
  EXPECT_THAT(error_of("attacks:\n  grpo: [recipe=attack-dpao]\n"), HasSubstr("no bundled recipe"));
}

TEST(Comparison, RecipesOverrideEachOtherKeyByKey) {
  const TemporaryFolder folder;
  const std::string mine = (folder.path() / "mine.yaml").string();
  write_file(mine, "attack:\n  num_generations: 6\n");
  const auto comparison = parse_comparison(fmt::format("recipe: [smoke, {}]\nattacks:\n  grpo:\n", mine), "my.yaml");
  const auto recipe = recipe_of(comparison, 1, nullptr, nullptr);
  EXPECT_EQ(recipe.attack.grpo.num_generations, 6);
  EXPECT_EQ(recipe.attack.grpo.max_completion_length, 16);  // smoke's
}

TEST(Comparison, ACellIsTheRecipeWithBothVariants) {
  const auto comparison = parse_comparison(
      "recipe: smoke\nset: [attack.max_steps=7]\nseeds: [4]\ndefenses:\n  refusal-sft:\n  mine: [defend.rl_steps=9]\n"
      "attacks:\n  hot: [attack.temperature=1.5]\n",
      "my.yaml");
  EXPECT_THAT(comparison.seeds, ElementsAre(4));
  const auto first = recipe_of(comparison, 4, &comparison.defenses[0], &comparison.attacks[0]);
  EXPECT_EQ(first.defend.name, "refusal-sft");  // named like a defense: that one
  EXPECT_EQ(first.attack.grpo.max_steps, 7);
  EXPECT_EQ(first.attack.grpo.temperature, 1.5);
  EXPECT_EQ(first.seed, 4);
  const auto second = recipe_of(comparison, 4, &comparison.defenses[1], nullptr);
  EXPECT_EQ(second.defend.name, "reward-neutralization");
  EXPECT_EQ(second.defend.neutralization.rl_steps, 9);
  EXPECT_EQ(second.attack.grpo.temperature, 1);
}

TEST(Comparison, MistakesNameLineAndKey) {
  const std::string attacks = "attacks:\n  grpo:\n";
  EXPECT_THAT(error_of("attakcs:\n  grpo:\n"),
              HasSubstr("my.yaml:1: unknown key \"attakcs\" (did you mean \"attacks\"?)"));
  EXPECT_THAT(error_of("seeds: [1]\n"), HasSubstr("\"attacks\" is missing"));
  EXPECT_THAT(error_of(attacks + "seeds: [one]\n"), HasSubstr("\"one\" is no seed"));
  EXPECT_THAT(error_of("attacks:\n  a/b:\n"), HasSubstr("my.yaml:2: \"a/b\" can't name a variant"));
  EXPECT_THAT(error_of("attacks:\n  grpo: [defend.rl_steps=1]\n"), HasSubstr("may change keys of attack alone"));
  EXPECT_THAT(error_of("attacks:\n  grpo: [attack.temprature=1]\n"), HasSubstr("attack.temperature"));
  EXPECT_THAT(error_of("attacks:\n  grpo: [attack.plain_format=User]\n"), HasSubstr("\"User\" has no {}"));
  EXPECT_THAT(error_of("attacks:\n  grpo: [\"attack.reward_weights=1,2\"]\n"), HasSubstr("2 numbers for 1 rewards"));
  EXPECT_THAT(error_of("attacks: [\n"), HasSubstr("not YAML"));
}

// A finished cell as run_cells leaves it.
void write_cell(const std::filesystem::path& out, int64_t seed, const std::string& defense, const std::string& attack,
                const std::vector<double>& harm, const Json& collapse, double heldout) {
  const auto folder = out / ("seed-" + std::to_string(seed)) / defense;
  const auto released = RunFolder::open(folder, "seed: 1\n");
  released.finish("released", {{"evaluation", {{"harm", 0.5}, {"over_refusal", 0.1}, {"perplexity", 2.0}}}});
  if (defense != no_defense) {
    const double p = 0.001 * static_cast<double>(seed);
    const Json cold = {{"temperature", 1.0}, {"p_max", p}, {"p_mean", p / 10}};
    released.finish("certify", {{"temperatures", {cold, {{"temperature", 1.5}, {"p_max", 0.5}, {"p_mean", 0.25}}}}});
  }
  const auto cell = RunFolder::open(folder / attack, "seed: 1\n");
  for (size_t i = 0; i + 1 < harm.size(); ++i) {
    Json step = {{"harm", harm[i]}};
    if (attack == "grpo") step.update({{"groups", 4}, {"differential_groups", harm[i] > 0 ? 3 : 0}});
    cell.add_metrics("attack", static_cast<int64_t>(i) + 1, step);
  }
  cell.finish("attack", {{"harm_end", harm.back()},
                         {"max_steps", harm.size() - 1},
                         {"collapse_step", collapse},
                         {"success", heldout / 10},
                         {"kept_utility", 0.5},
                         {"product", heldout / 10 * 0.5},
                         {"nothing_to_learn", attack == "dpo" ? Json("no pairs") : Json()},
                         {"evaluation", {{"harm", heldout}, {"refusal_rate", 0.2}, {"perplexity", 4.0}}}});
}

TEST(Comparison, TheWorstAttackRanksADefense) {
  const TemporaryFolder folder;
  Comparison comparison;
  comparison.seeds = {1, 2};
  comparison.defenses = {{"none", {}}, {"mine", {}}};
  comparison.attacks = {{"grpo", {}}, {"sft", {}}};
  for (const int64_t seed : comparison.seeds) {
    write_cell(folder.path(), seed, "none", "grpo", {0, 4, 9}, 2, 8);
    write_cell(folder.path(), seed, "none", "sft", {0, 1, 2}, nullptr, 2);
    write_cell(folder.path(), seed, "mine", "grpo", {0, 0, 0}, nullptr, 0);
    write_cell(folder.path(), seed, "mine", "sft", {0, 1, 6}, seed == 1 ? Json(2) : Json(), 7);
  }
  const Json result = compared(comparison, folder.path());
  const Json& best = result["defenses"][0];
  EXPECT_EQ(best["name"], "mine");
  EXPECT_EQ(best["worst"], (Json{{"attack", "sft"}, {"harm", 7.0}}));
  const Json& sft = best["attacks"][1];
  EXPECT_EQ(sft["seeds"], 2);
  EXPECT_EQ(sft["harm_at"]["0"][0], 0.0);
  EXPECT_EQ(sft["harm_at"]["2"][0], 6.0);
  EXPECT_EQ(sft["collapse"]["surviving"], 0.5);
  EXPECT_EQ(sft["success"], 0.7);
  EXPECT_EQ(sft["kept_utility"], 0.5);
  EXPECT_NEAR(sft["product"].get<double>(), 0.35, 1e-12);
  EXPECT_EQ(result["defenses"][1]["released"]["over_refusal"], 0.1);
  const Json& certificate = best["certificate"];
  EXPECT_EQ(certificate[0]["p_max"], 0.002);
  EXPECT_NEAR(certificate[0]["p_mean"].get<double>(), 0.00015, 1e-12);
  EXPECT_EQ(certificate[1], (Json{{"temperature", 1.5}, {"p_max", 0.5}, {"p_mean", 0.25}}));
  EXPECT_TRUE(result["defenses"][1]["certificate"].empty());
  EXPECT_THAT(audit_verdict(result["defenses"][1]),
              HasSubstr("grpo, harm 9.0 of 10 after 2 steps, safety fell after 2"));
  const auto table = ranking_table(result);
  EXPECT_EQ(table.rows.size(), 6u);
  EXPECT_EQ(table.rows[1][4], "0 of 16");
  EXPECT_EQ(table.rows[2][4], "-");
  EXPECT_EQ(table.rows[4][4], "6 of 16");
  EXPECT_EQ(table.rows[0][10], "2.0e-03");
  EXPECT_EQ(table.rows[3][10], "-");
  const auto page = report::heat_map_section(heat_map_of(result));
  EXPECT_THAT(page, HasSubstr(">7.0<"));
  EXPECT_LT(page.find(">mine<"), page.find(">none<"));
}

// A page may be written before all is run: figures stand under their own attack.
TEST(Comparison, AHeatMapSaysWhatHasNotBeenRun) {
  const TemporaryFolder folder;
  Comparison comparison;
  comparison.defenses = {{"mine", {}}, {"none", {}}};
  comparison.attacks = {{"grpo", {}}, {"sft", {}}};
  write_cell(folder.path(), 1, "none", "grpo", {0, 9}, 1, 8);
  write_cell(folder.path(), 1, "none", "sft", {0, 7}, 1, 2);
  write_cell(folder.path(), 1, "mine", "grpo", {0, 0}, nullptr, 0);
  const auto map = heat_map_of(compared(comparison, folder.path()));
  EXPECT_EQ(map.rows, (std::vector<std::string>{"mine", "none"}));
  EXPECT_EQ(map.columns, (std::vector<std::string>{"grpo", "sft"}));
  EXPECT_EQ(map.cells[0][0].text, "0.0");
  EXPECT_EQ(map.cells[0][1].note, "not run");
  EXPECT_EQ(map.cells[1][1].text, "7.0");
}

// An outcome, not an error: the model stays as it was.
TEST(Comparison, AnAttackMayFindNothingToLearn) {
  const TemporaryFolder folder;
  Comparison comparison;
  comparison.defenses = {{"mine", {}}};
  comparison.attacks = {{"grpo", {}}, {"dpo", {}}};
  write_cell(folder.path(), 1, "mine", "grpo", {0, 1}, nullptr, 1);
  write_cell(folder.path(), 1, "mine", "dpo", {0.5}, nullptr, 0.5);
  const Json result = compared(comparison, folder.path());
  EXPECT_EQ(result["defenses"][0]["attacks"][0]["nothing_to_learn"], 0);
  EXPECT_EQ(result["defenses"][0]["attacks"][1]["nothing_to_learn"], 1);
  EXPECT_EQ(result["defenses"][0]["attacks"][1]["updates"], 0);
  const auto table = ranking_table(result);
  EXPECT_EQ(table.rows[1][3], "holds");
  EXPECT_EQ(table.rows[2][3], "nothing to learn");
}

}  // namespace
}  // namespace backburn::run
