#include "backburn/text/jinja_library.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <stdexcept>

#include "backburn/text/utf8.h"

namespace backburn::text::jinja {
namespace {

[[noreturn]] void error(const std::string& what) { throw std::invalid_argument(what); }

[[noreturn]] void undefined_error(const Value& value) { error("\"" + value.as<Undefined>().name + "\" is undefined"); }

void must_be_defined(const Value& value) {
  if (value.is<Undefined>()) undefined_error(value);
}

bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); }

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_step(text, at).length;
    out.push_back(text.substr(at, length));
    at += length;
  }
  return out;
}

// str.strip(): white space when `set` is null; left, right or both sides.
std::string strip(const std::string& text, const std::string* set, bool left, bool right) {
  const std::vector<std::string> chars = characters(text);
  auto drop = [&](const std::string& c) {
    return set ? set->find(c) != std::string::npos : is_python_space(utf8_step(c, 0).code_point);
  };
  size_t begin = 0;
  size_t end = chars.size();
  while (left && begin < end && drop(chars[begin])) ++begin;
  while (right && end > begin && drop(chars[end - 1])) --end;
  std::string out;
  for (size_t i = begin; i < end; ++i) out += chars[i];
  return out;
}

enum class Case { upper, lower, title };
std::string cased(const std::string& text, Case wanted) {
  std::string out;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    const auto c = static_cast<utf8proc_int32_t>(step.code_point);
    const bool up = wanted == Case::upper || (wanted == Case::title && !in_word);
    if (up && c == 0xDF) {
      out += wanted == Case::upper ? "SS" : "Ss";
    } else {
      append_utf8(out, static_cast<char32_t>(up ? utf8proc_toupper(c) : utf8proc_tolower(c)));
    }
    const auto category = utf8proc_category(c);
    in_word = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT;
    at += step.length;
  }
  return out;
}

std::string capitalized(const std::string& text) {
  if (text.empty()) return text;
  const size_t first = utf8_step(text, 0).length;
  return cased(text.substr(0, first), Case::title) + cased(text.substr(first), Case::lower);
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t limit,
                     Budget& budget) {
  std::string out;
  if (from.empty()) {
    for (const std::string& c : characters(text)) {
      if (limit != 0) out += to;
      limit -= limit > 0;
      out += c;
      budget.charge(1 + to.size() / 64);
      if (out.size() > (size_t{16} << 20)) throw std::length_error("text larger than 16 MB");
    }
    return limit != 0 ? out + to : out;
  }
  size_t at = 0;
  while (limit != 0) {
    const size_t found = text.find(from, at);
    if (found == std::string::npos) break;
    out.append(text, at, found - at);
    out += to;
    at = found + from.size();
    limit -= limit > 0;
    budget.charge(1 + to.size() / 64);
    if (out.size() > (size_t{16} << 20)) throw std::length_error("text larger than 16 MB");
  }
  return out.append(text, at);
}

std::vector<Value> split(const std::string& text, const std::string* separator, int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  if (separator != nullptr) {
    if (separator->empty()) error("split() by an empty separator");
    if (from_right) {
      size_t end = text.size();
      while (limit != 0 && end >= separator->size()) {
        const size_t found = text.rfind(*separator, end - separator->size());
        if (found == std::string::npos) break;
        parts.push_back(text.substr(found + separator->size(), end - found - separator->size()));
        end = found;
        limit -= limit > 0;
      }
      parts.push_back(text.substr(0, end));
      std::reverse(parts.begin(), parts.end());
    } else {
      size_t at = 0;
      while (limit != 0) {
        const size_t found = text.find(*separator, at);
        if (found == std::string::npos) break;
        parts.push_back(text.substr(at, found - at));
        at = found + separator->size();
        limit -= limit > 0;
      }
      parts.push_back(text.substr(at));
    }
  } else {
    if (from_right && limit >= 0) error("rsplit() with a limit needs a separator");
    std::string rest = strip(text, nullptr, true, false);
    while (!rest.empty()) {
      if (limit == 0) {
        parts.push_back(strip(rest, nullptr, false, true));
        break;
      }
      size_t end = 0;
      while (end < rest.size() && !is_python_space(utf8_step(rest, end).code_point)) end += utf8_step(rest, end).length;
      parts.push_back(rest.substr(0, end));
      size_t next = end;
      while (next < rest.size() && is_python_space(utf8_step(rest, next).code_point))
        next += utf8_step(rest, next).length;
      rest.erase(0, next);
      limit -= limit > 0;
    }
  }
  std::vector<Value> values;
  for (std::string& part : parts) values.push_back(string_value(std::move(part)));
  return values;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = text.find_first_of("\r\n", at);
    if (end == std::string::npos) {
      lines.push_back(text.substr(at));
      break;
    }
    lines.push_back(text.substr(at, end - at));
    at = end + (text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n' ? 2 : 1);
  }
  return lines;
}

const std::string& string_argument(const Value& value, const char* what) {
  if (!value.is<String>()) error(fmt::format("{} needs a str, not {}", what, type_name(value)));
  return value.text();
}

int64_t integer_argument(const Value& value, const char* what) {
  if (value.is<bool>()) return value.as<bool>() ? 1 : 0;
  if (!value.is<int64_t>()) error(fmt::format("{} needs an int, not {}", what, type_name(value)));
  return value.as<int64_t>();
}

// The integer `value` as one, bool included.
std::optional<int64_t> as_integer(const Value& value) {
  if (value.is<bool>()) return value.as<bool>() ? 1 : 0;
  if (value.is<int64_t>()) return value.as<int64_t>();
  return std::nullopt;
}

