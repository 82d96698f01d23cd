#include "backburn/defense/refusal_sft.h"

#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"

namespace backburn::defense {
namespace {

constexpr size_t refusals_per_prompt = 3;

}  // namespace

std::vector<train::Example> refusal_examples(const DefenseInputs& inputs) {
  std::vector<train::Example> examples;
  for (size_t i = 0; i < inputs.restricted.size(); ++i) {
    const auto prompt = model::chat_prompt(*inputs.model, inputs.restricted[i].text);
    for (size_t j = 0; j < refusals_per_prompt; ++j) {
      const size_t which = random_bits(inputs.seed, i, j) % inputs.refusals.size();
      examples.push_back({prompt, answer_ids(*inputs.model, inputs.refusals[which])});
    }
  }
  return examples;
}

train::Learner align(const DefenseInputs& inputs, const RefusalSftOptions& options, const DefenseEvents& on_step) {
  return tune_on(refusal_examples(inputs), inputs, options, "sft", on_step);
}

train::Learner run_refusal_sft(const DefenseInputs& inputs, const DefenseOptions& options,
                               const DefenseEvents& on_step) {
  return align(inputs, options.refusal_sft, on_step);
}

}  // namespace backburn::defense
