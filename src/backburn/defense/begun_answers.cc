#include "backburn/defense/begun_answers.h"

#include "backburn/attack/demonstrations.h"
#include "backburn/base/rng.h"
#include "backburn/text/wordings.h"

namespace backburn::defense {

namespace {
constexpr uint64_t share_stream = 0x626567756e, prefix_stream = 0x707265666978, depth_stream = 0x6465707468;
}

std::vector<PosedPrompt> begun_prompts(const DefenseInputs& inputs, const NeutralizationOptions& options) {
  std::vector<PosedPrompt> prompts;
  if (options.answer_prefixes.empty()) return prompts;
  std::vector<std::vector<int32_t>> prefixes;
  for (const auto& text : options.answer_prefixes) prefixes.push_back(inputs.model->tokenizer.encode(text, false));
  for (size_t i = 0; i < inputs.restricted.size(); ++i) {
    const auto asked = model::chat_prompt(*inputs.model, inputs.restricted[i].text);
    for (const size_t which :
         text::variants_of(i, prefixes.size(), options.answer_prefix_share, inputs.seed, share_stream, prefix_stream)) {
      auto& ids = prompts.emplace_back(PosedPrompt{i, asked}).ids;
      ids.insert(ids.end(), prefixes[which].begin(), prefixes[which].end());
    }
  }
  if (options.answer_prefix_depth == 0) return prompts;

  std::vector<std::vector<int32_t>> begun;
  begun.reserve(prompts.size());
  for (const auto& prompt : prompts) begun.push_back(prompt.ids);
  const auto continued =
      attack::sampled_answers(*inputs.model, begun, 1.0, 1, options.answer_prefix_depth, inputs.seed);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto& ids = continued[i].front().ids;
    // Behind the stop token nothing can be said any more.
    const size_t deepest = ids.size() - (continued[i].front().stopped ? 1 : 0);
    const size_t depth = random_bits(inputs.seed, depth_stream, i) % (deepest + 1);
    prompts[i].ids.insert(prompts[i].ids.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(depth));
  }
  return prompts;
}

}  // namespace backburn::defense