int64_t length_of(const Value& value) {
  if (value.is<Undefined>()) return 0;
  if (value.is<String>()) return static_cast<int64_t>(utf8_length(value.text()));
  if (value.is<List>()) return static_cast<int64_t>(value.as<List>()->items.size());
  if (value.is<Dict>()) return static_cast<int64_t>(value.as<Dict>()->items.size());
  error("a value of type " + type_name(value) + " has no length");
}

std::optional<double> parse_number(const std::string& given) {
  std::string text = strip(given, nullptr, true, true);
  if (text.starts_with('+')) text.erase(0, 1);
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_integer(const std::string& given) {
  std::string text = strip(given, nullptr, true, true);
  if (text.starts_with('+')) text.erase(0, 1);
  int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> truncated(double value) {
  if (!(std::abs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

bool less(const Value& left, const Value& right, Budget& budget) {
  budget.charge(1);
  must_be_defined(left);
  must_be_defined(right);
  if (is_number(left) && is_number(right)) {
    if (left.is<int64_t>() && right.is<int64_t>()) return left.as<int64_t>() < right.as<int64_t>();
    return number(left) < number(right);
  }
  if (left.is<String>() && right.is<String>()) {
    budget.charge(std::min(left.text().size(), right.text().size()) / 64);
    return left.text() < right.text();  // UTF-8 sorts as code points do
  }
  if (left.is<List>() && right.is<List>()) {
    const auto& a = left.as<List>()->items;
    const auto& b = right.as<List>()->items;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equal(a[i], b[i], budget)) return less(a[i], b[i], budget);
    }
    return a.size() < b.size();
  }
  error(fmt::format("\"<\" between {} and {}", type_name(left), type_name(right)));
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (container.is<String>()) {
    if (!item.is<String>()) error("\"in\" a str needs a str, not " + type_name(item));
    budget.charge(container.text().size() / 16);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.is<Dict>()) return find(*container.as<Dict>(), item, budget) != nullptr;
  if (container.is<Undefined>()) return false;
  if (!container.is<List>()) error("\"in\" a value of type " + type_name(container));
  for (const Value& one : container.as<List>()->items) {
    if (equal(one, item, budget)) return true;
  }
  return false;
}

// "a.b" and "a.0", as the `attribute` of filters is written.
Value attribute_path(Value value, const Value& path, Budget& budget) {
  if (path.is<int64_t>()) return get_item(value, path, budget);
  for (const Value& part :
       split(string_argument(path, "attribute"), std::make_unique<std::string>(".").get(), -1, false)) {
    const auto index = parse_integer(part.text());
    value = get_item(value, index ? Value(*index) : part, budget);
  }
  return value;
}

void sort_values(std::vector<Value>& items, const Value* attribute, bool reverse, bool case_sensitive, Budget& budget) {
  auto key_of = [&](const Value& item) {
    Value key = attribute ? attribute_path(item, *attribute, budget) : item;
    if (!case_sensitive && key.is<String>()) key = string_value(cased(key.text(), Case::lower));
    return key;
  };
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) {
    Value key = key_of(item);
    keyed.emplace_back(std::move(key), std::move(item));
  }
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first, budget) : less(a.first, b.first, budget);
  });
  for (size_t i = 0; i < items.size(); ++i) items[i] = std::move(keyed[i].second);
}

// select, reject, selectattr, rejectattr
Value selected(const Value& value, const Arguments& arguments, bool by_attribute, bool wanted, Budget& budget) {
  size_t first = 0;
  const Value* attribute = nullptr;
  if (by_attribute) {
    if (arguments.positional.empty()) error("selectattr and rejectattr need the name of an attribute");
    attribute = &arguments.positional[0];
    first = 1;
  }
  Arguments rest;
  std::string test;
  if (arguments.positional.size() > first) {
    test = string_argument(arguments.positional[first], "a test's name");
    rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(first) + 1,
                           arguments.positional.end());
  }
  std::vector<Value> kept;
  for (const Value& item : iterate(value, budget)) {
    const Value tested = attribute ? attribute_path(item, *attribute, budget) : item;
    const bool passes = test.empty() ? truthy(tested) : apply_test(test, tested, rest, budget);
    if (passes == wanted) kept.push_back(item);
  }
  return list_value(std::move(kept));
}

Value mapped(const Value& value, const Arguments& arguments, Budget& budget) {
  std::vector<Value> items;
  const Value* attribute = arguments.get(99, "attribute");
  const Value* otherwise = arguments.get(99, "default");
  for (const Value& item : iterate(value, budget)) {
    if (attribute != nullptr) {
      Value found = attribute_path(item, *attribute, budget);
      if (found.is<Undefined>() && otherwise != nullptr) found = *otherwise;
      items.push_back(std::move(found));
    } else {
      if (arguments.positional.empty()) error("map needs a filter or attribute=");
      Arguments rest;
      rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
      rest.named = arguments.named;
      items.push_back(apply_filter(string_argument(arguments.positional[0], "a filter's name"), item, rest, budget));
    }
  }
  return list_value(std::move(items));
}

std::string indented(const std::string& text, const Arguments& arguments, Budget& budget) {
  const Value* width = arguments.get(0, "width");
  const Value* first = arguments.get(1, "first");
  const Value* blank = arguments.get(2, "blank");
  std::string margin(4, ' ');
  if (width != nullptr && width->is<String>()) {
    margin = width->text();
  } else if (width != nullptr) {
    const int64_t count = integer_argument(*width, "indent");
    if (count > 10000) error("indent by more than 10000");
    margin.assign(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
  }
  std::vector<std::string> lines = lines_of(text + "\n");
  std::string out = first != nullptr && truthy(*first) ? margin : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    budget.charge(1 + margin.size() / 16);
    if (i > 0) {
      out += '\n';
      if (!lines[i].empty() || (blank != nullptr && truthy(*blank))) out += margin;
    }
    out += lines[i];
    if (out.size() > (size_t{16} << 20)) throw std::length_error("text larger than 16 MB");
  }
  return out;
}

