#include "backburn/text/jinja_eval.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ctime>
#include <limits>
#include <optional>
#include <stdexcept>

#include "backburn/base/error.h"
#include "backburn/text/jinja_library.h"

namespace backburn::text::jinja {

struct Macro {
  std::string name;
  const Statement* definition = nullptr;
};

namespace {

constexpr int max_run_depth = 300;  // of statements and expressions inside each other, macros included
constexpr size_t max_output = 16 << 20;

enum class Flow { on, break_loop, continue_loop };

class Renderer {
 public:
  Renderer(const std::string& origin, std::map<std::string, Value> variables) : origin_(origin) {
    for (const char* name : {"namespace", "dict", "range", "raise_exception", "strftime_now"}) {
      variables.emplace(name, Function{name, nullptr});
    }
    scopes_.push_back(std::move(variables));
    scopes_.emplace_back();
  }
  Renderer(const Renderer&) = delete;
  Renderer& operator=(const Renderer&) = delete;
  ~Renderer() {
    // A namespace may hold itself; emptied, none keeps another alive.
    for (const Namespace& space : namespaces_) space->items.clear();
  }

  std::string run(const Block& block) {
    std::string out;
    try {
      execute(block, out);
    } catch (const std::logic_error& error) {  // from jinja_value.cc and jinja_library.cc, which know no line
      fail_here(error.what());
    }
    return out;
  }

 private:
  [[noreturn]] void fail_here(const std::string& what) const { fail("{}:{}: {}.", origin_, line_, what); }

  struct Deeper {
    explicit Deeper(Renderer& owner) : renderer(owner) {
      if (++renderer.depth_ > max_run_depth) renderer.fail_here("nested or recursive too deeply");
    }
    ~Deeper() { --renderer.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Renderer& renderer;
  };

  // ---- variables ----

  Value look_up(const std::string& name) const {
    for (size_t i = scopes_.size(); i-- > 0;) {
      if (i >= 2 && i < first_scope_) continue;  // a macro sees its own scopes and the template's
      const auto found = scopes_[i].find(name);
      if (found != scopes_[i].end()) return found->second;
    }
    return Undefined{name};
  }

  void assign(const Target& target, const Value& value) {
    if (!target.attribute.empty()) {
      const Value space = look_up(target.names[0]);
      if (!space.is<Namespace>())
        fail_here("\"" + target.names[0] + "\" is not a namespace, so nothing can be set in it");
      set_in(*space.as<Namespace>(), target.attribute, value);
    } else if (!target.unpack) {
      scopes_.back()[target.names[0]] = value;
    } else {
      const std::vector<Value> items = iterate(value, budget_);
      if (items.size() != target.names.size()) {
        fail_here(fmt::format("{} values for {} names", items.size(), target.names.size()));
      }
      for (size_t i = 0; i < items.size(); ++i) scopes_.back()[target.names[i]] = items[i];
    }
  }

  static void set_in(NamespaceData& space, const std::string& name, const Value& value) {
    for (auto& [key, item] : space.items) {
      if (key == name) {
        item = value;
        return;
      }
    }
    space.items.emplace_back(name, value);
  }

  // ---- statements ----

  void emit(std::string& out, const std::string& text) {
    budget_.charge(1 + text.size() / 64);
    if (out.size() + text.size() > max_output) fail_here("more than 16 MB of output");
    out += text;
  }

  Flow execute(const Block& block, std::string& out) {
    const Deeper deeper(*this);
    for (const Statement& statement : block) {
      line_ = statement.line;
      budget_.charge(1);
      const Flow flow = execute(statement, out);
      if (flow != Flow::on) return flow;
    }
    return Flow::on;
  }

  Flow execute(const Statement& statement, std::string& out) {
    using Kind = Statement::Kind;
    switch (statement.kind) {
      case Kind::text: emit(out, statement.text); break;
      case Kind::output: emit(out, to_text(evaluate(*statement.expression), budget_)); break;
      case Kind::conditional:
        for (const auto& [condition, body] : statement.branches) {
          if (!condition || truthy(evaluate(*condition))) return execute(body, out);
        }
        break;
      case Kind::loop: return execute_loop(statement, out);
      case Kind::assign: assign(statement.target, evaluate(*statement.expression)); break;
      case Kind::block_set: assign(statement.target, captured(statement)); break;
      case Kind::filter_block: emit(out, to_text(captured(statement), budget_)); break;
      case Kind::macro:
        scopes_.back()[statement.text] = std::make_shared<const Macro>(Macro{statement.text, &statement});
        break;
      case Kind::call_block: {
        const Expression& call = *statement.expression;
        Arguments arguments = arguments_of(call);
        const Value callee = evaluate(*call.children[0]);
        arguments.named.emplace_back("caller", std::make_shared<const Macro>(Macro{"caller", &statement}));
        emit(out, to_text(call_value(callee, arguments), budget_));
        break;
      }
      case Kind::with: {
        std::map<std::string, Value> scope;
        for (const auto& [name, value] : statement.parameters) scope[name] = evaluate(*value);
        const Scope inner(*this, std::move(scope));
        return execute(statement.body, out);
      }
      case Kind::group: return execute(statement.body, out);
      case Kind::break_loop: return Flow::break_loop;
      case Kind::continue_loop: return Flow::continue_loop;
    }
    return Flow::on;
  }

