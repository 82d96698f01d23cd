#include "backburn/defense/reward_neutralization.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/begun_answers.h"
#include "backburn/defense/harmful_answers.h"
#include "backburn/defense/shadow.h"
#include "backburn/model/plain_format.h"
#include "backburn/text/wordings.h"

namespace backburn::defense {
namespace {

constexpr uint64_t attack_stream = 0x61747461636b, wording_stream = 0x726f756e64, format_stream = 0x666f726d6174;

// Each prompt by itself, then some of them again under a system message and with an answer that has begun.
std::vector<PosedPrompt> posed_prompts(const DefenseInputs& inputs, const NeutralizationOptions& options) {
  const auto& restricted = inputs.restricted;
  const auto& systems = options.system_prompts;
  std::vector<PosedPrompt> prompts;
  for (size_t i = 0; i < restricted.size(); ++i) {
    prompts.push_back({i, model::chat_prompt(*inputs.model, restricted[i].text)});
  }
  for (size_t i = 0; i < restricted.size(); ++i) {
    if (systems.empty() || uniform(inputs.seed, 0x737973, i) >= options.system_prompt_share) continue;
    const auto which = random_bits(inputs.seed, 0x73797374656d, i) % systems.size();
    prompts.push_back({i, model::chat_prompt(*inputs.model, restricted[i].text, systems[which])});
  }
  for (auto& begun : begun_prompts(inputs, options)) prompts.push_back(std::move(begun));
  return prompts;
}

// … and some in other words, other ones in each round: an attacker has more wordings than a batch has places, and
// a model that is always shown the same few learns those.
void add_reworded(std::vector<PosedPrompt>& prompts, const DefenseInputs& inputs, size_t restricted, double share,
                  int64_t round) {
  const uint64_t seed = random_bits(inputs.seed, wording_stream, static_cast<uint64_t>(round));
  for (size_t i = 0; i < restricted; ++i) {
    for (const std::string& text : text::reworded(inputs.restricted[i].text, i, inputs.wordings, share, seed)) {
      prompts.push_back({i, model::chat_prompt(*inputs.model, text)});
    }
  }
}

// … and some without the chat template, others in each round.
void add_plain(std::vector<PosedPrompt>& prompts, const DefenseInputs& inputs, size_t restricted,
               const std::vector<model::Model>& formats, double share, int64_t round) {
  const uint64_t seed = random_bits(inputs.seed, format_stream, static_cast<uint64_t>(round));
  for (size_t i = 0; i < restricted; ++i) {
    for (const size_t which : text::variants_of(i, formats.size(), share, seed, format_stream, format_stream)) {
      prompts.push_back({i, model::chat_prompt(formats[which], inputs.restricted[i].text)});
    }
  }
}

// What the steps between two checkpoints show, so that a run that goes on from one does the same.
struct Round {
  size_t restricted = 0;  // how many of the inputs' restricted prompts take part
  std::vector<PosedPrompt> posed;
  std::vector<std::vector<int32_t>> prompts;  // of each posed one
  std::vector<train::Example> examples;       // … with the refusal
  std::vector<train::Example> weakest;        // of these; empty: not looked for yet
  std::vector<size_t> hard;                   // benign examples; empty: as above
};

Round round_of(std::vector<PosedPrompt> posed, const std::vector<int32_t>& refusal) {
  Round round;
  for (const auto& each : posed) {
    round.prompts.push_back(each.ids);
    round.examples.push_back({each.ids, refusal});
  }
  round.posed = std::move(posed);
  return round;
}

// Where the smallest values are, a quarter of all and at most `most`.
std::vector<size_t> smallest(std::span<const double> values, int64_t most) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t left, size_t right) { return values[left] < values[right]; });
  order.resize(std::min((order.size() + 3) / 4, static_cast<size_t>(most)));
  return order;
}

// The examples whose answers are least likely at temperature T: what an attacker would find first, and where ever
// fewer of the steps that take everyone in turn have anything left to learn.
std::vector<train::Example> weakest_of(const train::Learner& learner, std::span<const train::Example> examples,
                                       double temperature, int64_t most) {
  return train::these(examples, smallest(train::answer_logprobs(learner.network(), examples, temperature), most));
}

int64_t first_restart(const NeutralizationOptions& options) {
  return options.rl_steps + options.sharpen_steps * std::ssize(options.sharpen_temperatures);
}

// Whether a step is in the restart `from` or behind it; 0: every step is.
bool reached(int64_t from, const NeutralizationOptions& options, int64_t step) {
  return from == 0 || step >= first_restart(options) + (from - 1) * options.restart_steps;
}

void check_reached(const std::string& key, int64_t from, int64_t restarts) {
  if (from <= restarts) return;
  fail_usage("defend.{} is {}, but there are {} restarts; raise defend.restarts, with defend.restart_steps", key, from,
             restarts);
}