std::string joined(const Value& value, const std::string& between, const Value* attribute, Budget& budget) {
  std::string out;
  bool first = true;
  for (const Value& item : iterate(value, budget)) {
    if (!first) out += between;
    first = false;
    out += to_text(attribute ? attribute_path(item, *attribute, budget) : item, budget);
    budget.charge(1 + between.size() / 64);
    if (out.size() > (size_t{16} << 20)) throw std::length_error("text larger than 16 MB");
  }
  return out;
}

// "%s of %d" % values
std::string percent_formatted(const std::string& format, const std::vector<Value>& values, Budget& budget) {
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const char kind = ++i < format.size() ? format[i] : ' ';
    if (kind == '%') {
      out += '%';
      continue;
    }
    if (std::string_view("sdr").find(kind) == std::string_view::npos) error("only %s, %d, %r and %% can be formatted");
    if (used >= values.size()) error("not enough values to format");
    const Value& value = values[used++];
    if (kind == 'd') {
      const auto whole =
          is_number(value) ? (value.is<double>() ? truncated(value.as<double>()) : as_integer(value)) : std::nullopt;
      if (!whole) error("%d needs a number, not " + type_name(value));
      out += std::to_string(*whole);
    } else {
      out += kind == 's' ? to_text(value, budget) : repr(value, budget);
    }
    if (out.size() > (size_t{16} << 20)) throw std::length_error("text larger than 16 MB");
  }
  if (used != values.size()) error("not all values are used by the format");
  return out;
}

// "{} {0} {name}".format(…)
std::string brace_formatted(const std::string& format, const Arguments& arguments, Budget& budget) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if ((c == '{' || c == '}') && i + 1 < format.size() && format[i + 1] == c) {
      out += c;
      ++i;
      continue;
    }
    if (c == '}') error("a \"}\" alone in a format");
    if (c != '{') {
      out += c;
      continue;
    }
    const size_t end = format.find('}', i);
    if (end == std::string::npos) error("a \"{\" without \"}\" in a format");
    const std::string name = format.substr(i + 1, end - i - 1);
    i = end;
    const auto index = name.empty() ? std::optional<int64_t>(static_cast<int64_t>(next++)) : parse_integer(name);
    const Value* value = nullptr;
    if (index) {
      if (*index >= 0 && static_cast<size_t>(*index) < arguments.positional.size()) {
        value = &arguments.positional[static_cast<size_t>(*index)];
      }
    } else {
      value = arguments.get(size_t{1} << 30, name.c_str());
    }
    if (value == nullptr) error("format() has no value for \"{" + name + "}\", or it is not supported");
    out += to_text(*value, budget);
    if (out.size() > (size_t{16} << 20)) throw std::length_error("text larger than 16 MB");
  }
  return out;
}

std::string html_escaped(const std::string& text, Budget& budget) {
  std::string out = replaced(text, "&", "&amp;", -1, budget);
  out = replaced(out, ">", "&gt;", -1, budget);
  out = replaced(out, "<", "&lt;", -1, budget);
  out = replaced(out, "'", "&#39;", -1, budget);
  return replaced(out, "\"", "&#34;", -1, budget);
}

bool all_characters(const std::string& text, bool (*passes)(char32_t)) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    if (!passes(step.code_point)) return false;
    at += step.length;
  }
  return !text.empty();
}

const char* const string_methods[] = {
    "strip",   "lstrip",  "rstrip",     "split",   "rsplit",  "splitlines", "startswith",   "endswith",     "upper",
    "lower",   "title",   "capitalize", "replace", "join",    "find",       "rfind",        "count",        "format",
    "isdigit", "isalpha", "isalnum",    "isspace", "isupper", "islower",    "removeprefix", "removesuffix", "index"};
const char* const dict_methods[] = {"get", "items", "keys", "values", "copy"};
const char* const list_methods[] = {"index", "count", "copy"};
const char* const changing_methods[] = {"append", "extend",  "insert", "pop",        "remove", "clear",
                                        "sort",   "reverse", "update", "setdefault", "popitem"};

template <size_t N>
bool is_one_of(const std::string& name, const char* const (&names)[N]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Value method(const Value& self, const std::string& name) { return Function{name, std::make_shared<const Value>(self)}; }

Value loop_attribute(const Loop& loop, const std::shared_ptr<Loop>& self, const std::string& name) {
  const auto index0 = static_cast<int64_t>(loop.index0);
  const auto length = static_cast<int64_t>(loop.items.size());
  if (name == "index0") return index0;
  if (name == "index") return index0 + 1;
  if (name == "revindex0") return length - index0 - 1;
  if (name == "revindex") return length - index0;
  if (name == "first") return index0 == 0;
  if (name == "last") return index0 + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return int64_t{1};  // Jinja counts recursive loops only
  if (name == "depth0") return int64_t{0};
  if (name == "previtem") return index0 > 0 ? loop.items[loop.index0 - 1] : Value(Undefined{"loop.previtem"});
  if (name == "nextitem") return index0 + 1 < length ? loop.items[loop.index0 + 1] : Value(Undefined{"loop.nextitem"});
  if (name == "cycle" || name == "changed") return method(self, name);
  return Undefined{"loop." + name};
}

}  // namespace

