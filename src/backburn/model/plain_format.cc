#include "backburn/model/plain_format.h"

#include "backburn/base/json.h"
#include "backburn/text/wordings.h"

namespace backburn::model {
namespace {

// As an expression: text of its own could hold what Jinja2 takes for a tag.
std::string quoted(const std::string& text) { return "{{ " + Json(text).dump() + " }}"; }

}  // namespace

Model in_plain_format(const Model& model, const std::string& format) {
  if (format.empty()) return model;
  const auto [before, behind] = text::around_prompt(format, "plain format");
  const bool begins_with_bos = !model.tokenizer.with_special_tokens({}).empty();
  const std::string source =
      (begins_with_bos ? "{{ bos_token }}" : "") +
      std::string("{% for message in messages[:-1] %}{{ message['content'] + '\\n\\n' }}{% endfor %}") +
      quoted(before) + "{{ messages[-1]['content'] }}" + quoted(behind);
  Model plain = model;
  plain.chat_template = text::ChatTemplate::parse(source, "plain format");
  return plain;
}

std::vector<Model> in_plain_formats(const Model& model, const std::vector<std::string>& formats) {
  std::vector<Model> models;
  models.reserve(formats.size());
  for (const auto& format : formats) models.push_back(in_plain_format(model, format));
  return models;
}

}  // namespace backburn::model
