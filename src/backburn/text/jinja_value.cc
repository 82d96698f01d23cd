#include "backburn/text/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "backburn/text/utf8.h"

namespace backburn::text::jinja {
namespace {

constexpr int max_value_depth = 100;
constexpr size_t max_string = 16 << 20;

int depth_of(const Value& value) {
  if (value.is<List>()) return value.as<List>()->depth;
  if (value.is<Dict>()) return value.as<Dict>()->depth;
  return 0;
}

// Python's repr(float): the fewest digits that read back as the same number.
std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto scientific = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, scientific.ptr);
  const int exponent = std::stoi(text.substr(text.find('e') + 1));
  if (exponent < -4 || exponent >= 16) return text;
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string plain(buffer, fixed.ptr);
  if (plain.find('.') == std::string::npos) plain += ".0";
  return plain;
}

std::string string_repr(const std::string& text) {
  const char quote = text.find('\'') != std::string::npos && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (byte < 0x20) {
          out += fmt::format("\\u{:04x}", byte);
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

void write_json(const Value& value, int indent, int level, bool sort_keys, Budget& budget, std::string& out) {
  budget.charge(1);
  auto new_line = [&](int deep) {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent) * static_cast<size_t>(deep), ' ');
    budget.charge(static_cast<size_t>(indent) * static_cast<size_t>(deep) / 16);
  };
  if (value.is<None>()) {
    out += "null";
  } else if (value.is<bool>()) {
    out += value.as<bool>() ? "true" : "false";
  } else if (value.is<int64_t>()) {
    out += std::to_string(value.as<int64_t>());
  } else if (value.is<double>()) {
    const double real = value.as<double>();
    out += std::isnan(real) ? "NaN" : std::isinf(real) ? (real < 0 ? "-Infinity" : "Infinity") : float_repr(real);
  } else if (value.is<String>()) {
    budget.charge(value.text().size() / 16);
    out += json_string(value.text());
  } else if (value.is<List>()) {
    const auto& items = value.as<List>()->items;
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += indent < 0 ? ", " : ",";
      new_line(level + 1);
      write_json(items[i], indent, level + 1, sort_keys, budget, out);
    }
    if (!items.empty()) new_line(level);
    out += ']';
  } else if (value.is<Dict>()) {
    std::vector<std::pair<std::string, const Value*>> entries;
    for (const auto& [key, item] : value.as<Dict>()->items) {
      if (key.is<String>()) {
        entries.emplace_back(key.text(), &item);
      } else if (key.is<None>() || key.is<bool>() || is_number(key)) {
        std::string name;
        write_json(key, -1, 0, false, budget, name);
        entries.emplace_back(name, &item);
      } else {
        throw std::invalid_argument("keys must be str, int, float, bool or None, not " + type_name(key));
      }
    }
    if (sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    out += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out += indent < 0 ? ", " : ",";
      new_line(level + 1);
      out += json_string(entries[i].first) + ": ";
      write_json(*entries[i].second, indent, level + 1, sort_keys, budget, out);
    }
    if (!entries.empty()) new_line(level);
    out += '}';
  } else {
    throw std::invalid_argument("a value of type " + type_name(value) + " is not JSON");
  }
  if (out.size() > max_string) throw std::length_error("text larger than 16 MB");
}

}  // namespace

void Budget::charge(size_t units) {
  if (units > left_) throw std::length_error("too much work for a chat template");
  left_ -= units;
}

Value string_value(std::string text) {
  if (text.size() > max_string) throw std::length_error("text larger than 16 MB");
  return std::make_shared<const std::string>(std::move(text));
}

Value list_value(std::vector<Value> items, bool tuple) {
  ListData data{std::move(items), tuple, 1};
  for (const Value& item : data.items) data.depth = std::max(data.depth, 1 + depth_of(item));
  if (data.depth > max_value_depth) throw std::length_error("lists nested deeper than 100");
  return std::make_shared<const ListData>(std::move(data));
}

Value dict_value(std::vector<std::pair<Value, Value>> items) {
  DictData data{std::move(items), 1};
  for (const auto& [key, item] : data.items) {
    data.depth = std::max({data.depth, 1 + depth_of(item), 1 + depth_of(key)});
  }
  if (data.depth > max_value_depth) throw std::length_error("dicts nested deeper than 100");
  return std::make_shared<const DictData>(std::move(data));
}

std::string type_name(const Value& value) {
  if (value.is<Undefined>()) return "Undefined";
  if (value.is<None>()) return "NoneType";
  if (value.is<bool>()) return "bool";
  if (value.is<int64_t>()) return "int";
  if (value.is<double>()) return "float";
  if (value.is<String>()) return "str";
  if (value.is<List>()) return value.as<List>()->tuple ? "tuple" : "list";
  if (value.is<Dict>()) return "dict";
  if (value.is<Namespace>()) return "Namespace";
  if (value.is<std::shared_ptr<const Macro>>()) return "Macro";
  if (value.is<std::shared_ptr<Loop>>()) return "LoopContext";
  return "function";
}

