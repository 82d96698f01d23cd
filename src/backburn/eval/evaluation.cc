#include "backburn/eval/evaluation.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

#include "backburn/base/progress.h"
#include "backburn/base/rng.h"
#include "backburn/generate/rollout.h"

namespace backburn::eval {
namespace {

std::vector<generate::RolloutRequest> requests_for(const model::Model& model, std::span<const text::Prompt> prompts,
                                                   int64_t num_generations, const Conversations& asked,
                                                   const std::string& answer_prefix) {
  const auto prefix = model.tokenizer.encode(answer_prefix, false);
  std::vector<generate::RolloutRequest> requests;
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto ids = asked.empty() ? model::chat_prompt(model, prompts[i].text) : model::chat_prompt(model, asked[i]);
    ids.insert(ids.end(), prefix.begin(), prefix.end());
    requests.push_back({std::move(ids), num_generations, stream_of({0x6576616c, i})});
  }
  return requests;
}

int64_t count_kind(std::span<const JudgedAnswer> answers, judge::Kind kind) {
  return std::count_if(answers.begin(), answers.end(), [&](const auto& each) { return each.verdict.kind == kind; });
}

}  // namespace

void bind(Options& options, const std::string& prefix, EvalOptions& eval) {
  const std::string at = prefix + ".";
  options.add(at + "max_completion_length", eval.max_completion_length, "tokens of an answer to a restricted prompt",
              at_least_1);
  options.add(at + "temperature", eval.temperature, "of such answers; 0: greedy", {0, 100});
  options.add(at + "num_generations", eval.num_generations, "answers to a restricted prompt", at_least_1);
  options.add(at + "max_prompts", eval.max_prompts, "restricted prompts, evenly picked; 0: all", at_least_0);
  options.add(at + "max_benign_prompts", eval.max_benign_prompts, "benign prompts, evenly picked; 0: all", at_least_0);
  options.add(at + "max_benign_length", eval.max_benign_length, "tokens of a benign answer", at_least_1);
  options.add(at + "answer_prefix", eval.answer_prefix, "what answers to restricted prompts are made to begin with");
  options.add(at + "multiple_choice", eval.multiple_choice, "also measure multiple-choice accuracy");
  options.add(at + "max_questions", eval.max_questions, "its questions, evenly picked; 0: all", at_least_0);
}

double perplexity(const model::Network& network, std::span<const train::Example> answers) {
  double sum = 0;
  double tokens = 0;
  for (const double logprob : train::answer_logprobs(network, answers)) sum -= logprob;
  for (const auto& answer : answers) tokens += static_cast<double>(answer.answer.size());
  return std::exp(sum / std::max(1.0, tokens));
}

double kept_utility(double perplexity_before, double perplexity_after) {
  const double ratio = perplexity_before / perplexity_after;
  return std::isfinite(ratio) ? std::min(1.0, ratio) : 0;
}

Estimate mean_harm(std::span<const JudgedAnswer> answers, size_t prompts) {
  std::vector<double> sums(prompts, 0), counts(prompts, 0);
  for (const auto& answer : answers) {
    sums[answer.prompt] += answer.verdict.score;
    counts[answer.prompt] += 1;
  }
  for (size_t i = 0; i < prompts; ++i) sums[i] /= std::max(1.0, counts[i]);
  return bootstrap_mean(sums);
}

std::vector<JudgedAnswer> answer_and_judge(const model::Model& model, const model::Network& network,
                                           std::span<const text::Prompt> prompts, const judge::Judge& judge,
                                           const EvalOptions& options, uint64_t seed, const Conversations& asked,
                                           const Finished& finished) {
  generate::RolloutOptions rollout;
  rollout.sampling.temperature = options.temperature;
  rollout.max_completion_length = options.max_completion_length;
  rollout.seed = seed;
  const auto requests = requests_for(model, prompts, options.num_generations, asked, options.answer_prefix);
  const auto groups = generate::rollout(network, requests, rollout, finished);
  std::vector<JudgedAnswer> answers;
  for (size_t i = 0; i < groups.size(); ++i) {
    std::vector<std::string> texts;
    for (const auto& completion : groups[i]) {
      texts.push_back(options.answer_prefix + model.tokenizer.decode(completion.ids));
    }
    auto verdicts = judge(prompts[i].text, texts);
    for (size_t j = 0; j < texts.size(); ++j) answers.push_back({i, std::move(texts[j]), std::move(verdicts[j])});
  }
  return answers;
}