const Value* Arguments::get(size_t index, const char* name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::vector<Value> iterate(const Value& value, Budget& budget) {
  std::vector<Value> items;
  if (value.is<List>()) {
    items = value.as<List>()->items;
  } else if (value.is<String>()) {
    for (std::string& c : characters(value.text())) items.push_back(string_value(std::move(c)));
  } else if (value.is<Dict>()) {
    for (const auto& [key, item] : value.as<Dict>()->items) items.push_back(key);
  } else if (value.is<std::shared_ptr<Loop>>()) {
    items = value.as<std::shared_ptr<Loop>>()->items;
  } else if (!value.is<Undefined>()) {
    error("a value of type " + type_name(value) + " cannot be looped over");
  }
  budget.charge(items.size());
  return items;
}

void put(std::vector<std::pair<Value, Value>>& items, Value key, Value value, Budget& budget) {
  if (key.is<Dict>() || (key.is<List>() && !key.as<List>()->tuple)) {
    error("a " + type_name(key) + " cannot be the key of a dict");
  }
  for (auto& [known, item] : items) {
    if (equal(known, key, budget)) {
      item = std::move(value);
      return;
    }
  }
  items.emplace_back(std::move(key), std::move(value));
}

Value get_attribute(const Value& object, const std::string& name, Budget& budget) {
  must_be_defined(object);
  if (object.is<Namespace>()) {
    const Value* found = find(*object.as<Namespace>(), name);
    return found ? *found : Value(Undefined{name});
  }
  if (object.is<std::shared_ptr<Loop>>()) {
    return loop_attribute(*object.as<std::shared_ptr<Loop>>(), object.as<std::shared_ptr<Loop>>(), name);
  }
  if (object.is<String>() && is_one_of(name, string_methods)) return method(object, name);
  if (object.is<List>() && is_one_of(name, list_methods)) return method(object, name);
  if (object.is<Dict>() && is_one_of(name, dict_methods)) return method(object, name);
  if ((object.is<List>() || object.is<Dict>()) && is_one_of(name, changing_methods)) {
    const bool is_key = object.is<Dict>() && find(*object.as<Dict>(), string_value(name), budget) != nullptr;
    const bool of_dict =
        name == "update" || name == "setdefault" || name == "popitem" || name == "pop" || name == "clear";
    const bool of_list = name != "update" && name != "setdefault" && name != "popitem";
    if (!is_key && (object.is<Dict>() ? of_dict : of_list)) return method(object, name);
  }
  if (object.is<Dict>()) {
    const Value* found = find(*object.as<Dict>(), string_value(name), budget);
    if (found != nullptr) return *found;
  }
  return Undefined{type_name(object) + "." + name};
}

Value get_item(const Value& object, const Value& key, Budget& budget) {
  must_be_defined(object);
  const std::string missing = key.is<String>() ? key.text() : repr(key, budget);
  if (object.is<Dict>()) {
    const Value* found = find(*object.as<Dict>(), key, budget);
    if (found != nullptr) return *found;
  } else if (const auto index = as_integer(key); index && (object.is<List>() || object.is<String>())) {
    const int64_t length = length_of(object);
    if (object.is<String>()) budget.charge(object.text().size() / 16);
    const int64_t at = *index < 0 ? *index + length : *index;
    if (at < 0 || at >= length) return Undefined{type_name(object) + "[" + missing + "]"};
    if (object.is<List>()) return object.as<List>()->items[static_cast<size_t>(at)];
    return string_value(characters(object.text())[static_cast<size_t>(at)]);
  }
  if (key.is<String>()) return get_attribute(object, key.text(), budget);
  return Undefined{type_name(object) + "[" + missing + "]"};
}

Value slice(const Value& object, std::optional<int64_t> from, std::optional<int64_t> to, std::optional<int64_t> step,
            Budget& budget) {
  must_be_defined(object);
  const bool is_string = object.is<String>();
  if (!is_string && !object.is<List>()) error("a value of type " + type_name(object) + " cannot be sliced");
  const std::vector<Value> items = iterate(object, budget);
  const auto length = static_cast<int64_t>(items.size());
  if (step == 0) error("a slice with step 0");
  const int64_t by = std::clamp<int64_t>(step.value_or(1), -length - 1, length + 1);
  auto bound = [&](std::optional<int64_t> given, int64_t otherwise) {
    if (!given) return otherwise;
    int64_t at = *given < 0 ? std::max<int64_t>(*given, -length - 1) + length : *given;
    return by > 0 ? std::clamp<int64_t>(at, 0, length) : std::clamp<int64_t>(at, -1, length - 1);
  };
  const int64_t first = bound(from, by > 0 ? 0 : length - 1);
  const int64_t last = bound(to, by > 0 ? length : -1);
  std::vector<Value> taken;
  for (int64_t at = first; by > 0 ? at < last : at > last; at += by) taken.push_back(items[static_cast<size_t>(at)]);
  if (!is_string) return list_value(std::move(taken), object.as<List>()->tuple);
  std::string text;
  for (const Value& c : taken) text += c.text();
  return string_value(std::move(text));
}

Value unary_operation(const std::string& op, const Value& value) {
  must_be_defined(value);
  if (!is_number(value)) error("\"" + op + "\" before a value of type " + type_name(value));
  if (value.is<double>()) return op == "-" ? -value.as<double>() : value.as<double>();
  const int64_t whole = *as_integer(value);
  if (op != "-") return whole;
  if (whole == INT64_MIN) error("a number too large");
  return -whole;
}

Value binary_operation(const std::string& op, const Value& left, const Value& right, Budget& budget) {
  if (op == "~") {
    std::string text = to_text(left, budget);
    text += to_text(right, budget);
    budget.charge(text.size() / 64);
    return string_value(std::move(text));
  }
  must_be_defined(left);
  must_be_defined(right);
  const auto a = as_integer(left);
  const auto b = as_integer(right);
  if (op == "+") {
    if (left.is<String>() && right.is<String>()) {
      budget.charge((left.text().size() + right.text().size()) / 64);
      return string_value(left.text() + right.text());
    }
    if (left.is<List>() && right.is<List>() && left.as<List>()->tuple == right.as<List>()->tuple) {
      std::vector<Value> items = iterate(left, budget);
      const std::vector<Value> more = iterate(right, budget);
      items.insert(items.end(), more.begin(), more.end());
      return list_value(std::move(items), left.as<List>()->tuple);
    }
  }
  if (op == "*" && ((b && (left.is<String>() || left.is<List>())) || (a && (right.is<String>() || right.is<List>())))) {
    const Value& sequence = b ? left : right;
    const auto times = static_cast<uint64_t>(std::max<int64_t>(b ? *b : *a, 0));
    const uint64_t size = sequence.is<String>() ? sequence.text().size() : sequence.as<List>()->items.size();
    if (size > 0 && times > (uint64_t{16} << 20) / size) throw std::length_error("a value repeated too often");
    budget.charge(static_cast<size_t>(size * times / (sequence.is<String>() ? 64 : 1)));
    if (sequence.is<String>()) {
      std::string text;
      for (uint64_t i = 0; size > 0 && i < times; ++i) text += sequence.text();
      return string_value(std::move(text));
    }
    std::vector<Value> items;
    const auto& once = sequence.as<List>()->items;
    for (uint64_t i = 0; size > 0 && i < times; ++i) items.insert(items.end(), once.begin(), once.end());
    return list_value(std::move(items), sequence.as<List>()->tuple);
  }
  if (op == "%" && left.is<String>()) {
    const bool several = right.is<List>() && right.as<List>()->tuple;
    return string_value(
        percent_formatted(left.text(), several ? right.as<List>()->items : std::vector<Value>{right}, budget));
  }
  if (!is_number(left) || !is_number(right)) {
    error(fmt::format("\"{}\" between {} and {}", op, type_name(left), type_name(right)));
  }
  if ((op == "/" || op == "//" || op == "%") && number(right) == 0) error("division by zero");
  if (a && b && op != "/" && !(op == "**" && *b < 0)) {
    int64_t result = 0;
    bool overflow = false;
    if (op == "+") {
      overflow = __builtin_add_overflow(*a, *b, &result);
    } else if (op == "-") {
      overflow = __builtin_sub_overflow(*a, *b, &result);
    } else if (op == "*") {
      overflow = __builtin_mul_overflow(*a, *b, &result);
    } else if (op == "**") {
      result = 1;
      if (*b > 64 && *a != 0 && *a != 1 && *a != -1) error("a number too large");
      const int64_t times = *b > 64 ? 64 + *b % 2 : *b;
      for (int64_t i = 0; i < times && !overflow; ++i) overflow = __builtin_mul_overflow(result, *a, &result);
    } else if (*b == -1) {
      overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, *a, &result);
    } else {
      const int64_t remainder = *a % *b;
      const bool down = remainder != 0 && (remainder < 0) != (*b < 0);
      result = op == "//" ? *a / *b - down : remainder + (down ? *b : 0);
    }
    if (overflow) error("a number too large");
    return result;
  }
  const double x = number(left);
  const double y = number(right);
  if (op == "+") return x + y;
  if (op == "-") return x - y;
  if (op == "*") return x * y;
  if (op == "/") return x / y;
  if (op == "//") return std::floor(x / y);
  if (op == "**") return std::pow(x, y);
  const double remainder = std::fmod(x, y);
  return remainder != 0 && (remainder < 0) != (y < 0) ? remainder + y : remainder;
}

