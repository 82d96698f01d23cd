#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "backburn/base/json.h"

namespace backburn {

/// The values that a number may take, both ends included.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};
inline constexpr Range at_least_0{0, std::numeric_limits<double>::infinity()};
inline constexpr Range at_least_1{1, std::numeric_limits<double>::infinity()};
inline constexpr Range share{0, 1};

/// Options by dotted name ("attack.learning_rate"), bound to the fields that hold their values. Recipes (YAML), --set,
/// --help and config.yaml all work from this one list. The fields must outlive it.
class Options {
 public:
  void add(std::string key, bool& field, std::string help);
  void add(std::string key, int64_t& field, std::string help, Range range = {});
  void add(std::string key, double& field, std::string help, Range range = {});
  /// `choices` empty: any text.
  void add(std::string key, std::string& field, std::string help, std::vector<std::string> choices = {});
  void add(std::string key, std::vector<double>& field, std::string help, Range range = {});
  /// May be empty. `choices` empty: any text.
  void add(std::string key, std::vector<std::string>& field, std::string help, std::vector<std::string> choices = {});

  /// Takes the values of a YAML document. Errors (exit code 2) name `origin`, line and key: not YAML, an unknown key
  /// (with the nearest known one), a value of the wrong kind or out of range, a key given twice.
  void load_yaml(std::string_view text, const std::string& origin);

  /// "key=value", as --set gives it; a list is written 1,1.5,2.
  void set(std::string_view assignment);

  /// The current values as YAML, which load_yaml reads back; nested by the dots of the keys, in the order of add().
  std::string to_yaml() const;
  Json to_json() const;

  /// One line an option: key, kind, current value, help. For --help.
  std::string help() const;

  /// Whether there is such a key.
  bool has(std::string_view key) const;

 private:
  struct Option {
    std::string key, kind, help;
    bool is_list;
    std::function<void(const std::vector<std::string>& values, const std::string& where)> assign;
    std::function<Json()> value;
  };
  void append(Option option);
  void check_section(const std::string& section, const std::string& where) const;
  const Option& find(const std::string& key, const std::string& where) const;
  std::vector<Option> options_;
};

/// The nearest of `known` to a misspelt word, or "" when none is near (more than a third of its letters differ).
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace backburn
