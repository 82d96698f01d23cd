#include "backburn/base/options.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

#include "backburn/base/error.h"

namespace backburn {
namespace {

int64_t parse_integer(const std::string& text, const std::string& where) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail_usage("{}: \"{}\" is not a whole number", where, text);
  }
  return value;
}

double parse_number(const std::string& text, const std::string& where) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    fail_usage("{}: \"{}\" is not a number", where, text);
  }
  return value;
}

void check_range(double value, Range range, const std::string& where) {
  if (value >= range.low && value <= range.high) return;
  if (std::isinf(range.high)) fail_usage("{}: {} is too small, it must be at least {}", where, value, range.low);
  if (std::isinf(range.low)) fail_usage("{}: {} is too large, it must be at most {}", where, value, range.high);
  fail_usage("{}: {} is out of range, it must be between {} and {}", where, value, range.low, range.high);
}

void check_choice(const std::string& value, const std::vector<std::string>& choices, const std::string& where) {
  if (choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  fail_usage("{}: \"{}\" is none of {}", where, value, fmt::join(choices, ", "));
}

size_t edit_distance(std::string_view left, std::string_view right) {
  std::vector<size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= left.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= right.size(); ++j) {
      const size_t substituted = diagonal + (left[i - 1] == right[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
    }
  }
  return row.back();
}

std::string yaml_scalar(const Json& value) {
  if (!value.is_string()) return value.dump();
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << value.get<std::string>();
  return emitter.c_str();
}

using Visit =
    std::function<void(const std::string& key, const std::vector<std::string>& values, bool is_list, int line)>;
using Enter = std::function<void(const std::string& section, int line)>;

// Calls `enter` at each section and `visit` at each value. What `enter` lets through bounds the recursion: YAML's
// aliases can make a small file endless.
void visit_leaves(const YAML::Node& node, const std::string& prefix, const std::string& origin, const Enter& enter,
                  const Visit& visit) {
  std::set<std::string> seen;
  for (const auto& pair : node) {
    const int line = pair.first.Mark().line + 1;
    if (!pair.first.IsScalar()) fail_usage("{}:{}: a key must be plain text", origin, line);
    const std::string key = prefix + pair.first.Scalar();
    if (!seen.insert(key).second) fail_usage("{}:{}: {} is given twice", origin, line, key);
    const YAML::Node& value = pair.second;
    if (value.IsMap()) {
      enter(key, line);
      visit_leaves(value, key + ".", origin, enter, visit);
    } else if (value.IsSequence()) {
      std::vector<std::string> items;
      for (const auto& item : value) {
        if (!item.IsScalar()) fail_usage("{}:{}: {} must be a list of plain values", origin, line, key);
        items.push_back(item.Scalar());
      }
      visit(key, items, true, line);
    } else if (value.IsScalar()) {
      visit(key, {value.Scalar()}, false, line);
    } else {
      fail_usage("{}:{}: {} has no value", origin, line, key);
    }
  }
}

// The values of a list in YAML's brackets, or between commas.
std::vector<std::string> list_values(const std::string& text, const std::string& where) {
  std::vector<std::string> values;
  if (text.starts_with('[')) {
    try {
      for (const auto& item : YAML::Load(text)) {
        if (!item.IsScalar()) fail_usage("{}: {} must be a list of plain values", where, text);
        values.push_back(item.Scalar());
      }
    } catch (const YAML::Exception& error) {
      fail_usage("{}: {} is no list ({})", where, text, error.msg);
    }
    return values;
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return values;
}

[[noreturn]] void fail_unknown(const std::string& key, const std::string& hint, const std::string& where) {
  fail_usage("{}: unknown key \"{}\"{}", where, key,
             hint.empty() ? "; --help lists the keys" : fmt::format("; did you mean \"{}\"?", hint));
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& each : known) {
    const size_t distance = edit_distance(word, each);
    if (distance < best_distance) {
      best_distance = distance;
      best = each;
    }
  }
  return best;
}

void Options::append(Option option) {
  if (has(option.key)) throw std::logic_error("option added twice: " + option.key);
  options_.push_back(std::move(option));
}

bool Options::has(std::string_view key) const {
  return std::any_of(options_.begin(), options_.end(), [&](const Option& option) { return option.key == key; });
}

void Options::add(std::string key, bool& field, std::string help) {
  append({std::move(key), "true|false", std::move(help), false,
          [&field](const std::vector<std::string>& values, const std::string& where) {
            if (values[0] != "true" && values[0] != "false") {
              fail_usage("{}: \"{}\" is neither true nor false", where, values[0]);
            }
            field = values[0] == "true";
          },
          [&field] { return Json(field); }});
}

void Options::add(std::string key, int64_t& field, std::string help, Range range) {
  append({std::move(key), "integer", std::move(help), false,
          [&field, range](const std::vector<std::string>& values, const std::string& where) {
            const int64_t value = parse_integer(values[0], where);
            check_range(static_cast<double>(value), range, where);
            field = value;
          },
          [&field] { return Json(field); }});
}

void Options::add(std::string key, double& field, std::string help, Range range) {
  append({std::move(key), "number", std::move(help), false,
          [&field, range](const std::vector<std::string>& values, const std::string& where) {
            const double value = parse_number(values[0], where);
            check_range(value, range, where);
            field = value;
          },
          [&field] { return Json(field); }});
}

void Options::add(std::string key, std::string& field, std::string help, std::vector<std::string> choices) {
  const std::string kind = choices.empty() ? "text" : fmt::format("{}", fmt::join(choices, "|"));
  append({std::move(key), kind, std::move(help), false,
          [&field, choices](const std::vector<std::string>& values, const std::string& where) {
            check_choice(values[0], choices, where);
            field = values[0];
          },
          [&field] { return Json(field); }});
}

void Options::add(std::string key, std::vector<double>& field, std::string help, Range range) {
  append({std::move(key), "numbers", std::move(help), true,
          [&field, range](const std::vector<std::string>& values, const std::string& where) {
            std::vector<double> parsed;
            for (const std::string& value : values) {
              parsed.push_back(parse_number(value, where));
              check_range(parsed.back(), range, where);
            }
            if (parsed.empty()) fail_usage("{}: the list is empty", where);
            field = parsed;
          },
          [&field] { return Json(field); }});
}

void Options::add(std::string key, std::vector<std::string>& field, std::string help,
                  std::vector<std::string> choices) {
  const std::string kind = choices.empty() ? "texts" : fmt::format("list of {}", fmt::join(choices, "|"));
  append({std::move(key), kind, std::move(help), true,
          [&field, choices](const std::vector<std::string>& values, const std::string& where) {
            field.clear();
            if (values.size() == 1 && values[0].empty()) return;  // --set key=
            for (const std::string& value : values) check_choice(value, choices, where);
            field = values;
          },
          [&field] { return Json(field); }});
}

void Options::check_section(const std::string& section, const std::string& where) const {
  std::vector<std::string> known;
  for (const Option& option : options_) {
    for (size_t dot = option.key.find('.'); dot != std::string::npos; dot = option.key.find('.', dot + 1)) {
      known.push_back(option.key.substr(0, dot));
      if (known.back() == section) return;
    }
  }
  fail_unknown(section, nearest(section, known), where);
}

const Options::Option& Options::find(const std::string& key, const std::string& where) const {
  std::vector<std::string> known;
  for (const Option& option : options_) {
    if (option.key == key) return option;
    known.push_back(option.key);
  }
  std::string hint = nearest(key, known);
  // "attack.learning_rte" is nearest by letters; "learning_rate" is meant with its section.
  for (const std::string& each : known) {
    if (hint.empty() && each.ends_with("." + key)) hint = each;
  }
  fail_unknown(key, hint, where);
}

void Options::load_yaml(std::string_view text, const std::string& origin) {
  YAML::Node document;
  try {
    document = YAML::Load(std::string(text));
  } catch (const YAML::Exception& error) {
    fail_usage("{}:{}: not YAML ({})", origin, error.mark.line + 1, error.msg);
  }
  if (document.IsNull()) return;
  if (!document.IsMap()) fail_usage("{}:1: a recipe is a list of \"key: value\" lines", origin);
  const auto enter = [&](const std::string& section, int line) {
    check_section(section, fmt::format("{}:{}", origin, line));
  };
  visit_leaves(document, "", origin, enter, [&](const std::string& key, const auto& values, bool is_list, int line) {
    const std::string where = fmt::format("{}:{}", origin, line);
    const Option& option = find(key, where);
    const std::string named = fmt::format("{}: {}", where, key);
    if (is_list && !option.is_list) fail_usage("{} takes one value, not a list", named);
    option.assign(values, named);
  });
}

void Options::set(std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    fail_usage("--set {}: expected key=value", assignment);
  }
  const std::string key(assignment.substr(0, equals));
  const std::string value(assignment.substr(equals + 1));
  const Option& option = find(key, "--set");
  const std::string where = "--set " + key;
  option.assign(option.is_list ? list_values(value, where) : std::vector{value}, where);
}

