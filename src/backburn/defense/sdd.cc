#include "backburn/defense/sdd.h"

#include <set>

#include "backburn/base/error.h"
#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"

namespace backburn::defense {
namespace {

constexpr uint64_t most_draws = 32;  // of an answer to one prompt

const train::Example& irrelevant_to(std::span<const int32_t> text, const DefenseInputs& inputs, double max_overlap,
                                    uint64_t stream) {
  const auto& benign = inputs.benign.examples;
  const train::Example* least = nullptr;
  double least_overlap = 0;
  for (uint64_t draw = 0; draw < most_draws; ++draw) {
    const auto& drawn = benign[random_bits(inputs.seed, stream, draw) % benign.size()];
    const double overlap = token_overlap(text, drawn.answer);
    if (least == nullptr || overlap < least_overlap) {
      least = &drawn;
      least_overlap = overlap;
    }
    if (overlap <= max_overlap) break;
  }
  return *least;
}

}  // namespace

double token_overlap(std::span<const int32_t> text, std::span<const int32_t> answer) {
  const std::set<int32_t> wanted(text.begin(), text.end()), there(answer.begin(), answer.end());
  if (wanted.empty()) return 0;
  double common = 0;
  for (const int32_t token : wanted) common += there.count(token) > 0 ? 1 : 0;
  return common / static_cast<double>(wanted.size());
}

std::vector<train::Example> irrelevant_examples(const DefenseInputs& inputs, const SddOptions& options) {
  if (inputs.benign.examples.empty()) {
    fail_usage("sdd: needs benign answers, which restricted prompts are paired with; give --benign");
  }
  std::vector<train::Example> examples;
  for (size_t i = 0; i < inputs.restricted.size(); ++i) {
    const auto text = inputs.model->tokenizer.encode(inputs.restricted[i].text, false);
    for (int64_t pair = 0; pair < options.pairs_per_prompt; ++pair) {
      const auto& other =
          irrelevant_to(text, inputs, options.max_overlap, stream_of({0x736464, i, static_cast<uint64_t>(pair)}));
      examples.push_back({model::chat_prompt(*inputs.model, inputs.restricted[i].text), other.answer});
    }
  }
  return examples;
}

train::Learner run_sdd(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  return tune_on(irrelevant_examples(inputs, options.sdd), inputs, options.refusal_sft, "sdd", on_step);
}

}  // namespace backburn::defense
