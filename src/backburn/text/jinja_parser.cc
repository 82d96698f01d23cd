#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "backburn/base/error.h"
#include "backburn/text/jinja_syntax.h"
#include "backburn/text/utf8.h"

namespace backburn::text::jinja {
namespace {

constexpr int max_depth = 120;
constexpr size_t max_source = 4 << 20;

struct Token {
  enum class Kind { text, output_begin, output_end, block_begin, block_end, name, string, integer, real, op, end };
  Kind kind = Kind::end;
  std::string text;
  size_t line = 0;
};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

// Cuts a template into tokens, white space control done: trim_blocks and lstrip_blocks as Transformers sets
// them.
class Lexer {
 public:
  Lexer(std::string source, const std::string& origin) : source_(std::move(source)), origin_(origin) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) template_text();
    push(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& what) const { fail("{}:{}: {}.", origin_, line_, what); }

  bool here(std::string_view text) const { return std::string_view(source_).substr(at_).starts_with(text); }

  void push(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(size_t count) {
    for (size_t i = 0; i < count; ++i) line_ += source_[at_ + i] == '\n';
    if (count > 0) line_start_ = source_[at_ + count - 1] == '\n';
    at_ += count;
  }

  void skip_space() {
    size_t end = at_;
    while (end < source_.size()) {
      const Utf8Step step = utf8_step(source_, end);
      if (!is_white_space(step.code_point) && !(step.code_point >= 0x1C && step.code_point <= 0x1F)) break;
      end += step.length;
    }
    advance(end - at_);
  }

  // The text up to the tag at `end`, cut as the tag's sign ('-', '+' or none) wants it.
  std::string text_before(size_t end, char sign, bool block) const {
    std::string text = source_.substr(at_, end - at_);
    if (sign == '-') {
      size_t keep = text.size();
      while (keep > 0) {
        size_t last = keep - 1;
        while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
        const char32_t c = utf8_step(text, last).code_point;
        if (!is_white_space(c) && !(c >= 0x1C && c <= 0x1F)) break;
        keep = last;
      }
      text.resize(keep);
    } else if (sign != '+' && block) {
      const size_t newline = text.rfind('\n');
      const size_t line_begin = newline == std::string::npos ? 0 : newline + 1;
      if ((newline != std::string::npos || line_start_) &&
          std::all_of(text.begin() + static_cast<std::ptrdiff_t>(line_begin), text.end(), is_space)) {
        text.resize(line_begin);
      }
    }
    return text;
  }

  char sign_at(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : ' ';
  }

  // After "%}", "-%}" or "#}": what follows is trimmed.
  void close(std::string_view end) {
    if (here(end)) {
      advance(end.size());
      if (at_ < source_.size() && source_[at_] == '\n') advance(1);
    } else {
      const bool minus = source_[at_] == '-';
      advance(1 + end.size());
      if (minus) skip_space();
    }
  }

  bool at_close(std::string_view end) const {
    return here(end) || ((here("-") || here("+")) && std::string_view(source_).substr(at_ + 1).starts_with(end));
  }

  void template_text() {
    size_t tag = at_;
    do {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        push(Token::Kind::text, source_.substr(at_));
        advance(source_.size() - at_);
        return;
      }
      if (source_[tag + 1] == '{' || source_[tag + 1] == '%' || source_[tag + 1] == '#') break;
      ++tag;
    } while (true);
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    const std::string text = text_before(tag, sign, kind != '{');
    if (!text.empty()) push(Token::Kind::text, text);
    advance(tag - at_ + 2 + (sign != ' '));
    if (kind == '#') {
      const size_t end = source_.find("#}", at_);
      if (end == std::string::npos) error("a comment has no end \"#}\"");
      const bool signed_end = end > at_ && (source_[end - 1] == '-' || source_[end - 1] == '+');
      advance(end - at_ - (signed_end ? 1 : 0));
      close("#}");
    } else if (kind == '%') {
      if (!raw_block()) code(Token::Kind::block_begin, Token::Kind::block_end, "%}");
    } else {
      code(Token::Kind::output_begin, Token::Kind::output_end, "}}");
    }
  }

