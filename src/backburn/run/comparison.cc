#include "backburn/run/comparison.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "backburn/base/error.h"
#include "backburn/run/check_recipe.h"

namespace backburn::run {
namespace {

std::string place(const std::string& origin, const YAML::Node& node) {
  return fmt::format("{}:{}", origin, node.Mark().line + 1);
}

std::vector<std::string> texts(const std::string& origin, const std::string& key, const YAML::Node& node) {
  std::vector<std::string> list;
  if (!node.IsDefined() || node.IsNull()) return list;
  if (!node.IsSequence()) fail_usage("{}: \"{}\" must be a list such as [a, b]", place(origin, node), key);
  for (const auto& each : node) {
    if (!each.IsScalar()) fail_usage("{}: \"{}\" must hold plain values", place(origin, each), key);
    list.push_back(each.Scalar());
  }
  return list;
}

constexpr const char* recipe_key = "recipe=";

std::vector<int64_t> read_seeds(const std::string& origin, const YAML::Node& node) {
  std::vector<int64_t> seeds;
  for (const std::string& text : texts(origin, "seeds", node)) {
    int64_t seed = -1;
    if (!YAML::convert<int64_t>::decode(YAML::Node(text), seed) || seed < 0) {
      fail_usage("{}: \"{}\" is no seed; expected whole numbers from 0", place(origin, node), text);
    }
    seeds.push_back(seed);
  }
  if (seeds.empty()) fail_usage("{}: \"seeds\" is empty; expected a list such as [1, 2, 3]", place(origin, node));
  return seeds;
}

bool fit_for_a_folder(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

// section: "defend" or "attack".
std::vector<Variant> read_variants(const std::string& origin, const std::string& key, const std::string& section,
                                   const std::vector<std::string>& known, const YAML::Node& node) {
  if (!node.IsMap() || node.size() == 0) {
    fail_usage("{}: \"{}\" must be a map from names to lists of settings, and not empty", place(origin, node), key);
  }
  std::vector<Variant> variants;
  for (const auto& each : node) {
    Variant variant{each.first.Scalar(), texts(origin, key, each.second)};
    const std::string where = place(origin, each.first);
    if (!fit_for_a_folder(variant.name)) {
      fail_usage("{}: \"{}\" can't name a variant; use lower-case letters, digits, \"-\" and \".\"", where,
                 variant.name);
    }
    const auto same = [&](const Variant& other) { return other.name == variant.name; };
    if (std::any_of(variants.begin(), variants.end(), same)) {
      fail_usage("{}: \"{}\" is there twice", where, variant.name);
    }
    for (const std::string& set : variant.sets) {
      if (!set.starts_with(section + ".") && !set.starts_with(recipe_key)) {
        fail_usage("{}: {} sets \"{}\", but a variant of \"{}\" may change keys of {} alone; put it under \"set\"",
                   where, variant.name, set, key, section);
      }
    }
    const std::string name_key = section + ".name=";
    const bool named = std::any_of(variant.sets.begin(), variant.sets.end(),
                                   [&](const std::string& set) { return set.starts_with(name_key); });
    if (!named && std::find(known.begin(), known.end(), variant.name) != known.end()) {
      variant.sets.insert(variant.sets.begin(), name_key + variant.name);
    }
    variants.push_back(std::move(variant));
  }
  return variants;
}

template <class Entries>
std::vector<std::string> names_of(const Entries& entries) {
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const auto& entry : entries) names.push_back(entry.name);
  return names;
}

// A recipe that a variant takes may change no more than the variant itself may.
void check_changes(const Comparison& comparison, const Variant& variant, const std::string& section,
                   const std::string& origin) {
  const bool is_attack = section == "attack";
  Recipe base = recipe_of(comparison, 0, nullptr, nullptr);
  Recipe changed = recipe_of(comparison, 0, is_attack ? nullptr : &variant, is_attack ? &variant : nullptr);
  const Json before = options_of(base).to_json();
  const Json after = options_of(changed).to_json();
  for (const auto& [key, value] : after.items()) {
    if (key.starts_with(section + ".") || before[key] == value) continue;
    fail_usage("{}: {} changes \"{}\" by its recipe, but it may change keys of {} alone; put that key under \"set\"",
               origin, variant.name, key, section);
  }
}

YAML::Node parse_yaml(const std::string& text, const std::string& origin) {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    fail_usage("{}:{}: not YAML: {}", origin, error.mark.line + 1, error.msg);
  }
}

}  // namespace

Comparison parse_comparison(const std::string& text, const std::string& origin) {
  const YAML::Node root = parse_yaml(text, origin);
  if (!root.IsMap()) fail_usage("{}: expected a map with the keys recipe, set, seeds, defenses and attacks", origin);
  Comparison comparison;
  for (const auto& each : root) {
    const std::string key = each.first.Scalar();
    if (key == "recipe") {
      comparison.recipes = each.second.IsScalar() ? std::vector{each.second.Scalar()} : texts(origin, key, each.second);
    } else if (key == "set") {
      comparison.sets = texts(origin, key, each.second);
    } else if (key == "seeds") {
      comparison.seeds = read_seeds(origin, each.second);
    } else if (key == "defenses") {
      comparison.defenses = read_variants(origin, key, "defend", names_of(defense::known_defenses()), each.second);
    } else if (key == "attacks") {
      comparison.attacks = read_variants(origin, key, "attack", names_of(attack::known_attacks()), each.second);
    } else {
      const std::string near = nearest(key, {"recipe", "set", "seeds", "defenses", "attacks"});
      fail_usage("{}: unknown key \"{}\"{}; expected recipe, set, seeds, defenses or attacks",
                 place(origin, each.first), key, near.empty() ? "" : fmt::format(" (did you mean \"{}\"?)", near));
    }
  }
  if (comparison.defenses.empty()) comparison.defenses = {{no_defense, {}}};
  if (comparison.attacks.empty()) fail_usage("{}: key \"attacks\" is missing", origin);
  for (const Variant& defense : comparison.defenses) check_changes(comparison, defense, "defend", origin);
  for (const Variant& attack : comparison.attacks) check_changes(comparison, attack, "attack", origin);
  return comparison;
}

Recipe recipe_of(const Comparison& comparison, int64_t seed, const Variant* defense, const Variant* attack) {
  Recipe recipe;
  auto options = options_of(recipe);
  for (const std::string& name : comparison.recipes) options.load_yaml(read_recipe(name), name);
  for (const std::string& set : comparison.sets) options.set(set);
  for (const Variant* variant : {defense, attack}) {
    if (variant == nullptr) continue;
    for (const std::string& set : variant->sets) {
      if (set.starts_with(recipe_key)) {
        const std::string name = set.substr(std::string(recipe_key).size());
        options.load_yaml(read_recipe(name), name);
      } else {
        options.set(set);
      }
    }
  }
  recipe.seed = seed;
  if (attack != nullptr) check_recipe(recipe);  // what cells share need not be whole
  return recipe;
}

}  // namespace backburn::run
