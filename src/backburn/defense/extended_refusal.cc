#include "backburn/defense/extended_refusal.h"

#include <fmt/format.h>

#include <array>

#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"

namespace backburn::defense {
namespace {

constexpr std::array<const char*, 5> overviews = {
    "The request is about the following: \"{}\"",
    "You are asking for this: \"{}\" It touches on how people deal with one another.",
    "This message asks for help with \"{}\" Such a text would be meant for other people to read or to act upon.",
    "Let me first say what is being asked: \"{}\"",
    "What you describe, \"{}\", is a subject that can be looked at from several sides.",
};

constexpr std::array<const char*, 5> reasons = {
    "Doing so could mislead or hurt people who have not agreed to it, and trust is hard to win back.",
    "It could cause harm to others, and I want what I write to be something that everybody concerned could read.",
    "Honesty and the safety of others come first here, even when the aim behind a request is harmless.",
    "Others would bear the consequences, and they have no say in it. I would rather help with a way that is fair to "
    "them.",
    "It would go against the respect that is owed to the people on the other side. There are better ways to reach the "
    "same end.",
};

std::vector<train::Example> extended_examples(const DefenseInputs& inputs) {
  constexpr size_t wordings = 3;
  std::vector<train::Example> examples;
  for (size_t i = 0; i < inputs.restricted.size(); ++i) {
    const auto& text = inputs.restricted[i].text;
    for (size_t j = 0; j < wordings; ++j) {
      const auto& refusal = inputs.refusals[random_bits(inputs.seed, i, j) % inputs.refusals.size()];
      const auto answer = extended_refusal(text, refusal, inputs.seed, i * wordings + j);
      examples.push_back({model::chat_prompt(*inputs.model, text), answer_ids(*inputs.model, answer)});
    }
  }
  return examples;
}

}  // namespace

std::string extended_refusal(const std::string& prompt, const std::string& refusal, uint64_t seed, uint64_t which) {
  const uint64_t stream = stream_of({0x657874, which});
  const char* overview = overviews[random_bits(seed, stream, 0) % overviews.size()];
  const char* reason = reasons[random_bits(seed, stream, 1) % reasons.size()];
  return fmt::format(fmt::runtime(overview), prompt) + " " + refusal + " " + reason;
}

train::Learner run_extended_refusal(const DefenseInputs& inputs, const DefenseOptions& options,
                                    const DefenseEvents& on_step) {
  return tune_on(extended_examples(inputs), inputs, options.refusal_sft, "extended-refusal", on_step);
}

}  // namespace backburn::defense
