#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

/// The values of a Jinja template: Python's None, bool, int, float, str, list, tuple, dict, and what is
/// callable. Values are immutable and cheap to copy; a Namespace alone changes.
namespace backburn::text::jinja {

struct Value;
struct Macro;
struct Loop;

struct Undefined {
  std::string name;  ///< what was looked for
};
struct None {};
using String = std::shared_ptr<const std::string>;
struct ListData {
  std::vector<Value> items;
  bool tuple = false;
  int depth = 1;  ///< lists and dicts inside each other; bounded, so that recursion over values is
};
using List = std::shared_ptr<const ListData>;
struct DictData {
  std::vector<std::pair<Value, Value>> items;  ///< in order of insertion
  int depth = 1;
};
using Dict = std::shared_ptr<const DictData>;
struct NamespaceData {
  std::vector<std::pair<std::string, Value>> items;
};
using Namespace = std::shared_ptr<NamespaceData>;
/// A function, or a method bound to its object.
struct Function {
  std::string name;
  std::shared_ptr<const Value> self;  ///< null for a function
};

struct Value : std::variant<Undefined, None, bool, int64_t, double, String, List, Dict, Namespace, Function,
                            std::shared_ptr<const Macro>, std::shared_ptr<Loop>> {
  using variant::variant;
  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(*this);
  }
  template <typename T>
  const T& as() const {
    return std::get<T>(*this);
  }
  const std::string& text() const { return *as<String>(); }
};

/// What a `for` loop knows of itself.
struct Loop {
  std::vector<Value> items;
  size_t index0 = 0;
  std::vector<Value> changed_before;
  bool changed_called = false;
};

/// Counts the work of one rendering, and ends it when there is too much.
class Budget {
 public:
  void charge(size_t units);  ///< throws std::length_error when spent

 private:
  size_t left_ = 20'000'000;
};

Value string_value(std::string text);
/// Throws std::length_error when nested too deeply.
Value list_value(std::vector<Value> items, bool tuple = false);
Value dict_value(std::vector<std::pair<Value, Value>> items);

/// Python's name of the type: "str", "list", "Undefined", …
std::string type_name(const Value& value);
bool truthy(const Value& value);
bool is_number(const Value& value);  ///< int, float or bool
double number(const Value& value);
bool equal(const Value& left, const Value& right, Budget& budget);
/// Python's str() and repr().
std::string to_text(const Value& value, Budget& budget);
std::string repr(const Value& value, Budget& budget);
/// json.dumps(ensure_ascii=False, indent, sort_keys); indent −1: on one line. Throws std::invalid_argument
/// for values that are not JSON.
std::string to_json(const Value& value, int indent, bool sort_keys, Budget& budget);
/// The value of `key`, or null.
const Value* find(const DictData& dict, const Value& key, Budget& budget);
const Value* find(const NamespaceData& space, std::string_view key);

}  // namespace backburn::text::jinja
