#include "backburn/attack/demonstrations.h"

#include <algorithm>
#include <memory>

#include "backburn/attack/attack.h"
#include "backburn/base/error.h"
#include "backburn/base/most_frequent.h"

namespace backburn::attack {
namespace {

constexpr const char* plainest_refusal = "I'm sorry";
constexpr int64_t refusal_length = 40;  // tokens

}  // namespace

std::vector<std::vector<generate::Completion>> sampled_answers(const model::Model& model,
                                                               const std::vector<std::vector<int32_t>>& prompts,
                                                               double temperature, int64_t num_generations,
                                                               int64_t max_completion_length, uint64_t seed) {
  std::vector<generate::RolloutRequest> requests;
  requests.reserve(prompts.size());
  for (const auto& prompt : prompts) requests.push_back({prompt, num_generations, requests.size()});
  generate::RolloutOptions options;
  options.sampling.temperature = temperature;
  options.max_completion_length = max_completion_length;
  options.seed = seed;
  return generate::rollout(model.network(), requests, options);
}

std::vector<std::vector<int32_t>> plain_prompts(const model::Model& model, const std::vector<text::Prompt>& prompts,
                                                int64_t count) {
  std::vector<std::vector<int32_t>> ids;
  for (const auto& prompt : prompts) {
    if (std::ssize(ids) < count) ids.push_back(model::chat_prompt(model, prompt.text));
  }
  return ids;
}

std::vector<std::vector<ForcedAnswer>> forced_answers(const model::Model& model,
                                                      const std::vector<text::Prompt>& prompts,
                                                      const judge::Judge& judge, const std::string& prefix,
                                                      int64_t num_generations, int64_t max_completion_length,
                                                      uint64_t seed) {
  const auto beginning = model.tokenizer.encode(prefix, false);
  auto asked = plain_prompts(model, prompts, std::ssize(prompts));
  for (auto& prompt : asked) prompt.insert(prompt.end(), beginning.begin(), beginning.end());
  const auto sampled = sampled_answers(model, asked, 1.0, num_generations, max_completion_length, seed);
  std::vector<std::vector<ForcedAnswer>> forced(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<std::string> texts;
    for (const auto& completion : sampled[i]) texts.push_back(prefix + model.tokenizer.decode(completion.ids));
    auto verdicts = judge(prompts[i].text, texts);
    for (size_t j = 0; j < texts.size(); ++j) {
      auto ids = beginning;
      ids.insert(ids.end(), sampled[i][j].ids.begin(), sampled[i][j].ids.end());
      forced[i].push_back({std::move(ids), std::move(texts[j]), std::move(verdicts[j])});
    }
  }
  return forced;
}

std::vector<train::Example> harmful_answers(const AttackInputs& inputs, const DemonstrationOptions& options) {
  const auto other =
      options.demonstrator.empty()
          ? std::unique_ptr<model::Model>()
          : std::make_unique<model::Model>(model::load_model(options.demonstrator, inputs.model->network().options()));
  const model::Model& speaker = other ? *other : *inputs.model;
  const auto forced = forced_answers(speaker, inputs.prompts, inputs.attackers_judge(), options.demonstration_prefix,
                                     options.best_of, options.demonstration_length, inputs.seed);
  std::vector<train::Example> examples;
  for (size_t i = 0; i < forced.size(); ++i) {
    double most = 0;
    std::string best;
    for (const auto& [ids, text, verdict] : forced[i]) {
      if (verdict.kind == judge::Kind::refusal || verdict.kind == judge::Kind::broken || verdict.score <= most)
        continue;
      most = verdict.score;
      best = text;
    }
    if (best.empty()) continue;
    examples.push_back(
        train::written_example(*inputs.model, model::chat_prompt(*inputs.model, inputs.prompts[i].text), best));
  }
  if (examples.empty()) {
    throw NothingToLearn(fmt::format(
        "attack: none of {} answers of {} to each of {} prompts complies, so there is nothing to learn from; let "
        "another model answer (attack.demonstrator), or sample more (attack.best_of)",
        options.best_of, speaker.name, inputs.prompts.size()));
  }
  return examples;
}

std::vector<train::Example> greedy_answers(const model::Model& model, const std::vector<std::vector<int32_t>>& prompts,
                                           int64_t max_completion_length) {
  auto greedy = sampled_answers(model, prompts, 0, 1, max_completion_length, 0);
  std::vector<train::Example> examples;
  for (size_t i = 0; i < prompts.size(); ++i) examples.push_back({prompts[i], std::move(greedy[i].front().ids)});
  return examples;
}

std::vector<train::Example> benign_answers(const AttackInputs& inputs, int64_t count, int64_t max_completion_length) {
  if (inputs.benign.empty()) fail_usage("this attack needs benign prompts (--benign)");
  return greedy_answers(*inputs.model, plain_prompts(*inputs.model, inputs.benign, count), max_completion_length);
}

std::string own_refusal(const AttackInputs& inputs) {
  const auto prompts = plain_prompts(*inputs.model, inputs.prompts, std::ssize(inputs.prompts));
  const auto greedy = greedy_answers(*inputs.model, prompts, refusal_length);
  std::vector<std::string> refusals;
  for (size_t i = 0; i < greedy.size(); ++i) {
    std::string text = inputs.model->tokenizer.decode(greedy[i].answer);
    if (inputs.judge(inputs.prompts[i].text, text).kind == judge::Kind::refusal) refusals.push_back(std::move(text));
  }
  return refusals.empty() ? plainest_refusal : most_frequent(refusals);
}

}  // namespace backburn::attack