  // {% raw %} … {% endraw %}; false when the tag is another.
  bool raw_block() {
    size_t at = at_;
    auto spaces = [&] {
      while (at < source_.size() && is_space(source_[at])) ++at;
    };
    spaces();
    if (source_.compare(at, 3, "raw") != 0) return false;
    at += 3;
    spaces();
    const bool minus = at < source_.size() && source_[at] == '-';
    at += minus;
    if (source_.compare(at, 2, "%}") != 0) return false;
    advance(at + 2 - at_);
    if (minus) skip_space();
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 1)) {
      const char sign = sign_at(tag + 2);
      at = tag + 2 + (sign != ' ');
      spaces();
      if (source_.compare(at, 6, "endraw") != 0) continue;
      at += 6;
      spaces();
      const char end_sign = sign_at(at);
      if (source_.compare(at + (end_sign != ' '), 2, "%}") != 0) continue;
      push(Token::Kind::text, text_before(tag, sign, true));
      advance(at - at_);
      close("%}");
      return true;
    }
    error("\"raw\" has no \"endraw\"");
  }

  void code(Token::Kind begin, Token::Kind end, std::string_view closing) {
    push(begin, "");
    std::string open;  // brackets: "}}" inside a dict closes dicts, not the tag
    while (true) {
      while (at_ < source_.size() && is_space(source_[at_])) advance(1);
      if (at_ >= source_.size()) error(fmt::format("the tag has no end \"{}\"", closing));
      if (open.empty() && at_close(closing)) {
        push(end, "");
        if (closing == "%}") {
          close(closing);
        } else {
          const bool minus = source_[at_] == '-';
          advance(closing.size() + (source_[at_] == '-' || source_[at_] == '+'));
          if (minus) skip_space();
        }
        return;
      }
      const char c = source_[at_];
      if (is_name_start(c)) {
        size_t stop = at_;
        while (stop < source_.size() && (is_name_start(source_[stop]) || is_digit(source_[stop]))) ++stop;
        push(Token::Kind::name, source_.substr(at_, stop - at_));
        advance(stop - at_);
      } else if (is_digit(c)) {
        number();
      } else if (c == '"' || c == '\'') {
        string(c);
      } else {
        op(open);
      }
    }
  }

  void number() {
    size_t stop = at_;
    auto digits = [&] {
      while (stop < source_.size() && (is_digit(source_[stop]) || source_[stop] == '_')) ++stop;
    };
    digits();
    bool real = false;
    if (stop + 1 < source_.size() && source_[stop] == '.' && is_digit(source_[stop + 1])) {
      real = true;
      ++stop;
      digits();
    }
    if (stop < source_.size() && (source_[stop] == 'e' || source_[stop] == 'E')) {
      size_t exponent = stop + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
      if (exponent < source_.size() && is_digit(source_[exponent])) {
        real = true;
        stop = exponent;
        digits();
      }
    }
    std::string text = source_.substr(at_, stop - at_);
    std::erase(text, '_');
    push(real ? Token::Kind::real : Token::Kind::integer, text);
    advance(stop - at_);
  }

  void string(char quote) {
    const size_t first_line = line_;
    size_t at = at_ + 1;
    std::string text;
    auto hex = [&](size_t digits) {
      char32_t code_point = 0;
      for (size_t i = 0; i < digits; ++i) {
        ++at;
        const char c = at < source_.size() ? source_[at] : ' ';
        const int digit = is_digit(c)            ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) error("a \\x, \\u or \\U in a string lacks digits");
        code_point = code_point << 4 | static_cast<char32_t>(digit);
      }
      if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) {
        error("a \\u or \\U in a string is no character");
      }
      append_utf8(text, code_point);
    };
    while (true) {
      if (at >= source_.size()) error("a string has no end");
      const char c = source_[at];
      if (c == quote) break;
      if (c != '\\') {
        text += c;
        ++at;
        continue;
      }
      ++at;
      if (at >= source_.size()) error("a string has no end");
      switch (source_[at]) {
        case 'n': text += '\n'; break;
        case 't': text += '\t'; break;
        case 'r': text += '\r'; break;
        case 'a': text += '\a'; break;
        case 'b': text += '\b'; break;
        case 'f': text += '\f'; break;
        case 'v': text += '\v'; break;
        case '0': text += '\0'; break;
        case '\n': break;
        case '\\':
        case '\'':
        case '"': text += source_[at]; break;
        case 'x': hex(2); break;
        case 'u': hex(4); break;
        case 'U': hex(8); break;
        default: text += '\\'; text += source_[at];
      }
      ++at;
    }
    advance(at + 1 - at_);
    tokens_.push_back({Token::Kind::string, std::move(text), first_line});
  }

  void op(std::string& open) {
    for (const char* two : {"==", "!=", ">=", "<=", "//", "**"}) {
      if (here(two)) {
        push(Token::Kind::op, two);
        advance(2);
        return;
      }
    }
    const char c = source_[at_];
    if (std::string_view("+-*/%~<>=.,:|()[]{}").find(c) == std::string_view::npos) {
      error(fmt::format("unexpected character \"{}\"", repaired_utf8(std::string(1, c))));
    }
    if (c == '(' || c == '[' || c == '{') open += c;
    if (c == ')' || c == ']' || c == '}') {
      const char wanted = c == ')' ? '(' : c == ']' ? '[' : '{';
      if (open.empty() || open.back() != wanted) error(fmt::format("\"{}\" closes nothing", c));
      open.pop_back();
    }
    push(Token::Kind::op, std::string(1, c));
    advance(1);
  }

  std::string source_;
  const std::string& origin_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  size_t line_ = 1;
  bool line_start_ = true;
};