  struct Scope {
    Scope(Renderer& owner, std::map<std::string, Value> variables) : renderer(owner) {
      renderer.scopes_.push_back(std::move(variables));
    }
    ~Scope() { renderer.scopes_.pop_back(); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    Renderer& renderer;
  };

  // The body's output as a value, filtered.
  Value captured(const Statement& statement) {
    std::string text;
    {
      const Scope inner(*this, {});
      execute(statement.body, text);
    }
    Value value = string_value(std::move(text));
    if (statement.expression) {
      const Scope inner(*this, {{"", value}});
      value = evaluate(*statement.expression);
    }
    return value;
  }

  Flow execute_loop(const Statement& statement, std::string& out) {
    std::vector<Value> items = iterate(evaluate(*statement.expression), budget_);
    if (statement.filter) {
      std::vector<Value> kept;
      for (Value& item : items) {
        const Scope inner(*this, {});
        assign(statement.target, item);
        if (truthy(evaluate(*statement.filter))) kept.push_back(std::move(item));
      }
      items = std::move(kept);
    }
    if (items.empty()) {
      const Scope inner(*this, {});
      return execute(statement.otherwise, out);
    }
    auto loop = std::make_shared<Loop>();
    loop->items = std::move(items);
    Flow flow = Flow::on;
    for (size_t i = 0; i < loop->items.size() && flow != Flow::break_loop; ++i) {
      budget_.charge(1);
      loop->index0 = i;
      const Scope inner(*this, {{"loop", loop}});
      assign(statement.target, loop->items[i]);
      flow = execute(statement.body, out);
    }
    loop->changed_before.clear();
    return Flow::on;
  }

  // ---- expressions ----

  Value evaluate(const Expression& e) {
    const Deeper deeper(*this);
    budget_.charge(1);
    line_ = e.line;
    using Kind = Expression::Kind;
    switch (e.kind) {
      case Kind::literal: return e.value;
      case Kind::name: return look_up(e.text);
      case Kind::list:
      case Kind::tuple: return evaluate_list(e);
      case Kind::dict: return evaluate_dict(e);
      case Kind::attribute: return get_attribute(evaluate(*e.children[0]), e.text, budget_);
      case Kind::item: {
        const Value object = evaluate(*e.children[0]);
        return get_item(object, evaluate(*e.children[1]), budget_);
      }
      case Kind::slice: return evaluate_slice(e);
      case Kind::call: {
        const Value callee = evaluate(*e.children[0]);
        return call_value(callee, arguments_of(e));
      }
      case Kind::filter: {
        const Value value = evaluate(*e.children[0]);
        return apply_filter(e.text, value, arguments_of(e), budget_);
      }
      case Kind::test: {
        const Value value = evaluate(*e.children[0]);
        return apply_test(e.text, value, arguments_of(e), budget_);
      }
      case Kind::unary: {
        const Value value = evaluate(*e.children[0]);
        if (e.text == "not") return !truthy(value);
        return unary_operation(e.text, value);
      }
      case Kind::binary: {
        const Value left = evaluate(*e.children[0]);
        return binary_operation(e.text, left, evaluate(*e.children[1]), budget_);
      }
      case Kind::logical: {
        Value left = evaluate(*e.children[0]);
        if (truthy(left) == (e.text == "or")) return left;
        return evaluate(*e.children[1]);
      }
      case Kind::compare: {
        Value left = evaluate(*e.children[0]);
        for (size_t i = 0; i < e.operators.size(); ++i) {
          Value right = evaluate(*e.children[i + 1]);
          if (!compare(e.operators[i], left, right, budget_)) return false;
          left = std::move(right);
        }
        return true;
      }
      case Kind::condition:
        if (truthy(evaluate(*e.children[1]))) return evaluate(*e.children[0]);
        return e.children[2] ? evaluate(*e.children[2]) : Value(Undefined{"the inline if without else"});
    }
    return None{};
  }

