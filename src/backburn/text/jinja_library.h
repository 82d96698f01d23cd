#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backburn/text/jinja_value.h"

/// What templates can do with values: operators, filters, tests, methods, functions. As in Python and Jinja2;
/// the same mistakes throw std::invalid_argument (the caller adds file and line) and too much work
/// std::length_error.
namespace backburn::text::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// The argument at `index`, or called `name`; null when not given.
  const Value* get(size_t index, const char* name) const;
};

/// The items that a `for` sees: of a list, a string's characters, a dict's keys; none of Undefined.
std::vector<Value> iterate(const Value& value, Budget& budget);
void put(std::vector<std::pair<Value, Value>>& items, Value key, Value value, Budget& budget);
Value get_attribute(const Value& object, const std::string& name, Budget& budget);
Value get_item(const Value& object, const Value& key, Budget& budget);
Value slice(const Value& object, std::optional<int64_t> from, std::optional<int64_t> to, std::optional<int64_t> step,
            Budget& budget);
Value unary_operation(const std::string& op, const Value& value);
Value binary_operation(const std::string& op, const Value& left, const Value& right, Budget& budget);
/// ==, !=, <, <=, >, >=, in, not in
bool compare(const std::string& op, const Value& left, const Value& right, Budget& budget);
Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget);
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments, Budget& budget);
Value call_method(const Value& self, const std::string& name, const Arguments& arguments, Budget& budget);
/// range, dict, strftime_now
Value call_function(const std::string& name, const Arguments& arguments, Budget& budget);

}  // namespace backburn::text::jinja