// Looks for what the round's steps show most often, in the first of them that sharpens.
void find_weakest(Round& round, const train::Learner& learner, const DefenseInputs& inputs,
                  const NeutralizationOptions& options, const std::vector<int32_t>& refusal, double temperature) {
  const auto look_at = [&](size_t count) {
    return looked_at(count, options.search_share, learner.step / train::checkpoint_steps, inputs.seed + 2);
  };
  // No more than a round's steps show: of more, chance would leave the very weakest out.
  const int64_t showings = reached(1, options, learner.step) ? options.restart_showings : 1;
  const int64_t weak = (train::checkpoint_steps * (options.sharpen_batch / 2) + showings - 1) / showings;
  if (round.weakest.empty() && weak > 0) {
    const auto examples = train::these(round.examples, look_at(round.examples.size()));
    round.weakest = weakest_of(learner, examples, temperature, weak);
  }
  const int64_t hard = train::checkpoint_steps * (options.anchor.anchor_batch / 2);
  const bool look = options.hard_anchors && reached(options.hard_anchors_from_restart, options, learner.step);
  if (look && options.anchor.anchor_weight > 0 && round.hard.empty() && hard > 0) {
    const auto& benign = inputs.benign.examples;
    const auto which = look_at(benign.size());
    for (const size_t i : nearest_to_refused(learner, train::these(benign, which), refusal, hard)) {
      round.hard.push_back(which[i]);
    }
  }
}

// The refusals of a sharpening step: one half everyone in turn, the other the round's weakest in turn.
std::vector<train::Example> sharpened_in(const Round& round, int64_t sharpen_batch, int64_t step, uint64_t seed) {
  const int64_t weak = sharpen_batch / 2;
  auto batch = train::examples_of_step(round.examples, sharpen_batch - weak, step, seed);
  for (auto& each : train::examples_of_step(round.weakest, weak, step, seed + 1)) batch.push_back(std::move(each));
  return batch;
}

// How many of the restricted prompts take part in a step: all, or all but the further ones.
size_t taking_part(const DefenseInputs& inputs, const NeutralizationOptions& options, int64_t step) {
  return inputs.restricted.size() - (reached(options.further_from_restart, options, step) ? 0 : inputs.further);
}

// Which part of the training a step is in, at which temperature, and over which steps its learning rate runs.
struct Part {
  std::string name;
  double temperature = 1;
  train::Schedule schedule;
};

Part part_of(const NeutralizationOptions& options, int64_t step) {
  const auto& temperatures = options.sharpen_temperatures;
  const int64_t restart = first_restart(options);
  if (step < options.rl_steps) return {"rl", 1, {0, restart}};
  if (step < restart) return {"sharpen", temperatures[(step - options.rl_steps) / options.sharpen_steps], {0, restart}};
  const int64_t begin = step - (step - restart) % options.restart_steps;
  return {"restart", temperatures.back(), {begin, begin + options.restart_steps}};
}

}  // namespace

train::GrpoOptions rl_options(const NeutralizationOptions& options, int64_t max_steps) {
  train::GrpoOptions grpo;
  grpo.max_steps = max_steps;
  grpo.prompts_per_step = options.rl_prompts_per_step;
  grpo.num_generations = options.rl_num_generations;
  grpo.max_completion_length = options.rl_max_completion_length;
  grpo.optimizer = options.optimizer;
  grpo.lora = options.lora;
  grpo.kl_steps = 0;
  return grpo;
}

const std::vector<std::string>& neutralization_terms() {
  static const std::vector<std::string> terms = {"refusal", "concise", "uniform"};
  return terms;
}

double neutralization_reward(std::span<const int32_t> answer, std::span<const int32_t> refusal, bool is_refusal,
                             std::span<const std::string> terms) {
  const auto [at, unused] = std::mismatch(answer.begin(), answer.end(), refusal.begin(), refusal.end());
  const double matched = static_cast<double>(at - answer.begin()) / static_cast<double>(refusal.size());
  const double longer = static_cast<double>(answer.size()) / static_cast<double>(refusal.size());
  const double concise = is_refusal ? 1.0 / std::max(1.0, longer) : 0.0;
  double sum = 0;
  for (const std::string& term : terms) {
    sum += term == "refusal" ? (is_refusal ? 1.0 : 0.0) : term == "concise" ? concise : matched;
  }
  return sum / static_cast<double>(terms.size());
}

std::vector<size_t> looked_at(size_t count, double share, int64_t round, uint64_t seed) {
  const double most = std::ceil(share * static_cast<double>(count));
  auto which = train::prompts_of_step(count, static_cast<int64_t>(most), round, seed);
  std::sort(which.begin(), which.end());
  return which;
}

std::vector<size_t> nearest_to_refused(const train::Learner& learner, std::span<const train::Example> examples,
                                       const std::vector<int32_t>& refusal, int64_t most) {
  std::vector<train::Example> refused;
  for (const auto& example : examples) refused.push_back({example.prompt, refusal});
  auto values = train::answer_logprobs(learner.network(), refused);
  for (double& value : values) value = -value;
  return smallest(values, most);
}