std::string Options::to_yaml() const {
  std::string text;
  std::vector<std::string> open;
  for (const Option& option : options_) {
    std::vector<std::string> path;
    for (size_t begin = 0; begin <= option.key.size();) {
      const size_t end = std::min(option.key.find('.', begin), option.key.size());
      path.push_back(option.key.substr(begin, end - begin));
      begin = end + 1;
    }
    size_t shared = 0;
    while (shared + 1 < path.size() && shared < open.size() && open[shared] == path[shared]) ++shared;
    open.assign(path.begin(), path.end() - 1);
    for (size_t depth = shared; depth + 1 < path.size(); ++depth) {
      text += fmt::format("{:{}}{}:\n", "", 2 * depth, path[depth]);
    }
    text += fmt::format("{:{}}{}: {}\n", "", 2 * (path.size() - 1), path.back(), yaml_scalar(option.value()));
  }
  return text;
}

Json Options::to_json() const {
  Json json = Json::object();
  for (const Option& option : options_) json[option.key] = option.value();
  return json;
}

std::string Options::help() const {
  std::string text;
  for (const Option& option : options_) {
    text +=
        fmt::format("  {} ({}; default {})\n      {}\n", option.key, option.kind, option.value().dump(), option.help);
  }
  return text;
}

}  // namespace backburn