bool compare(const std::string& op, const Value& left, const Value& right, Budget& budget) {
  if (op == "==") return equal(left, right, budget);
  if (op == "!=") return !equal(left, right, budget);
  if (op == "in") return contains(right, left, budget);
  if (op == "not in") return !contains(right, left, budget);
  if (op == "<") return less(left, right, budget);
  if (op == ">") return less(right, left, budget);
  if (op == "<=") return !less(right, left, budget) || equal(left, right, budget);
  return !less(left, right, budget) || equal(left, right, budget);
}

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget) {
  auto argument = [&]() -> const Value& {
    if (arguments.positional.empty()) error("the test \"" + name + "\" needs a value to compare with");
    return arguments.positional[0];
  };
  auto whole = [&](const Value& given) { return integer_argument(given, name.c_str()); };
  if (name == "defined") return !value.is<Undefined>();
  if (name == "undefined") return value.is<Undefined>();
  if (name == "none") return value.is<None>();
  if (name == "string") return value.is<String>();
  if (name == "mapping") return value.is<Dict>();
  if (name == "sequence") return value.is<List>() || value.is<String>() || value.is<Dict>() || value.is<Undefined>();
  if (name == "iterable") {
    return value.is<List>() || value.is<String>() || value.is<Dict>() || value.is<Undefined>() ||
           value.is<std::shared_ptr<Loop>>();
  }
  if (name == "number") return is_number(value);
  if (name == "integer") return value.is<int64_t>();
  if (name == "float") return value.is<double>();
  if (name == "boolean") return value.is<bool>();
  if (name == "true") return value.is<bool>() && value.as<bool>();
  if (name == "false") return value.is<bool>() && !value.as<bool>();
  if (name == "callable") {
    return value.is<Function>() || value.is<std::shared_ptr<const Macro>>();
  }
  if (name == "in") return contains(argument(), value, budget);
  if (name == "eq" || name == "equalto") return equal(value, argument(), budget);
  if (name == "==") return equal(value, argument(), budget);
  if (name == "ne" || name == "!=") return !equal(value, argument(), budget);
  if (name == "lt" || name == "lessthan" || name == "<") return compare("<", value, argument(), budget);
  if (name == "le" || name == "<=") return compare("<=", value, argument(), budget);
  if (name == "gt" || name == "greaterthan" || name == ">") return compare(">", value, argument(), budget);
  if (name == "ge" || name == ">=") return compare(">=", value, argument(), budget);
  if (name == "sameas") return value.index() == argument().index() && equal(value, argument(), budget);
  if (name == "odd") return whole(value) % 2 != 0;
  if (name == "even") return whole(value) % 2 == 0;
  if (name == "divisibleby") {
    const int64_t by = whole(argument());
    if (by == 0) error("division by zero");
    return by == -1 || whole(value) % by == 0;
  }
  if (name == "upper" || name == "lower") {
    const std::string text = to_text(value, budget);
    const std::string up = cased(text, Case::upper);
    const std::string down = cased(text, Case::lower);
    return up != down && text == (name == "upper" ? up : down);
  }
  error("the test \"" + name + "\" is not known");
}

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget) {
  auto text = [&] { return to_text(value, budget); };
  budget.charge(value.is<String>() ? 1 + value.text().size() / 32 : 1);
  if (name == "default" || name == "d") {
    const Value* otherwise = arguments.get(0, "default_value");
    const Value* boolean = arguments.get(1, "boolean");
    const bool replace = value.is<Undefined>() || (boolean != nullptr && truthy(*boolean) && !truthy(value));
    return !replace ? value : otherwise ? *otherwise : string_value("");
  }
  if (name == "trim") {
    const Value* set = arguments.get(0, "chars");
    return string_value(strip(text(), set && set->is<String>() ? &set->text() : nullptr, true, true));
  }
  if (name == "length" || name == "count") return length_of(value);
  if (name == "upper") return string_value(cased(text(), Case::upper));
  if (name == "lower") return string_value(cased(text(), Case::lower));
  if (name == "title") return string_value(cased(text(), Case::title));
  if (name == "capitalize") return string_value(capitalized(text()));
  if (name == "string") return string_value(text());
  if (name == "safe") return string_value(text());
  if (name == "escape" || name == "e") return string_value(html_escaped(text(), budget));
  if (name == "join") {
    const Value* between = arguments.get(0, "d");
    return string_value(joined(value, between ? to_text(*between, budget) : "", arguments.get(1, "attribute"), budget));
  }
  if (name == "replace") {
    const Value* from = arguments.get(0, "old");
    const Value* to = arguments.get(1, "new");
    const Value* limit = arguments.get(2, "count");
    if (from == nullptr || to == nullptr) error("replace needs what to replace and by what");
    return string_value(replaced(text(), to_text(*from, budget), to_text(*to, budget),
                                 limit && !limit->is<None>() ? integer_argument(*limit, "replace") : -1, budget));
  }
  if (name == "tojson") {
    const Value* indent = arguments.get(99, "indent");
    const Value* sort_keys = arguments.get(99, "sort_keys");
    for (const auto& [key, given] : arguments.named) {
      if (key != "indent" && key != "sort_keys" && key != "ensure_ascii") {
        error("tojson with \"" + key + "\" is not supported");
      }
      if (key == "ensure_ascii" && truthy(given)) error("tojson with ensure_ascii is not supported");
    }
    int64_t spaces = -1;
    if (!arguments.positional.empty()) error("tojson takes its options by name");
    if (indent != nullptr && !indent->is<None>())
      spaces = std::clamp<int64_t>(integer_argument(*indent, "tojson"), 0, 1000);
    return string_value(to_json(value, static_cast<int>(spaces), sort_keys != nullptr && truthy(*sort_keys), budget));
  }
  if (name == "indent") return string_value(indented(text(), arguments, budget));
  if (name == "first" || name == "last") {
    const std::vector<Value> items = iterate(value, budget);
    if (items.empty()) return Undefined{"the " + name + " of nothing"};
    return name == "first" ? items.front() : items.back();
  }
  if (name == "list") return list_value(iterate(value, budget));
  if (name == "reverse") {
    std::vector<Value> items = iterate(value, budget);
    std::reverse(items.begin(), items.end());
    if (!value.is<String>()) return list_value(std::move(items));
    std::string out;
    for (const Value& c : items) out += c.text();
    return string_value(std::move(out));
  }
  if (name == "map") return mapped(value, arguments, budget);
  if (name == "select") return selected(value, arguments, false, true, budget);
  if (name == "reject") return selected(value, arguments, false, false, budget);
  if (name == "selectattr") return selected(value, arguments, true, true, budget);
  if (name == "rejectattr") return selected(value, arguments, true, false, budget);
  if (name == "items" || name == "dictsort") {
    std::vector<Value> pairs;
    if (!value.is<Undefined>()) {
      if (!value.is<Dict>()) error(name + " needs a dict, not " + type_name(value));
      for (const auto& [key, item] : value.as<Dict>()->items) pairs.push_back(list_value({key, item}, true));
    }
    if (name == "dictsort") {
      const Value key = int64_t{0};
      sort_values(pairs, &key, false, false, budget);
    }
    return list_value(std::move(pairs));
  }
  if (name == "sort") {
    std::vector<Value> items = iterate(value, budget);
    const Value* reverse = arguments.get(0, "reverse");
    const Value* case_sensitive = arguments.get(1, "case_sensitive");
    sort_values(items, arguments.get(2, "attribute"), reverse && truthy(*reverse),
                case_sensitive && truthy(*case_sensitive), budget);
    return list_value(std::move(items));
  }
  if (name == "unique") {
    std::vector<Value> kept;
    std::vector<Value> seen;
    for (const Value& item : iterate(value, budget)) {
      const Value key = item.is<String>() ? string_value(cased(item.text(), Case::lower)) : item;
      if (std::any_of(seen.begin(), seen.end(), [&](const Value& other) { return equal(key, other, budget); }))
        continue;
      seen.push_back(key);
      kept.push_back(item);
    }
    return list_value(std::move(kept));
  }
  if (name == "min" || name == "max") {
    const std::vector<Value> items = iterate(value, budget);
    if (items.empty()) return Undefined{"the " + name + " of nothing"};
    Value best = items[0];
    for (const Value& item : items) {
      if (name == "min" ? less(item, best, budget) : less(best, item, budget)) best = item;
    }
    return best;
  }
  if (name == "sum") {
    Value total = int64_t{0};
    const Value* attribute = arguments.get(0, "attribute");
    for (const Value& item : iterate(value, budget)) {
      total = binary_operation("+", total, attribute ? attribute_path(item, *attribute, budget) : item, budget);
    }
    return total;
  }
  if (name == "abs") {
    must_be_defined(value);
    if (!is_number(value)) error("abs needs a number, not " + type_name(value));
    return number(value) < 0 ? unary_operation("-", value) : value;
  }
  if (name == "round") {
    must_be_defined(value);
    const Value* digits = arguments.get(0, "precision");
    if (!is_number(value)) error("round needs a number, not " + type_name(value));
    const int64_t places = std::clamp<int64_t>(digits ? integer_argument(*digits, "round") : 0, 0, 15);
    return std::stod(fmt::format("{:.{}f}", number(value), static_cast<int>(places)));
  }
  if (name == "int" || name == "float") {
    must_be_defined(value);
    const Value* otherwise = arguments.get(0, "default");
    const bool whole = name == "int";
    if (is_number(value)) {
      if (!whole) return number(value);
      if (!value.is<double>()) return *as_integer(value);
      if (const auto cut = truncated(value.as<double>())) return *cut;
    } else if (value.is<String>()) {
      if (whole) {
        if (const auto parsed = parse_integer(value.text())) return *parsed;
      }
      if (const auto parsed = parse_number(value.text())) {
        if (!whole) return *parsed;
        if (const auto cut = truncated(*parsed)) return *cut;
      }
    }
    return otherwise ? *otherwise : whole ? Value(int64_t{0}) : Value(0.0);
  }
  if (name == "wordcount") return static_cast<int64_t>(split(text(), nullptr, -1, false).size());
  if (name == "format") return string_value(percent_formatted(text(), arguments.positional, budget));
  if (name == "attr") {
    if (arguments.positional.empty()) error("attr needs a name");
    return get_attribute(value, string_argument(arguments.positional[0], "attr"), budget);
  }
  error("the filter \"" + name + "\" is not known");
}

