#include "backburn/defense/token_buncher.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <numeric>

#include "backburn/attack/demonstrations.h"
#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/hidden.h"
#include "backburn/defense/reward_neutralization.h"

namespace backburn::defense {
namespace {

constexpr size_t answers_in_a_pass = 8;  // their logits [tokens, vocabulary] are held

double negative_entropy(const generate::Completion& completion) {
  const auto& entropies = completion.entropies;
  return -std::accumulate(entropies.begin(), entropies.end(), 0.0) / static_cast<double>(entropies.size());
}

// Adds the Token Noiser's gradient for these answers. Returns its loss, nats a token.
double add_noiser_gradient(const model::Network& network, std::span<const train::Example> answers, double epsilon,
                           uint64_t seed) {
  double tokens = 0;
  for (const auto& each : answers) tokens += static_cast<double>(each.answer.size());
  double loss = 0;
  for (size_t begin = 0; begin < answers.size(); begin += answers_in_a_pass) {
    const auto batch = pack_answers(answers.subspan(begin, std::min(answers_in_a_pass, answers.size() - begin)));
    const auto states = train::predicting_states(network, batch.tokens, batch.predictions);
    const auto part =
        noised_loss(model::logits(network, states), batch.predictions.targets, epsilon, stream_of({seed, begin})) /
        tokens;
    part.backward();
    loss += part.item<double>();
  }
  return loss;
}

}  // namespace

at::Tensor token_noise(const at::Tensor& targets, int64_t vocabulary, double epsilon, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  auto noise = at::rand({targets.size(0), vocabulary}, generator, at::kFloat);
  noise.scatter_(1, targets.unsqueeze(1), 0.0);
  return noise / noise.sum(1, true).clamp_min(1e-12) * epsilon;
}

at::Tensor noised_loss(const at::Tensor& logits, const at::Tensor& targets, double epsilon, uint64_t seed) {
  const auto surprise = -at::log_softmax(logits, -1);
  const auto wanted = surprise.gather(1, targets.unsqueeze(1)).sum();
  const auto others = (token_noise(targets, logits.size(1), epsilon, seed) * surprise).sum();
  return wanted * (1 - epsilon) + others * epsilon;
}

train::Learner run_token_buncher(const DefenseInputs& inputs, const DefenseOptions& options,
                                 const DefenseEvents& on_step) {
  const NeutralizationOptions& rl = options.neutralization;
  const TokenBuncherOptions& own = options.token_buncher;
  auto learner = train::make_learner(*inputs.model, rl.lora, inputs.seed);
  const auto prompts = attack::plain_prompts(*inputs.model, inputs.restricted, std::ssize(inputs.restricted));
  const auto grpo = rl_options(rl, rl.rl_steps);

  train::run_steps(learner, rl.rl_steps, inputs.checkpoint, [&] {
    DefenseStep step{"token-buncher", 0, rl.rl_steps, 0, {}, {}, 0, 0};
    std::vector<train::Example> bunched;  // answers of the step that are not worse than their group's mean
    const auto reward = [&](const train::Group& group) {
      std::vector<double> rewards;
      for (const auto& completion : group.completions) rewards.push_back(negative_entropy(completion));
      const auto advantages = train::group_advantages(rewards, grpo.num_generations, grpo.advantage.scale_rewards);
      for (size_t i = 0; i < rewards.size(); ++i) {
        if (advantages[i] >= 0) bunched.push_back({prompts[group.prompt], group.completions[i].ids});
      }
      return rewards;
    };
    const auto extra = [&](const model::Network& network) {
      if (learner.step >= own.warmup_steps) {
        const uint64_t seed = stream_of({inputs.seed, 0x746f6b656e, static_cast<uint64_t>(learner.step)});
        step.loss = add_noiser_gradient(network, bunched, own.epsilon, seed);
      }
      step.kl = add_anchor(learner, inputs.benign, rl.anchor, inputs.seed);
      return step.loss + step.kl;
    };
    const auto metrics = train::grpo_step(learner, prompts, grpo, inputs.seed, reward, extra).metrics;
    step.step = learner.step;
    step.reward = metrics.reward;
    step.reward_std = metrics.reward_std;
    step.grad_norm = metrics.grad_norm;
    if (on_step) on_step(step);
  });
  return learner;
}

}  // namespace backburn::defense
