#include "backburn/defense/deep_alignment.h"

#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/harmful_answers.h"

namespace backburn::defense {
namespace {

// The triples of a step, each with a depth and a refusal of its own.
std::vector<train::Example> recoveries(const DefenseInputs& inputs, const DeepAlignmentOptions& options,
                                       std::span<const train::Example> harmful, int64_t batch, int64_t step) {
  std::vector<train::Example> examples = train::examples_of_step(harmful, batch, step, inputs.seed);
  for (size_t i = 0; i < examples.size(); ++i) {
    const uint64_t stream = stream_of({0x64656570, static_cast<uint64_t>(step), i});
    const size_t deepest = std::min(static_cast<size_t>(options.max_prefix), examples[i].answer.size());
    const bool is_deep = uniform(inputs.seed, stream, 0) < options.prefix_share;
    const size_t depth = is_deep ? 1 + random_bits(inputs.seed, stream, 1) % deepest : 0;
    const auto& refusal = inputs.refusals[random_bits(inputs.seed, stream, 2) % inputs.refusals.size()];
    examples[i] = recovery(examples[i], depth, answer_ids(*inputs.model, refusal));
  }
  return examples;
}

}  // namespace

train::Example recovery(const train::Example& harmful, size_t length, std::vector<int32_t> refusal) {
  auto prompt = harmful.prompt;
  prompt.insert(prompt.end(), harmful.answer.begin(), harmful.answer.begin() + static_cast<std::ptrdiff_t>(length));
  return {std::move(prompt), std::move(refusal)};
}

train::Learner run_deep_alignment(const DefenseInputs& inputs, const DefenseOptions& options,
                                  const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  const auto harmful = harmful_answers(inputs, options.harmful);
  const auto gradient = [&](const train::Learner& learner) {
    const auto batch = recoveries(inputs, options.deep_alignment, harmful, sft.train_batch_size, learner.step);
    return add_anchored_gradient(learner, batch, 1.0, inputs.benign, sft.anchor, inputs.seed);
  };
  return run_supervised(train::make_learner(*inputs.model, sft.lora, inputs.seed), inputs, sft, "deep-alignment",
                        on_step, gradient);
}

}  // namespace backburn::defense