Value call_method(const Value& self, const std::string& name, const Arguments& arguments, Budget& budget) {
  const auto& given = arguments.positional;
  auto text = [&](size_t i) -> const std::string& {
    if (i >= given.size()) error(name + "() lacks an argument");
    return string_argument(given[i], name.c_str());
  };
  if (is_one_of(name, changing_methods)) {
    error(name + "() would change a " + type_name(self) + ", which templates must not");
  }
  if (self.is<std::shared_ptr<Loop>>()) {
    Loop& loop = *self.as<std::shared_ptr<Loop>>();
    if (name == "cycle") {
      if (given.empty()) error("cycle() needs values");
      return given[loop.index0 % given.size()];
    }
    const bool changed = !loop.changed_called || !equal(list_value(loop.changed_before), list_value(given), budget);
    loop.changed_called = true;
    loop.changed_before = given;
    return changed;
  }
  if (self.is<Dict>()) {
    const DictData& dict = *self.as<Dict>();
    if (name == "get") {
      if (given.empty()) error("get() lacks an argument");
      const Value* found = find(dict, given[0], budget);
      const Value* otherwise = arguments.get(1, "default");
      return found ? *found : otherwise ? *otherwise : Value(None{});
    }
    if (name == "copy") return self;
    std::vector<Value> items;
    for (const auto& [key, item] : dict.items) {
      items.push_back(name == "items" ? list_value({key, item}, true) : name == "keys" ? key : item);
    }
    budget.charge(items.size());
    return list_value(std::move(items));
  }
  if (self.is<List>()) {
    if (name == "copy") return self;
    if (given.empty()) error(name + "() lacks an argument");
    int64_t count = 0;
    const auto& items = self.as<List>()->items;
    for (size_t i = 0; i < items.size(); ++i) {
      if (!equal(items[i], given[0], budget)) continue;
      if (name == "index") return static_cast<int64_t>(i);
      ++count;
    }
    if (name == "index") error("index(): the value is not in the list");
    return count;
  }
  const std::string& string = self.text();
  budget.charge(1 + string.size() / 16);
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const bool set = !given.empty() && !given[0].is<None>();
    return string_value(strip(string, set ? &text(0) : nullptr, name != "rstrip", name != "lstrip"));
  }
  if (name == "split" || name == "rsplit") {
    const Value* separator = arguments.get(0, "sep");
    const Value* limit = arguments.get(1, "maxsplit");
    const std::string* by =
        separator == nullptr || separator->is<None>() ? nullptr : &string_argument(*separator, "split()");
    std::vector<Value> parts = split(string, by, limit ? integer_argument(*limit, "split()") : -1, name == "rsplit");
    budget.charge(parts.size());
    return list_value(std::move(parts));
  }
  if (name == "splitlines") {
    std::vector<Value> lines;
    for (std::string& line : lines_of(string)) lines.push_back(string_value(std::move(line)));
    return list_value(std::move(lines));
  }
  if (name == "startswith" || name == "endswith") {
    if (given.empty()) error(name + "() lacks an argument");
    const bool several = given[0].is<List>() && given[0].as<List>()->tuple;
    for (const Value& one : several ? given[0].as<List>()->items : std::vector<Value>{given[0]}) {
      const std::string& part = string_argument(one, name.c_str());
      if (name == "startswith" ? string.starts_with(part) : string.ends_with(part)) return true;
    }
    return false;
  }
  if (name == "upper") return string_value(cased(string, Case::upper));
  if (name == "lower") return string_value(cased(string, Case::lower));
  if (name == "title") return string_value(cased(string, Case::title));
  if (name == "capitalize") return string_value(capitalized(string));
  if (name == "replace") {
    const int64_t limit = given.size() > 2 ? integer_argument(given[2], "replace()") : -1;
    return string_value(replaced(string, text(0), text(1), limit, budget));
  }
  if (name == "join") {
    if (given.empty()) error("join() lacks an argument");
    for (const Value& item : iterate(given[0], budget)) string_argument(item, "join()");
    return string_value(joined(given[0], string, nullptr, budget));
  }
  if (name == "find" || name == "rfind" || name == "index") {
    const size_t at = name == "rfind" ? string.rfind(text(0)) : string.find(text(0));
    if (at == std::string::npos && name == "index") error("index(): the text is not found");
    return at == std::string::npos ? int64_t{-1}
                                   : static_cast<int64_t>(utf8_length(std::string_view(string).substr(0, at)));
  }
  if (name == "count") {
    const std::string& part = text(0);
    if (part.empty()) return length_of(self) + 1;
    int64_t count = 0;
    for (size_t at = string.find(part); at != std::string::npos; at = string.find(part, at + part.size())) ++count;
    return count;
  }
  if (name == "format") return string_value(brace_formatted(string, arguments, budget));
  if (name == "removeprefix") return string_value(string.starts_with(text(0)) ? string.substr(text(0).size()) : string);
  if (name == "removesuffix") {
    return string_value(string.ends_with(text(0)) ? string.substr(0, string.size() - text(0).size()) : string);
  }
  if (name == "isspace") return all_characters(string, is_python_space);
  if (name == "isdigit") {
    return all_characters(
        string, [](char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_ND; });
  }
  if (name == "isalpha" || name == "isalnum") {
    const auto letter = [](char32_t c) {
      const auto kind = utf8proc_category(static_cast<utf8proc_int32_t>(c));
      return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
    };
    const auto letter_or_number = [](char32_t c) {
      const auto kind = utf8proc_category(static_cast<utf8proc_int32_t>(c));
      return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO) ||
             (kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO);
    };
    return name == "isalpha" ? all_characters(string, letter) : all_characters(string, letter_or_number);
  }
  if (name == "isupper" || name == "islower") {
    return apply_test(name == "isupper" ? "upper" : "lower", self, {}, budget);
  }
  error("the method \"" + name + "\" is not known");
}

