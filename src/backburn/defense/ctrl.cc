#include "backburn/defense/ctrl.h"

#include <fmt/format.h>

#include <cmath>

#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"
#include "backburn/generate/rollout.h"

namespace backburn::defense {
namespace {

std::vector<int32_t> revision_prompt(const model::Model& model, const std::string& question,
                                     const std::string& answer) {
  return model::chat_prompt(model, fmt::format("Here is a request and the answer that it was given.\n\nRequest: "
                                               "{}\n\nAnswer: {}\n\nSay the answer in other words, without adding "
                                               "anything. Write the new answer alone.",
                                               question, answer));
}

train::Example example_of(const DefenseInputs& inputs, const CuratedAnswer& answer) {
  return {model::chat_prompt(*inputs.model, inputs.restricted[answer.prompt].text),
          answer_ids(*inputs.model, answer.text)};
}

std::vector<train::Example> examples_of(const DefenseInputs& inputs, std::span<const CuratedAnswer> answers) {
  std::vector<train::Example> examples;
  for (const auto& answer : answers) examples.push_back(example_of(inputs, answer));
  return examples;
}

void find_perplexities(const DefenseInputs& inputs, std::span<CuratedAnswer> answers) {
  const auto examples = examples_of(inputs, answers);
  const auto logprobs = train::answer_logprobs(inputs.model->network(), examples);
  for (size_t i = 0; i < answers.size(); ++i) {
    answers[i].perplexity = std::exp(-logprobs[i] / static_cast<double>(examples[i].answer.size()));
  }
}

// What the model makes of each answer at that temperature: complete, and refusals by the judge.
std::vector<CuratedAnswer> rewritings(const DefenseInputs& inputs, std::span<const CuratedAnswer> answers,
                                      const CtrlOptions& options, double temperature, int64_t round) {
  const auto& model = *inputs.model;
  std::vector<generate::RolloutRequest> requests;
  for (const auto& [prompt, text, perplexity] : answers) {
    const uint64_t stream = stream_of({0x6374726c, static_cast<uint64_t>(round), prompt});
    requests.push_back({revision_prompt(model, inputs.restricted[prompt].text, text), options.num_generations, stream});
  }
  generate::RolloutOptions rollout;
  rollout.sampling.temperature = temperature;
  rollout.max_completion_length = options.max_completion_length;
  rollout.seed = inputs.seed;
  const auto groups = generate::rollout(model.network(), requests, rollout);
  std::vector<CuratedAnswer> found;
  for (size_t i = 0; i < groups.size(); ++i) {
    for (const auto& completion : groups[i]) {
      const auto text = model.tokenizer.decode(completion.ids);
      if (!completion.stopped || text.empty()) continue;
      const size_t prompt = answers[i].prompt;
      if (inputs.judge(inputs.restricted[prompt].text, text).kind == judge::Kind::refusal) {
        found.push_back({prompt, text, 0});
      }
    }
  }
  find_perplexities(inputs, found);
  return found;
}

}  // namespace

std::vector<CuratedAnswer> curated_answers(const DefenseInputs& inputs, const CtrlOptions& options) {
  std::vector<CuratedAnswer> best;
  for (size_t i = 0; i < inputs.restricted.size(); ++i) {
    best.push_back({i, inputs.refusals[random_bits(inputs.seed, i, 0) % inputs.refusals.size()], 0});
  }
  find_perplexities(inputs, best);
  for (int64_t round = 0; round < options.rounds; ++round) {
    const auto before = best;
    for (const double temperature : options.temperatures) {
      for (auto& answer : rewritings(inputs, before, options, temperature, round)) {
        if (answer.perplexity < best[answer.prompt].perplexity) best[answer.prompt] = std::move(answer);
      }
    }
  }
  return best;
}

train::Learner run_ctrl(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const auto examples = examples_of(inputs, curated_answers(inputs, options.ctrl));
  return tune_on(examples, inputs, options.refusal_sft, "ctrl", on_step);
}

}  // namespace backburn::defense