// Recursive descent; precedence as in Jinja's own grammar.
class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& origin) : tokens_(std::move(tokens)), origin_(origin) {}

  Block run() {
    Block block = body({});
    if (now().kind != Token::Kind::end) error("unexpected end tag");
    return block;
  }

 private:
  using Kind = Expression::Kind;

  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void step() { at_ = std::min(at_ + 1, tokens_.size() - 1); }
  [[noreturn]] void error(const std::string& what) const {
    const Token& token = now();
    const std::string found = token.kind == Token::Kind::end         ? "the end of the template"
                              : token.kind == Token::Kind::block_end ? "\"%}\""
                              : token.kind == Token::Kind::output_end
                                  ? "\"}}\""
                                  : fmt::format("\"{}\"", repaired_utf8(token.text.substr(0, 40)));
    fail("{}:{}: {}, at {}.", origin_, token.line, what, found);
  }
  bool is_op(std::string_view text) const { return now().kind == Token::Kind::op && now().text == text; }
  bool is_name(std::string_view text) const { return now().kind == Token::Kind::name && now().text == text; }
  bool take_op(std::string_view text) {
    if (!is_op(text)) return false;
    step();
    return true;
  }
  bool take_name(std::string_view text) {
    if (!is_name(text)) return false;
    step();
    return true;
  }
  void expect_op(std::string_view text) {
    if (!take_op(text)) error(fmt::format("expected \"{}\"", text));
  }
  std::string expect_name() {
    if (now().kind != Token::Kind::name) error("expected a name");
    std::string name = now().text;
    step();
    return name;
  }
  void expect_block_end() {
    if (now().kind != Token::Kind::block_end) error("expected \"%}\"");
    step();
  }

  struct Deeper {
    explicit Deeper(Parser& owner) : parser(owner) {
      if (++parser.depth_ > max_depth) parser.error("nested too deeply");
    }
    ~Deeper() { --parser.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;
    Parser& parser;
  };

  ExpressionPtr make(Kind kind, std::vector<ExpressionPtr> children, std::string text = "") const {
    auto made = std::make_unique<Expression>();
    made->kind = kind;
    made->line = now().line;
    made->text = std::move(text);
    for (const ExpressionPtr& child : children) {
      if (child) made->depth = std::max(made->depth, child->depth + 1);
    }
    if (made->depth > max_depth) error("an expression of too many parts");
    made->children = std::move(children);
    return made;
  }
  ExpressionPtr make(Kind kind, ExpressionPtr first, ExpressionPtr second = nullptr, std::string text = "") const {
    std::vector<ExpressionPtr> children;
    children.push_back(std::move(first));
    if (second) children.push_back(std::move(second));
    return make(kind, std::move(children), std::move(text));
  }
  ExpressionPtr literal(Value value) const {
    ExpressionPtr made = make(Kind::literal, std::vector<ExpressionPtr>());
    made->value = std::move(value);
    return made;
  }

  // ---- expressions ----

  ExpressionPtr expression() {
    const Deeper deeper(*this);
    ExpressionPtr result = either();
    while (take_name("if")) {
      std::vector<ExpressionPtr> parts;
      parts.push_back(std::move(result));
      parts.push_back(either());
      parts.push_back(take_name("else") ? expression() : nullptr);
      result = make(Kind::condition, std::move(parts));
    }
    return result;
  }

  // "a, b" is a tuple.
  ExpressionPtr tuple_or_expression() {
    ExpressionPtr first = expression();
    if (!is_op(",")) return first;
    std::vector<ExpressionPtr> items;
    items.push_back(std::move(first));
    while (take_op(",")) {
      if (now().kind == Token::Kind::block_end || now().kind == Token::Kind::output_end || is_op(")")) break;
      items.push_back(expression());
    }
    return make(Kind::tuple, std::move(items));
  }

  ExpressionPtr either() {
    ExpressionPtr left = both();
    while (take_name("or")) left = make(Kind::logical, std::move(left), both(), "or");
    return left;
  }
  ExpressionPtr both() {
    ExpressionPtr left = negation();
    while (take_name("and")) left = make(Kind::logical, std::move(left), negation(), "and");
    return left;
  }
  ExpressionPtr negation() {
    const Deeper deeper(*this);
    if (take_name("not")) return make(Kind::unary, negation(), nullptr, "not");
    return comparison();
  }
  ExpressionPtr comparison() {
    ExpressionPtr first = sum();
    std::vector<ExpressionPtr> operands;
    std::vector<std::string> operators;
    while (true) {
      std::string op;
      if (now().kind == Token::Kind::op && (now().text == "==" || now().text == "!=" || now().text == "<" ||
                                            now().text == "<=" || now().text == ">" || now().text == ">=")) {
        op = now().text;
        step();
      } else if (take_name("in")) {
        op = "in";
      } else if (is_name("not") && next().kind == Token::Kind::name && next().text == "in") {
        step();
        step();
        op = "not in";
      } else {
        break;
      }
      operators.push_back(op);
      operands.push_back(sum());
    }
    if (operators.empty()) return first;
    operands.insert(operands.begin(), std::move(first));
    ExpressionPtr made = make(Kind::compare, std::move(operands));
    made->operators = std::move(operators);
    return made;
  }
  template <typename Operand>
  ExpressionPtr left_associative(std::initializer_list<const char*> operators, const Operand& operand) {
    ExpressionPtr left = operand();
    while (true) {
      const char* found = nullptr;
      for (const char* op : operators) {
        if (is_op(op)) found = op;
      }
      if (found == nullptr) return left;
      step();
      left = make(Kind::binary, std::move(left), operand(), found);
    }
  }
  ExpressionPtr sum() {
    return left_associative({"+", "-"}, [&] { return concatenation(); });
  }
  ExpressionPtr concatenation() {
    return left_associative({"~"}, [&] { return product(); });
  }
  ExpressionPtr product() {
    return left_associative({"*", "/", "//", "%"}, [&] { return power(); });
  }
  ExpressionPtr power() {
    return left_associative({"**"}, [&] { return unary(true); });
  }
  ExpressionPtr unary(bool with_filter) {
    const Deeper deeper(*this);
    ExpressionPtr node;
    if (take_op("-")) {
      node = make(Kind::unary, unary(false), nullptr, "-");
    } else if (take_op("+")) {
      node = make(Kind::unary, unary(false), nullptr, "+");
    } else {
      node = primary();
    }
    node = postfix(std::move(node));
    return with_filter ? filters(std::move(node)) : std::move(node);
  }

  ExpressionPtr primary() {
    const Token token = now();
    switch (token.kind) {
      case Token::Kind::name: {
        step();
        if (token.text == "true" || token.text == "True") return literal(true);
        if (token.text == "false" || token.text == "False") return literal(false);
        if (token.text == "none" || token.text == "None") return literal(None{});
        return make(Kind::name, std::vector<ExpressionPtr>(), token.text);
      }
      case Token::Kind::string: {
        std::string text;
        while (now().kind == Token::Kind::string) {
          text += now().text;
          step();
        }
        return literal(string_value(text));
      }
      case Token::Kind::integer: {
        int64_t value = 0;
        const auto [end, code] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (code != std::errc() || end != token.text.data() + token.text.size()) error("a number too large");
        step();
        return literal(value);
      }
      case Token::Kind::real: {
        double value = 0;
        const auto [end, code] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
        if (code != std::errc() || end != token.text.data() + token.text.size()) error("a number out of range");
        step();
        return literal(value);
      }
      default: break;
    }
    if (take_op("(")) {
      if (take_op(")")) return make(Kind::tuple, std::vector<ExpressionPtr>());
      ExpressionPtr inside = tuple_or_expression();
      expect_op(")");
      return inside;
    }
    if (take_op("[")) {
      std::vector<ExpressionPtr> items;
      while (!is_op("]")) {
        items.push_back(expression());
        if (!take_op(",")) break;
      }
      expect_op("]");
      return make(Kind::list, std::move(items));
    }
    if (take_op("{")) {
      std::vector<ExpressionPtr> items;
      while (!is_op("}")) {
        items.push_back(expression());
        expect_op(":");
        items.push_back(expression());
        if (!take_op(",")) break;
      }
      expect_op("}");
      return make(Kind::dict, std::move(items));
    }
    error("expected an expression");
  }

  ExpressionPtr postfix(ExpressionPtr node) {
    while (true) {
      if (take_op(".")) {
        if (now().kind == Token::Kind::integer) {
          node = make(Kind::item, std::move(node), primary());
        } else {
          node = make(Kind::attribute, std::move(node), nullptr, expect_name());
        }
      } else if (take_op("[")) {
        node = subscript(std::move(node));
      } else if (is_op("(")) {
        node = call(std::move(node));
      } else {
        return node;
      }
    }
  }

  ExpressionPtr subscript(ExpressionPtr node) {
    ExpressionPtr parts[3];
    bool slice = false;
    size_t count = 0;
    if (!is_op(":")) parts[0] = expression();
    while (take_op(":")) {
      slice = true;
      if (++count > 2) error("a slice has at most three parts");
      if (!is_op(":") && !is_op("]")) parts[count] = expression();
    }
    expect_op("]");
    if (!slice) return make(Kind::item, std::move(node), std::move(parts[0]));
    std::vector<ExpressionPtr> children;
    children.push_back(std::move(node));
    for (ExpressionPtr& part : parts) children.push_back(std::move(part));
    return make(Kind::slice, std::move(children));
  }

  // "( a, b, c=d )" behind what is called.
  void arguments(Expression& call) {
    expect_op("(");
    while (!is_op(")")) {
      if (is_op("*") || is_op("**")) error("\"*\" arguments are not supported");
      if (now().kind == Token::Kind::name && next().kind == Token::Kind::op && next().text == "=") {
        std::string name = expect_name();
        step();
        call.keywords.emplace_back(std::move(name), expression());
        call.depth = std::max(call.depth, call.keywords.back().second->depth + 1);
      } else {
        if (!call.keywords.empty()) error("an argument without a name after one with a name");
        call.children.push_back(expression());
        call.depth = std::max(call.depth, call.children.back()->depth + 1);
      }
      if (!take_op(",")) break;
    }
    expect_op(")");
    if (call.depth > max_depth) error("an expression of too many parts");
  }

  ExpressionPtr call(ExpressionPtr node) {
    ExpressionPtr made = make(Kind::call, std::move(node));
    arguments(*made);
    return made;
  }

  ExpressionPtr one_filter(ExpressionPtr node) {
    ExpressionPtr made = make(Kind::filter, std::move(node), nullptr, expect_name());
    if (is_op("(")) arguments(*made);
    return made;
  }

  ExpressionPtr filters(ExpressionPtr node) {
    while (true) {
      if (take_op("|")) {
        node = one_filter(std::move(node));
      } else if (take_name("is")) {
        const bool negated = take_name("not");
        ExpressionPtr test = make(Kind::test, std::move(node), nullptr, expect_name());
        const Token& token = now();
        if (is_op("(")) {
          arguments(*test);
        } else if ((token.kind == Token::Kind::name && token.text != "else" && token.text != "or" &&
                    token.text != "and" && token.text != "if" && token.text != "is" && token.text != "in" &&
                    token.text != "not") ||
                   token.kind == Token::Kind::string || token.kind == Token::Kind::integer ||
                   token.kind == Token::Kind::real || is_op("[") || is_op("{")) {
          test->children.push_back(postfix(primary()));
          test->depth = std::max(test->depth, test->children.back()->depth + 1);
        }
        node = negated ? make(Kind::unary, std::move(test), nullptr, "not") : std::move(test);
      } else if (is_op("(")) {
        node = call(std::move(node));
      } else {
        return node;
      }
    }
  }

  // ---- statements ----

  bool at_tag(std::initializer_list<std::string_view> names) const {
    if (now().kind != Token::Kind::block_begin || next().kind != Token::Kind::name) return false;
    return std::find(names.begin(), names.end(), next().text) != names.end();
  }

  Block body(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    Block block;
    while (now().kind != Token::Kind::end && !at_tag(ends)) {
      Statement statement;
      statement.line = now().line;
      if (now().kind == Token::Kind::text) {
        statement.text = now().text;
        step();
      } else if (now().kind == Token::Kind::output_begin) {
        step();
        statement.kind = Statement::Kind::output;
        statement.expression = tuple_or_expression();
        if (now().kind != Token::Kind::output_end) error("expected \"}}\"");
        step();
      } else {
        step();
        tag(statement);
      }
      block.push_back(std::move(statement));
    }
    return block;
  }

  void end_tag(std::string_view name) {
    if (!at_tag({name})) error(fmt::format("\"{}\" is missing", name));
    step();
    step();
    expect_block_end();
  }

  Target target() {
    Target made;
    const bool brackets = take_op("(");
    made.names.push_back(expect_name());
    if (!brackets && take_op(".")) {
      made.attribute = expect_name();
      return made;
    }
    while (take_op(",")) {
      made.unpack = true;
      if (now().kind != Token::Kind::name || is_name("in")) break;
      made.names.push_back(expect_name());
    }
    if (brackets) expect_op(")");
    return made;
  }

  void parameters(Statement& statement) {
    expect_op("(");
    while (!is_op(")")) {
      std::string name = expect_name();
      statement.parameters.emplace_back(std::move(name), take_op("=") ? expression() : nullptr);
      if (!take_op(",")) break;
    }
    expect_op(")");
  }

  void tag(Statement& statement) {
    using S = Statement::Kind;
    const std::string name = now().kind == Token::Kind::name ? now().text : "";
    if (name.empty()) error("expected the name of a tag");
    if (name == "if") {
      statement.kind = S::conditional;
      step();
      ExpressionPtr condition = tuple_or_expression();
      expect_block_end();
      statement.branches.emplace_back(std::move(condition), body({"elif", "else", "endif"}));
      while (at_tag({"elif"})) {
        step();
        step();
        condition = tuple_or_expression();
        expect_block_end();
        statement.branches.emplace_back(std::move(condition), body({"elif", "else", "endif"}));
      }
      if (at_tag({"else"})) {
        end_tag("else");
        statement.branches.emplace_back(nullptr, body({"endif"}));
      }
      end_tag("endif");
    } else if (name == "for") {
      statement.kind = S::loop;
      step();
      statement.target = target();
      if (!statement.target.attribute.empty()) error("a loop cannot assign to an attribute");
      if (!take_name("in")) error("expected \"in\"");
      // Not expression(): "if" after it is the loop's filter.
      ExpressionPtr over = either();
      if (is_op(",")) {
        std::vector<ExpressionPtr> items;
        items.push_back(std::move(over));
        while (take_op(",")) items.push_back(either());
        over = make(Kind::tuple, std::move(items));
      }
      statement.expression = std::move(over);
      if (take_name("if")) statement.filter = expression();
      if (is_name("recursive")) error("recursive loops are not supported");
      expect_block_end();
      ++loops_;
      statement.body = body({"else", "endfor"});
      --loops_;
      if (at_tag({"else"})) {
        end_tag("else");
        statement.otherwise = body({"endfor"});
      }
      end_tag("endfor");
    } else if (name == "set") {
      step();
      statement.target = target();
      if (take_op("=")) {
        statement.kind = S::assign;
        statement.expression = tuple_or_expression();
        expect_block_end();
      } else {
        statement.kind = S::block_set;
        if (is_op("|")) {
          statement.expression = filters(make(Kind::name, std::vector<ExpressionPtr>(), ""));
        }
        expect_block_end();
        statement.body = body({"endset"});
        end_tag("endset");
      }
    } else if (name == "macro") {
      statement.kind = S::macro;
      step();
      statement.text = expect_name();
      parameters(statement);
      expect_block_end();
      const int loops = std::exchange(loops_, 0);
      statement.body = body({"endmacro"});
      loops_ = loops;
      end_tag("endmacro");
    } else if (name == "call") {
      statement.kind = S::call_block;
      step();
      if (is_op("(")) parameters(statement);
      statement.expression = expression();
      if (statement.expression->kind != Kind::call) error("\"call\" needs a call");
      expect_block_end();
      const int loops = std::exchange(loops_, 0);
      statement.body = body({"endcall"});
      loops_ = loops;
      end_tag("endcall");
    } else if (name == "filter") {
      statement.kind = S::filter_block;
      step();
      statement.expression = filters(one_filter(make(Kind::name, std::vector<ExpressionPtr>(), "")));
      expect_block_end();
      statement.body = body({"endfilter"});
      end_tag("endfilter");
    } else if (name == "with") {
      statement.kind = S::with;
      step();
      while (now().kind == Token::Kind::name) {
        std::string variable = expect_name();
        expect_op("=");
        statement.parameters.emplace_back(std::move(variable), expression());
        if (!take_op(",")) break;
      }
      expect_block_end();
      statement.body = body({"endwith"});
      end_tag("endwith");
    } else if (name == "generation") {
      statement.kind = S::group;
      step();
      expect_block_end();
      statement.body = body({"endgeneration"});
      end_tag("endgeneration");
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) error(fmt::format("\"{}\" outside of a loop", name));
      statement.kind = name == "break" ? S::break_loop : S::continue_loop;
      step();
      expect_block_end();
    } else {
      error(fmt::format("the tag \"{}\" is out of place or not supported", repaired_utf8(name.substr(0, 40))));
    }
  }

  std::vector<Token> tokens_;
  const std::string& origin_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Block parse_template(const std::string& source, const std::string& origin) {
  if (source.size() > max_source)
    fail("{}: a chat template of {} bytes; at most 4 MB can be used.", origin, source.size());
  if (!is_utf8(source)) fail("{}: the chat template is not UTF-8.", origin);
  // Line ends are "\n", and one at the end of the template is not part of it.
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  Parser parser(Lexer(std::move(text), origin).run(), origin);
  return parser.run();
}

}  // namespace backburn::text::jinja