Value call_function(const std::string& name, const Arguments& arguments, Budget& budget) {
  const auto& given = arguments.positional;
  if (name == "range") {
    if (given.empty() || given.size() > 3) error("range() takes 1 to 3 numbers");
    int64_t numbers[3] = {0, 0, 1};
    for (size_t i = 0; i < given.size(); ++i)
      numbers[given.size() == 1 ? 1 : i] = integer_argument(given[i], "range()");
    const auto [from, to, by] = numbers;
    if (by == 0) error("range() with step 0");
    std::vector<Value> items;
    for (int64_t at = from; by > 0 ? at < to : at > to;) {
      items.emplace_back(at);
      // The sandbox of Jinja2 has the same limit.
      if (items.size() > 100'000) throw std::length_error("a range of more than 100000 numbers");
      if (__builtin_add_overflow(at, by, &at)) break;
    }
    budget.charge(items.size());
    return list_value(std::move(items));
  }
  if (name == "dict") {
    std::vector<std::pair<Value, Value>> items;
    if (!given.empty()) {
      if (!given[0].is<Dict>()) error("dict() takes names and a dict");
      items = given[0].as<Dict>()->items;
    }
    for (const auto& [key, value] : arguments.named) put(items, string_value(key), value, budget);
    return dict_value(std::move(items));
  }
  if (name == "strftime_now") {
    if (given.empty()) error("strftime_now() lacks a format");
    const std::string& format = string_argument(given[0], "strftime_now()");
    if (format.size() > 1000) error("strftime_now() with a format of more than 1000 bytes");
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    std::string out(format.size() * 20 + 256, '\0');
    out.resize(std::strftime(out.data(), out.size(), format.c_str(), &local));
    return string_value(repaired_utf8(out));
  }
  error("the function \"" + name + "\" is not known");
}

}  // namespace backburn::text::jinja