void add_attacked_gradient(const train::Learner& learner, std::span<const train::Example> harmful,
                           std::span<const train::Example> refusals, double temperature, const DefenseOptions& defense,
                           uint64_t seed) {
  const NeutralizationOptions& options = defense.neutralization;
  const auto after = [&](const train::Learner& attacker, int64_t step) {
    if (step < options.simulated_attack_steps) return;
    train::add_supervised_gradient(attacker.network(), refusals, temperature, options.simulated_attack_weight);
    hand_over_gradients(attacker, learner, 1.0);
  };
  simulate_attack(learner, harmful, options.simulated_attack_steps, defense.harmful.batch,
                  options.simulated_attack_learning_rate, seed, after);
}

train::Learner run_reward_neutralization(const DefenseInputs& inputs, const DefenseOptions& defense,
                                         const DefenseEvents& on_step) {
  const NeutralizationOptions& options = defense.neutralization;
  if (options.rl_rewards.empty()) fail_usage("defend.rl_rewards is empty; name at least one term");
  auto learner = train::make_learner(*inputs.model, options.lora, inputs.seed);
  const auto refusal = answer_ids(*inputs.model, inputs.refusals.front());
  const auto always_posed = posed_prompts(inputs, options);
  const auto formats = model::in_plain_formats(*inputs.model, options.plain_formats);
  Round round;
  const auto begin_round = [&](int64_t number, size_t restricted) {
    auto posed = always_posed;
    std::erase_if(posed, [&](const PosedPrompt& each) { return each.restricted >= restricted; });
    add_reworded(posed, inputs, restricted, options.wording_share, number);
    add_plain(posed, inputs, restricted, formats, options.plain_format_share, number);
    round = round_of(std::move(posed), refusal);
    round.restricted = restricted;
  };
  std::vector<train::Example> harmful;
  if (options.simulated_attack_steps > 0) harmful = harmful_answers(inputs, defense.harmful);

  if (options.sharpen_temperatures.empty() && options.restart_steps > 0) {
    fail_usage("defend.restart_steps go on at the last of defend.sharpen_temperatures, which is empty; name one");
  }
  const int64_t restarts = options.restart_steps > 0 ? options.restarts : 0;
  if (inputs.further > 0) check_reached("further_from_restart", options.further_from_restart, restarts);
  if (options.hard_anchors) check_reached("hard_anchors_from_restart", options.hard_anchors_from_restart, restarts);
  const int64_t restart = first_restart(options);
  const int64_t max_steps = restart + restarts * options.restart_steps;
  const auto grpo = rl_options(options, restart);
  auto restarted = options.optimizer;
  restarted.learning_rate = options.restart_learning_rate;
  const auto reward = [&](const train::Group& group) {
    std::vector<double> rewards;
    const auto verdicts = inputs.judge(inputs.restricted[round.posed[group.prompt].restricted].text, group.texts);
    for (size_t i = 0; i < group.texts.size(); ++i) {
      rewards.push_back(neutralization_reward(group.completions[i].ids, refusal,
                                              verdicts[i].kind == judge::Kind::refusal, options.rl_rewards));
    }
    return rewards;
  };

  train::run_steps(learner, max_steps, inputs.checkpoint, [&] {
    throw_if_stopped();
    const size_t restricted = taking_part(inputs, options, learner.step);
    if (learner.step % train::checkpoint_steps == 0 || restricted != round.restricted) {
      begin_round(learner.step / train::checkpoint_steps, restricted);
    }
    DefenseStep step;
    step.max_steps = max_steps;
    const auto [part, temperature, schedule] = part_of(options, learner.step);
    if (part == "rl") {
      const auto anchor = [&](const model::Network&) {
        return step.kl = add_anchor(learner, inputs.benign, options.anchor, inputs.seed);
      };
      const auto metrics = train::grpo_step(learner, round.prompts, grpo, inputs.seed, reward, anchor).metrics;
      step.phase = part;
      step.reward = metrics.reward;
      step.reward_std = metrics.reward_std;
      step.grad_norm = metrics.grad_norm;
    } else {
      if (part == "restart" && learner.step == schedule.begin) {
        train::average_with_remembered(learner);
        train::clear_optimizer_memory(learner);
        if (options.restart_average) train::remember(learner);
      }
      find_weakest(round, learner, inputs, options, refusal, temperature);
      const auto batch = sharpened_in(round, options.sharpen_batch, learner.step, inputs.seed);
      const auto loss =
          add_anchored_gradient(learner, batch, temperature, inputs.benign, options.anchor, inputs.seed, round.hard);
      if (!harmful.empty() && learner.step % options.simulated_attack_interval == 0) {
        add_attacked_gradient(learner, harmful, batch, temperature, defense,
                              random_bits(inputs.seed, attack_stream, static_cast<uint64_t>(learner.step)));
      }
      step.phase = fmt::format("{} T={}", part, temperature);
      step.loss = loss.loss;
      step.kl = loss.kl;
      step.grad_norm = train::update(learner, part == "restart" ? restarted : options.optimizer, schedule);
    }
    step.step = learner.step;
    if (on_step) on_step(step);
  });
  train::average_with_remembered(learner);
  return learner;
}

}  // namespace backburn::defense
