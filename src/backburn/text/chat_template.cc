#include "backburn/text/chat_template.h"

#include <map>
#include <stdexcept>
#include <vector>

#include "backburn/base/error.h"
#include "backburn/text/jinja_eval.h"
#include "backburn/text/jinja_syntax.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

// Throws std::length_error when nested too deeply.
jinja::Value value_of(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean: return json.get<bool>();
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned: return json.get<int64_t>();
    case Json::value_t::number_float: return json.get<double>();
    case Json::value_t::string: return jinja::string_value(repaired_utf8(json.get_ref<const std::string&>()));
    case Json::value_t::array: {
      std::vector<jinja::Value> items;
      for (const Json& item : json) items.push_back(value_of(item));
      return jinja::list_value(std::move(items));
    }
    case Json::value_t::object: {
      std::vector<std::pair<jinja::Value, jinja::Value>> items;
      for (const auto& [key, item] : json.items()) {
        items.emplace_back(jinja::string_value(repaired_utf8(key)), value_of(item));
      }
      return jinja::dict_value(std::move(items));
    }
    default: return jinja::None{};
  }
}

}  // namespace

struct ChatTemplate::Parsed {
  std::string source;
  std::string origin;
  jinja::Block block;
};

ChatTemplate ChatTemplate::parse(std::string source, std::string origin) {
  jinja::Block block = jinja::parse_template(source, origin);
  return ChatTemplate(std::make_shared<const Parsed>(Parsed{std::move(source), std::move(origin), std::move(block)}));
}

std::string ChatTemplate::render(std::span<const Message> messages, bool add_generation_prompt,
                                 const std::string& bos_token, const std::string& eos_token) const {
  using jinja::string_value;
  using jinja::Value;
  auto text_of = [](const std::string& text) { return string_value(repaired_utf8(text)); };
  std::vector<Value> list;
  for (const Message& message : messages) {
    list.push_back(jinja::dict_value(
        {{string_value("role"), text_of(message.role)}, {string_value("content"), text_of(message.content)}}));
  }
  return jinja::render(parsed_->block, parsed_->origin,
                       {{"messages", jinja::list_value(std::move(list))},
                        {"add_generation_prompt", add_generation_prompt},
                        {"bos_token", text_of(bos_token)},
                        {"eos_token", text_of(eos_token)},
                        {"tools", jinja::None{}},
                        {"documents", jinja::None{}}});
}

std::string ChatTemplate::render(const Json& variables) const {
  if (!variables.is_object()) {
    fail("{}: the variables must be an object, found {}.", parsed_->origin, variables.type_name());
  }
  std::map<std::string, jinja::Value> values;
  try {
    for (const auto& [name, json] : variables.items()) values[name] = value_of(json);
  } catch (const std::length_error& error) {
    fail("{}: {}.", parsed_->origin, error.what());
  }
  return jinja::render(parsed_->block, parsed_->origin, std::move(values));
}

const std::string& ChatTemplate::source() const { return parsed_->source; }

}  // namespace backburn::text
