#include "backburn/defense/shadow.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "backburn/base/cancel.h"

namespace backburn::defense {

train::Learner copy_of(const train::Learner& learner) {
  train::Learner copy = learner;
  for (auto& layer : copy.adapter.layers) {
    for (auto& pair : layer) {
      for (at::Tensor* each : {&pair.a, &pair.b, &pair.magnitude}) {
        if (each->defined()) *each = each->detach().clone().requires_grad_(true);
      }
    }
  }
  if (learner.full) copy.full = std::make_shared<model::TrainedWeights>(*learner.full);
  train::clear_optimizer_memory(copy);
  return copy;
}

void simulate_attack(const train::Learner& learner, std::span<const train::Example> examples, int64_t steps,
                     int64_t batch, double learning_rate, uint64_t seed,
                     const std::function<void(const train::Learner& attacker, int64_t step)>& after) {
  auto attacker = copy_of(learner);
  for (int64_t step = 1; step <= steps; ++step) {
    throw_if_stopped();
    train::add_supervised_gradient(attacker.network(), train::examples_of_step(examples, batch, step, seed), 1.0, 1.0);
    train::optimizer_step({}, learning_rate, attacker.parameters(), attacker.optimizer);
    after(attacker, step);
  }
}

void hand_over_gradients(const train::Learner& from, const train::Learner& to, double weight) {
  const at::NoGradGuard no_grad;
  const auto sources = from.parameters(), targets = to.parameters();
  for (size_t i = 0; i < sources.size(); ++i) {
    if (!sources[i].grad().defined()) continue;
    const auto gradient = sources[i].grad() * weight;
    targets[i].mutable_grad() = targets[i].grad().defined() ? targets[i].grad() + gradient : gradient;
    sources[i].mutable_grad().reset();
  }
}

double gradient_norm(const train::Learner& learner) {
  double square = 0;
  for (const auto& parameter : learner.parameters()) {
    if (parameter.grad().defined()) square += parameter.grad().square().sum().item<double>();
  }
  return std::sqrt(square);
}

}  // namespace backburn::defense
