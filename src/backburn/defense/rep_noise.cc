#include "backburn/defense/rep_noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "backburn/base/rng.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/harmful_answers.h"
#include "backburn/defense/hidden.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/model/residual_stream.h"

namespace backburn::defense {
namespace {

// Adds the gradient of the loss without its stability term. Returns the noise's part.
double add_noising_gradient(const train::Learner& learner, std::span<const train::Example> harmful,
                            std::span<const size_t> layers, const RepNoiseOptions& options, uint64_t seed) {
  const auto batch = pack_answers(harmful);
  const auto network = learner.network();
  auto generator = at::detail::createCPUGenerator(stream_of({seed, 0x6e6f697365, static_cast<uint64_t>(learner.step)}));
  auto noise = at::zeros({}, at::kFloat);
  auto ascent = at::zeros({}, at::kFloat);
  const auto streams = answer_streams(network, batch, layers);
  for (const auto& stream : streams) {
    noise =
        noise + maximum_mean_discrepancy(stream, at::randn(stream.sizes(), generator, at::kFloat).to(stream.device()));
    const auto states = model::final_states(network, stream.to(network.dtype()));
    ascent = ascent - train::token_logprobs(network, states, batch.predictions.targets, 1.0).logprobs.mean();
  }
  const auto count = static_cast<double>(streams.size());
  (noise * (options.noise_weight / count) - (ascent / count + 1).log() * options.ascent_weight).backward();
  return noise.item<double>() / count;
}

}  // namespace

at::Tensor maximum_mean_discrepancy(const at::Tensor& left, const at::Tensor& right) {
  const auto all = at::cat({left, right});
  const auto squares = all.square().sum(1);
  const auto distances = (squares.unsqueeze(1) + squares.unsqueeze(0) - at::mm(all, all.t()) * 2.0).clamp_min(0.0);
  const auto count = static_cast<double>(all.size(0));
  const double mean = distances.detach().sum().item<double>() / std::max(1.0, count * (count - 1));
  auto kernel = at::zeros_like(distances);
  for (const double factor : {0.25, 0.5, 1.0, 2.0, 4.0}) {
    kernel = kernel + (distances * (-1.0 / std::max(1e-12, factor * mean))).exp();
  }
  const int64_t n = left.size(0), m = right.size(0);
  const auto within = kernel.narrow(0, 0, n).narrow(1, 0, n).mean() + kernel.narrow(0, n, m).narrow(1, n, m).mean();
  return within - kernel.narrow(0, 0, n).narrow(1, n, m).mean() * 2.0;
}

train::Learner run_rep_noise(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  auto fresh = train::make_learner(*inputs.model, sft.lora, inputs.seed);
  const auto harmful = harmful_answers(inputs, options.harmful);
  const auto layers = layers_at(options.rep_noise.layers, static_cast<size_t>(inputs.model->config.num_hidden_layers));
  const auto refusals = refusal_examples(inputs);
  const auto gradient = [&](const train::Learner& learner) {
    const auto kept = train::examples_of_step(refusals, sft.train_batch_size, learner.step, inputs.seed);
    auto loss = add_anchored_gradient(learner, kept, 1.0, inputs.benign, sft.anchor, inputs.seed);
    loss.loss += add_noising_gradient(
        learner, train::examples_of_step(harmful, options.harmful.batch, learner.step, inputs.seed + 2), layers,
        options.rep_noise, inputs.seed);
    return loss;
  };
  return run_supervised(std::move(fresh), inputs, sft, "rep-noise", on_step, gradient);
}

}  // namespace backburn::defense
