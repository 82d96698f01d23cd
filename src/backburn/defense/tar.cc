#include "backburn/defense/tar.h"

#include <ATen/TensorOperators.h>

#include <cmath>

#include "backburn/base/error.h"
#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/harmful_answers.h"
#include "backburn/defense/hidden.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/defense/shadow.h"

namespace backburn::defense {
namespace {

// Adds the gradient of −weight · entropy. Returns the entropy, nats a token.
double add_entropy_gradient(const train::Learner& learner, std::span<const train::Example> examples, double weight) {
  const auto batch = pack_answers(examples);
  const auto network = learner.network();
  const auto states = train::predicting_states(network, batch.tokens, batch.predictions);
  const auto entropy = train::token_entropies(network, states, 1.0).mean();
  (entropy * -weight).backward();
  return entropy.item<double>();
}

// Every second example, from the given one on.
std::vector<train::Example> half_of(std::span<const train::Example> examples, size_t first) {
  std::vector<train::Example> half;
  for (size_t i = first; i < examples.size(); i += 2) half.push_back(examples[i]);
  return half;
}

}  // namespace

double add_tamper_resistance_gradient(const train::Learner& learner, std::span<const train::Example> attacked,
                                      std::span<const train::Example> held_out, const TarOptions& options,
                                      int64_t batch, double rate, uint64_t seed) {
  double entropy = 0;
  const auto resist = [&](const train::Learner& attacker, int64_t step) {
    if (step % options.subsample != 0) return;
    const double weight = options.weight * std::exp(options.schedule * static_cast<double>(step - options.inner_steps));
    entropy = add_entropy_gradient(attacker, held_out, weight);
    hand_over_gradients(attacker, learner, 1.0);
  };
  simulate_attack(learner, attacked, options.inner_steps, batch, rate, seed, resist);
  return entropy;
}

train::Learner run_tar(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  const TarOptions& own = options.tar;
  if (own.attack_rates.empty())
    fail_usage("tar: defend.tar.attack_rates is empty; give the rates of simulated attacks");
  const auto harmful = harmful_answers(inputs, options.harmful);
  if (harmful.size() < 2) fail("tar: needs two harmful answers or more, one to attack with and one to hold out");
  const auto attacked = half_of(harmful, 0), held_out = half_of(harmful, 1);
  const auto refusals = refusal_examples(inputs);
  const auto gradient = [&](const train::Learner& learner) {
    const auto kept = train::examples_of_step(refusals, sft.train_batch_size, learner.step, inputs.seed);
    auto loss = add_anchored_gradient(learner, kept, 1.0, inputs.benign, sft.anchor, inputs.seed);
    const uint64_t stream = stream_of({0x746172, static_cast<uint64_t>(learner.step)});
    const double rate = own.attack_rates[random_bits(inputs.seed, stream, 0) % own.attack_rates.size()];
    const auto asked = train::examples_of_step(held_out, options.harmful.batch, learner.step, inputs.seed + 2);
    loss.loss -= own.weight * add_tamper_resistance_gradient(learner, attacked, asked, own, options.harmful.batch, rate,
                                                             random_bits(inputs.seed, stream, 1));
    return loss;
  };
  return run_supervised(train::make_learner(*inputs.model, sft.lora, inputs.seed), inputs, sft, "tar", on_step,
                        gradient);
}

}  // namespace backburn::defense