bool truthy(const Value& value) {
  if (value.is<Undefined>() || value.is<None>()) return false;
  if (value.is<bool>()) return value.as<bool>();
  if (value.is<int64_t>()) return value.as<int64_t>() != 0;
  if (value.is<double>()) return value.as<double>() != 0;
  if (value.is<String>()) return !value.text().empty();
  if (value.is<List>()) return !value.as<List>()->items.empty();
  if (value.is<Dict>()) return !value.as<Dict>()->items.empty();
  return true;
}

bool is_number(const Value& value) { return value.is<bool>() || value.is<int64_t>() || value.is<double>(); }

double number(const Value& value) {
  if (value.is<bool>()) return value.as<bool>() ? 1 : 0;
  if (value.is<int64_t>()) return static_cast<double>(value.as<int64_t>());
  return value.as<double>();
}

bool equal(const Value& left, const Value& right, Budget& budget) {
  budget.charge(1);
  if (is_number(left) && is_number(right)) {
    if (left.is<int64_t>() && right.is<int64_t>()) return left.as<int64_t>() == right.as<int64_t>();
    return number(left) == number(right);
  }
  if (left.index() != right.index()) return false;
  if (left.is<Undefined>() || left.is<None>()) return true;
  if (left.is<String>()) {
    budget.charge(std::min(left.text().size(), right.text().size()) / 64);
    return left.text() == right.text();
  }
  if (left.is<List>()) {
    const ListData& a = *left.as<List>();
    const ListData& b = *right.as<List>();
    if (a.items.size() != b.items.size() || a.tuple != b.tuple) return false;
    for (size_t i = 0; i < a.items.size(); ++i) {
      if (!equal(a.items[i], b.items[i], budget)) return false;
    }
    return true;
  }
  if (left.is<Dict>()) {
    const DictData& a = *left.as<Dict>();
    const DictData& b = *right.as<Dict>();
    if (a.items.size() != b.items.size()) return false;
    for (const auto& [key, item] : a.items) {
      const Value* other = find(b, key, budget);
      if (other == nullptr || !equal(item, *other, budget)) return false;
    }
    return true;
  }
  if (left.is<Namespace>()) return left.as<Namespace>() == right.as<Namespace>();
  return false;
}

std::string to_text(const Value& value, Budget& budget) {
  if (value.is<String>()) {
    budget.charge(value.text().size() / 64);
    return value.text();
  }
  if (value.is<Undefined>()) return "";
  return repr(value, budget);
}

std::string repr(const Value& value, Budget& budget) {
  budget.charge(1);
  std::string out;
  if (value.is<Undefined>()) {
    out = "Undefined";
  } else if (value.is<None>()) {
    out = "None";
  } else if (value.is<bool>()) {
    out = value.as<bool>() ? "True" : "False";
  } else if (value.is<int64_t>()) {
    out = std::to_string(value.as<int64_t>());
  } else if (value.is<double>()) {
    out = float_repr(value.as<double>());
  } else if (value.is<String>()) {
    budget.charge(value.text().size() / 16);
    out = string_repr(value.text());
  } else if (value.is<List>()) {
    const ListData& list = *value.as<List>();
    out = list.tuple ? "(" : "[";
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) out += ", ";
      out += repr(list.items[i], budget);
    }
    if (list.tuple && list.items.size() == 1) out += ',';
    out += list.tuple ? ')' : ']';
  } else if (value.is<Dict>()) {
    const DictData& dict = *value.as<Dict>();
    out = "{";
    for (size_t i = 0; i < dict.items.size(); ++i) {
      if (i > 0) out += ", ";
      out += repr(dict.items[i].first, budget);
      out += ": ";
      out += repr(dict.items[i].second, budget);
    }
    out += '}';
  } else {
    out = fmt::format("<{}>", type_name(value));
  }
  budget.charge(out.size() / 64);
  if (out.size() > max_string) throw std::length_error("text larger than 16 MB");
  return out;
}

std::string to_json(const Value& value, int indent, bool sort_keys, Budget& budget) {
  std::string out;
  write_json(value, indent, 0, sort_keys, budget, out);
  return out;
}

const Value* find(const DictData& dict, const Value& key, Budget& budget) {
  for (const auto& [name, item] : dict.items) {
    if (equal(name, key, budget)) return &item;
  }
  return nullptr;
}

const Value* find(const NamespaceData& space, std::string_view key) {
  for (const auto& [name, item] : space.items) {
    if (name == key) return &item;
  }
  return nullptr;
}

}  // namespace backburn::text::jinja