  Value evaluate_list(const Expression& e) {
    std::vector<Value> items;
    for (const ExpressionPtr& child : e.children) items.push_back(evaluate(*child));
    return list_value(std::move(items), e.kind == Expression::Kind::tuple);
  }

  Value evaluate_dict(const Expression& e) {
    std::vector<std::pair<Value, Value>> items;
    for (size_t i = 0; i + 1 < e.children.size(); i += 2) {
      Value key = evaluate(*e.children[i]);
      put(items, std::move(key), evaluate(*e.children[i + 1]), budget_);
    }
    return dict_value(std::move(items));
  }

  Value evaluate_slice(const Expression& e) {
    const Value object = evaluate(*e.children[0]);
    std::optional<int64_t> parts[3];
    for (size_t i = 0; i < 3; ++i) {
      if (!e.children[i + 1]) continue;
      const Value part = evaluate(*e.children[i + 1]);
      if (part.is<None>()) continue;
      if (!part.is<int64_t>()) fail_here("a slice needs whole numbers, not " + type_name(part));
      parts[i] = part.as<int64_t>();
    }
    return slice(object, parts[0], parts[1], parts[2], budget_);
  }

  Arguments arguments_of(const Expression& e) {
    Arguments arguments;
    for (size_t i = 1; i < e.children.size(); ++i) arguments.positional.push_back(evaluate(*e.children[i]));
    for (const auto& [name, value] : e.keywords) arguments.named.emplace_back(name, evaluate(*value));
    return arguments;
  }

  Value call_value(const Value& callee, const Arguments& arguments) {
    if (callee.is<std::shared_ptr<const Macro>>()) {
      return call_macro(*callee.as<std::shared_ptr<const Macro>>(), arguments);
    }
    if (callee.is<Undefined>()) fail_here("\"" + callee.as<Undefined>().name + "\" is undefined");
    if (!callee.is<Function>()) fail_here("a value of type " + type_name(callee) + " cannot be called");
    const Function& function = callee.as<Function>();
    if (function.self) return call_method(*function.self, function.name, arguments, budget_);
    if (function.name == "namespace") {
      auto space = std::make_shared<NamespaceData>();
      for (const Value& from : arguments.positional) {
        if (!from.is<Dict>()) fail_here("namespace() takes names and dicts");
        for (const auto& [key, item] : from.as<Dict>()->items) set_in(*space, to_text(key, budget_), item);
      }
      for (const auto& [name, item] : arguments.named) set_in(*space, name, item);
      namespaces_.push_back(space);
      return space;
    }
    if (function.name == "raise_exception") {
      fail_here("the chat template refuses this conversation: " + (arguments.positional.empty()
                                                                       ? std::string("no reason given")
                                                                       : to_text(arguments.positional[0], budget_)));
    }
    return call_function(function.name, arguments, budget_);
  }

  Value call_macro(const Macro& macro, const Arguments& arguments) {
    const Deeper deeper(*this);
    const auto& parameters = macro.definition->parameters;
    const bool is_caller = macro.name == "caller";
    std::map<std::string, Value> scope;
    if (arguments.positional.size() > parameters.size()) {
      fail_here(fmt::format("macro \"{}\" takes at most {} arguments", macro.name, parameters.size()));
    }
    for (size_t i = 0; i < arguments.positional.size(); ++i) scope[parameters[i].first] = arguments.positional[i];
    for (const auto& [name, value] : arguments.named) {
      const bool known = name == "caller" || std::any_of(parameters.begin(), parameters.end(),
                                                         [&](const auto& p) { return p.first == name; });
      if (!known) fail_here(fmt::format("macro \"{}\" has no argument \"{}\"", macro.name, name));
      scope[name] = value;
    }
    const size_t outer = first_scope_;
    // A call block's body sees where it stands; a macro does not see where it is called.
    if (!is_caller) first_scope_ = scopes_.size();
    std::string out;
    {
      const Scope inner(*this, std::move(scope));
      for (const auto& [name, value] : parameters) {
        if (scopes_.back().contains(name)) continue;
        Value given = value ? evaluate(*value) : Value(Undefined{name});
        scopes_.back()[name] = std::move(given);
      }
      execute(macro.definition->body, out);
    }
    first_scope_ = outer;
    return string_value(std::move(out));
  }

  const std::string& origin_;
  std::vector<std::map<std::string, Value>> scopes_;  // [0] given, [1] the template's own, then loops and macros
  size_t first_scope_ = 0;
  std::vector<Namespace> namespaces_;
  Budget budget_;
  size_t line_ = 1;
  int depth_ = 0;
};

}  // namespace

std::string render(const Block& block, const std::string& origin, std::map<std::string, Value> variables) {
  return Renderer(origin, std::move(variables)).run(block);
}

}  // namespace backburn::text::jinja
