#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backburn/text/jinja_value.h"

/// The syntax tree of a Jinja template.
namespace backburn::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    literal,    // value
    name,       // text
    list,       // children
    tuple,      // children
    dict,       // children: key, value, key, value, …
    attribute,  // children[0] . text
    item,       // children[0] [ children[1] ]
    slice,      // children[0] [ children[1] : children[2] : children[3] ], each of the last three may be null
    call,       // children[0] ( children[1…], keywords )
    filter,     // children[0] | text ( children[1…], keywords )
    test,       // children[0] is text ( children[1…], keywords )
    unary,      // text ("-", "+", "not") children[0]
    binary,     // children[0] text children[1]
    logical,    // "and" or "or"
    compare,    // children[0] operators[0] children[1] operators[1] children[2] …
    condition,  // children: then, if, else (may be null)
  };
  Kind kind = Kind::literal;
  size_t line = 0;
  int depth = 1;
  std::string text;
  Value value;
  std::vector<ExpressionPtr> children;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  std::vector<std::string> operators;
};

struct Statement;
using Block = std::vector<Statement>;

/// What is assigned to: names, or one attribute of a namespace ("ns.x").
struct Target {
  std::vector<std::string> names;
  bool unpack = false;    // "a, b"
  std::string attribute;  // of names[0]
};

struct Statement {
  enum class Kind {
    text,          // text
    output,        // expression
    conditional,   // branches; body of the last may have no condition
    loop,          // target, expression, filter, body, otherwise, recursive
    assign,        // target, expression
    block_set,     // target, body, filters: expression applied to the name "" (may be null)
    macro,         // text, parameters, body
    call_block,    // expression (a call), parameters, body
    filter_block,  // expression applied to the name "", body
    with,          // assignments: parameters with defaults; body
    group,         // body ("generation")
    break_loop,
    continue_loop,
  };
  Kind kind = Kind::text;
  size_t line = 0;
  std::string text;
  Target target;
  ExpressionPtr expression;
  ExpressionPtr filter;
  Block body;
  Block otherwise;
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;
};

/// Errors name `origin` and line.
Block parse_template(const std::string& source, const std::string& origin);

}  // namespace backburn::text::jinja
