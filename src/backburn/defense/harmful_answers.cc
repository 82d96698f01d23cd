#include "backburn/defense/harmful_answers.h"

#include <sstream>

#include "backburn/attack/demonstrations.h"
#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/defense/anchored.h"

namespace backburn::defense {
namespace {

std::vector<int32_t> cut(std::vector<int32_t> ids, int64_t length) {
  ids.resize(std::min(ids.size(), static_cast<size_t>(length)));
  return ids;
}

std::vector<train::Example> from_file(const model::Model& model, const HarmfulAnswerOptions& options) {
  std::vector<train::Example> examples;
  std::istringstream stream(read_file(options.file));
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.empty() || line == "\r") continue;
    const Json json = Json::parse(line, nullptr, false);
    const auto text = [&](const char* key) {
      if (!json.is_object() || !json.contains(key) || !json[key].is_string()) {
        fail("{}:{}: expected a JSON object with the texts \"prompt\" and \"answer\"", options.file, number);
      }
      return json[key].get<std::string>();
    };
    const auto prompt = model::chat_prompt(model, text("prompt"));
    examples.push_back({prompt, cut(answer_ids(model, text("answer")), options.max_completion_length)});
  }
  if (examples.empty()) fail("{}: no harmful answers; expected JSON lines of \"prompt\" and \"answer\"", options.file);
  return examples;
}

std::vector<train::Example> sampled(const DefenseInputs& inputs, const HarmfulAnswerOptions& options) {
  const auto& model = *inputs.model;
  const int64_t prefix = std::ssize(model.tokenizer.encode(options.prefix, false));
  const auto forced =
      attack::forced_answers(model, inputs.restricted, inputs.judge, options.prefix, options.num_generations,
                             std::max<int64_t>(1, options.max_completion_length - prefix), inputs.seed);
  std::vector<train::Example> examples;
  for (size_t i = 0; i < forced.size(); ++i) {
    for (const auto& [ids, text, verdict] : forced[i]) {
      if (verdict.score < options.min_score) continue;
      examples.push_back({model::chat_prompt(model, inputs.restricted[i].text), ids});
    }
  }
  if (examples.empty()) {
    fail(
        "{}: none of {} answers that were forced to begin with \"{}\" has a judge's score of {} or more; give "
        "defend.harmful.file, or lower defend.harmful.min_score",
        model.name, static_cast<int64_t>(inputs.restricted.size()) * options.num_generations, options.prefix,
        options.min_score);
  }
  return examples;
}

}  // namespace

std::vector<train::Example> harmful_answers(const DefenseInputs& inputs, const HarmfulAnswerOptions& options) {
  return options.file.empty() ? sampled(inputs, options) : from_file(*inputs.model, options);
}

}  // namespace backburn::defense