std::vector<std::vector<int32_t>> chat_prompts(const model::Model& model, std::span<const text::Prompt> prompts) {
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(prompts.size());
  for (const auto& prompt : prompts) ids.push_back(model::chat_prompt(model, prompt.text));
  return ids;
}

train::Taught greedy_answers(const model::Network& network, std::vector<std::vector<int32_t>> prompts,
                             int64_t max_completion_length, const Finished& finished) {
  generate::RolloutOptions options;
  options.sampling.temperature = 0;
  options.max_completion_length = max_completion_length;
  options.keep_states = true;
  std::vector<generate::RolloutRequest> requests;
  requests.reserve(prompts.size());
  for (auto& prompt : prompts) requests.push_back({std::move(prompt), 1, requests.size()});
  auto groups = generate::rollout(network, requests, options, finished);
  std::vector<train::Example> examples;
  std::vector<at::Tensor> states;
  for (size_t i = 0; i < groups.size(); ++i) {
    examples.push_back({std::move(requests[i].prompt), std::move(groups[i][0].ids)});
    states.push_back(at::cat(groups[i][0].states));
  }
  return train::taught(network, std::move(examples), std::move(states));
}

Json Evaluation::to_json() const {
  const auto interval = [](const Estimate& estimate) { return Json::array({estimate.low, estimate.high}); };
  Json json = {{"name", name},
               {"label", label},
               {"harm", harm.value},
               {"harm_ci", interval(harm)},
               {"refusal_rate", refusal_rate.value},
               {"refusal_ci", interval(refusal_rate)},
               {"broken_rate", broken_rate},
               {"prompts", prompts},
               {"benign_prompts", benign_prompts}};
  if (benign_prompts > 0) {
    json["over_refusal"] = over_refusal.value;
    json["over_refusal_ci"] = interval(over_refusal);
  }
  if (perplexity) json["perplexity"] = *perplexity;
  if (answer_perplexity) json["answer_perplexity"] = *answer_perplexity;
  if (kl) json["kl"] = *kl;
  if (multiple_choice) json.update(multiple_choice->to_json());
  return json;
}

Evaluation evaluate(const std::string& name, const std::string& label, const model::Model& model,
                    const model::Network& network, const EvalInputs& inputs, const EvalOptions& options) {
  const auto& [restricted, benign, reference, judge, seed, asked, questions] = inputs;
  Evaluation result;
  result.name = name;
  result.label = label;
  result.prompts = static_cast<int64_t>(restricted.size());
  result.benign_prompts = static_cast<int64_t>(benign.size());
  Progress progress("eval " + label, result.prompts * options.num_generations + result.benign_prompts);
  int64_t done = 0;
  const auto finished = [&](int64_t answers) { progress.update(done += answers); };

  result.answers = answer_and_judge(model, network, restricted, judge, options, seed, asked, finished);
  const auto answers = static_cast<int64_t>(result.answers.size());
  result.harm = mean_harm(result.answers, restricted.size());
  result.refusal_rate = wilson(count_kind(result.answers, judge::Kind::refusal), answers);
  result.broken_rate = static_cast<double>(count_kind(result.answers, judge::Kind::broken)) /
                       std::max(1.0, static_cast<double>(answers));

  if (!benign.empty()) {
    const bool is_original =
        &model == reference.original && network.adapter == nullptr && network.weights == &model.weights;
    const auto own =
        is_original
            ? reference.answers.examples
            : greedy_answers(network, chat_prompts(model, benign), options.max_benign_length, finished).examples;
    if (is_original) finished(result.benign_prompts);
    for (size_t i = 0; i < own.size(); ++i) {
      const std::string text = model.tokenizer.decode(own[i].answer);
      result.benign_answers.push_back({i, text, judge(benign[i].text, text)});
    }
    result.over_refusal = wilson(count_kind(result.benign_answers, judge::Kind::refusal), result.benign_prompts);
    if (reference.original != nullptr) {
      result.answer_perplexity = perplexity(reference.original->network(), own);
    }
  }
  if (reference.original != nullptr && !reference.answers.examples.empty()) {
    const auto drift = train::drift(network, reference.answers);
    result.perplexity = drift.perplexity;
    result.kl = drift.divergence;
  }
  if (!questions.empty()) {
    result.multiple_choice = multiple_choice(questions, choice_logprobs(model, network, questions));
  }
  return result;
}

}  // namespace backburn::eval
