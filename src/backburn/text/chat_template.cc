#include "backburn/text/chat_template.h"

#include "backburn/base/error.h"
#include "backburn/text/jinja_eval.h"
#include "backburn/text/jinja_syntax.h"
#include "backburn/text/utf8.h"

namespace backburn::text {

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

const std::string& ChatTemplate::source() const { return parsed_->source; }

}  // namespace backburn::text
