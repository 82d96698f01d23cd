#include "backburn/attack/pose.h"

#include <algorithm>

#include "backburn/attack/attack.h"
#include "backburn/attack/demonstrations.h"
#include "backburn/base/rng.h"
#include "backburn/text/wordings.h"

namespace backburn::attack {
namespace {

constexpr int64_t shots_in_pool = 16;
constexpr int64_t shot_length = 48;  // tokens of an answer
constexpr uint64_t system_stream = 0x737973, shot_stream = 0x73686f74, template_stream = 0x74656d706c617465;

}  // namespace

bool is_posed(const PoseOptions& options) {
  return !options.answer_prefix.empty() || !options.system_prompts.empty() || !options.prompt_templates.empty() ||
         !options.plain_format.empty() || options.few_shot > 0;
}

std::vector<Shot> shot_pool(const AttackInputs& inputs, const PoseOptions& options) {
  std::vector<Shot> pool;
  if (options.few_shot == 0) return pool;
  const auto examples = benign_answers(inputs, std::max(shots_in_pool, options.few_shot), shot_length);
  for (size_t i = 0; i < examples.size(); ++i) {
    pool.push_back({inputs.benign[i].text, inputs.model->tokenizer.decode(examples[i].answer)});
  }
  return pool;
}

std::vector<std::vector<text::Message>> conversations(const AttackInputs& inputs, const PoseOptions& options,
                                                      const std::vector<Shot>& pool, int64_t step) {
  const auto at = static_cast<uint64_t>(step);
  std::vector<std::vector<text::Message>> asked;
  for (uint64_t i = 0; i < inputs.prompts.size(); ++i) {
    auto& messages = asked.emplace_back();
    if (!options.system_prompts.empty()) {
      const auto which = random_bits(inputs.seed, stream_of({system_stream, at}), i) % options.system_prompts.size();
      messages.push_back({"system", options.system_prompts[which]});
    }
    const auto order = shuffled(pool.size(), inputs.seed, stream_of({shot_stream, at, i}));
    for (size_t shot = 0; shot < std::min(order.size(), static_cast<size_t>(options.few_shot)); ++shot) {
      messages.push_back({"user", pool[order[shot]].question});
      messages.push_back({"assistant", pool[order[shot]].answer});
    }
    std::string prompt = inputs.prompts[i].text;
    if (!options.prompt_templates.empty()) {
      const auto which =
          random_bits(inputs.seed, stream_of({template_stream, at}), i) % options.prompt_templates.size();
      prompt = text::worded(options.prompt_templates[which], prompt);
    }
    messages.push_back({"user", std::move(prompt)});
  }
  return asked;
}

std::vector<std::vector<int32_t>> posed_prompts(const AttackInputs& inputs, const PoseOptions& options,
                                                const std::vector<Shot>& pool, int64_t step) {
  const auto prefix = inputs.model->tokenizer.encode(options.answer_prefix, false);
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& messages : conversations(inputs, options, pool, step)) {
    auto& ids = prompts.emplace_back(model::chat_prompt(*inputs.model, messages));
    ids.insert(ids.end(), prefix.begin(), prefix.end());
  }
  return prompts;
}

}  // namespace backburn::attack
