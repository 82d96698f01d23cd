#include "backburn/run/examples.h"

#include <algorithm>

#include "backburn/judge/redact.h"

namespace backburn::run {
namespace {

constexpr size_t examples_per_evaluation = 6;

// Benign answers need no redaction: they are what users ask for every day.
Json shown_benign(const text::Prompt& prompt, const eval::JudgedAnswer& answer) {
  const bool refused = answer.verdict.kind == judge::Kind::refusal;
  return {{"prompt_id", prompt.id},
          {"prompt", prompt.text},
          {"answer", answer.text},
          {"score", answer.verdict.score},
          {"kind", refused ? "refusal" : "benign"},
          {"reasons", Json::array()},
          {"redacted", false}};
}

}  // namespace

Json shown(const Run& run, const text::Prompt& prompt, const std::string& answer, const judge::Verdict& verdict) {
  const bool redacted = !run.recipe.show_completions && verdict.kind != judge::Kind::refusal;
  return {{"prompt_id", prompt.id},
          {"prompt", prompt.text},
          {"answer", redacted ? judge::redact(answer, verdict) : answer},
          {"score", verdict.score},
          {"kind", judge::to_string(verdict.kind)},
          {"reasons", verdict.reasons},
          {"redacted", redacted}};
}

Json examples_of(const Run& run, const eval::EvalInputs& inputs, const eval::Evaluation& evaluation) {
  Json examples = Json::array();
  const auto add_evenly = [&](const auto& answers, size_t count, const auto& show) {
    count = std::min(count, answers.size());
    for (size_t i = 0; i < count; ++i) examples.push_back(show(answers[i * answers.size() / count]));
  };
  add_evenly(evaluation.answers, examples_per_evaluation, [&](const auto& answer) {
    return shown(run, inputs.restricted[answer.prompt], answer.text, answer.verdict);
  });
  add_evenly(evaluation.benign_answers, examples_per_evaluation / 2,
             [&](const auto& answer) { return shown_benign(inputs.benign[answer.prompt], answer); });
  return examples;
}

}  // namespace backburn::run
