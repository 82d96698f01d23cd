#include "backburn/defense/circuit_breakers.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "backburn/defense/anchored.h"
#include "backburn/defense/harmful_answers.h"
#include "backburn/defense/hidden.h"
#include "backburn/defense/refusal_sft.h"

namespace backburn::defense {
namespace {

template <typename Distance>
at::Tensor mean_over_layers(std::span<const at::Tensor> now, std::span<const at::Tensor> original, Distance distance) {
  auto sum = at::zeros({}, at::kFloat);
  for (size_t i = 0; i < now.size(); ++i) sum = sum + distance(now[i], original[i]).mean();
  return sum / static_cast<double>(now.size());
}

// Both models' states under some answers.
struct Compared {
  std::vector<at::Tensor> now, original;
};

Compared compared(const train::Learner& learner, std::span<const train::Example> examples,
                  std::span<const size_t> layers) {
  const auto batch = pack_answers(examples);
  Compared states;
  {
    const at::NoGradGuard no_grad;
    states.original = answer_streams(learner.base->network(), batch, layers);
  }
  states.now = answer_streams(learner.network(), batch, layers);
  return states;
}

}  // namespace

at::Tensor rerouting_loss(std::span<const at::Tensor> now, std::span<const at::Tensor> original) {
  return mean_over_layers(now, original, [](const at::Tensor& left, const at::Tensor& right) {
    return at::relu(at::cosine_similarity(left, right, -1));
  });
}

at::Tensor retain_loss(std::span<const at::Tensor> now, std::span<const at::Tensor> original) {
  return mean_over_layers(now, original, [](const at::Tensor& left, const at::Tensor& right) {
    // The root's slope is infinite where a fresh adapter leaves no difference at all.
    return ((left - right).square().sum(-1) + 1e-12).sqrt();
  });
}

train::Learner run_circuit_breakers(const DefenseInputs& inputs, const DefenseOptions& options,
                                    const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  const double alpha = options.circuit_breakers.alpha;
  auto fresh = train::make_learner(*inputs.model, sft.lora, inputs.seed);
  const auto harmful = harmful_answers(inputs, options.harmful);
  const auto layers =
      layers_at(options.circuit_breakers.layers, static_cast<size_t>(inputs.model->config.num_hidden_layers));
  const auto refusals = refusal_examples(inputs);

  const auto gradient = [&](const train::Learner& learner) -> StepLoss {
    auto kept = train::examples_of_step(refusals, sft.train_batch_size, learner.step, inputs.seed);
    if (!inputs.benign.examples.empty()) {
      const auto benign =
          train::examples_of_step(inputs.benign.examples, sft.anchor.anchor_batch, learner.step, inputs.seed + 1);
      kept.insert(kept.end(), benign.begin(), benign.end());
    }
    const double done = static_cast<double>(learner.step) / (2.0 * static_cast<double>(sft.max_steps));
    const auto broken = compared(
        learner, train::examples_of_step(harmful, options.harmful.batch, learner.step, inputs.seed + 2), layers);
    const auto rerouting = rerouting_loss(broken.now, broken.original);
    (rerouting * (alpha * (1 - done))).backward();
    const auto same = compared(learner, kept, layers);
    const auto retain = retain_loss(same.now, same.original);
    (retain * (alpha * done)).backward();
    return {rerouting.item<double>() + retain.item<double>(), 0};
  };
  return run_supervised(std::move(fresh), inputs, sft, "circuit-breakers", on_step, gradient);
}

}  // namespace backburn::defense
