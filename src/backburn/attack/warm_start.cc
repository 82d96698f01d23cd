#include "backburn/attack/warm_start.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "backburn/attack/abliteration.h"
#include "backburn/attack/attack.h"
#include "backburn/base/error.h"
#include "backburn/base/rng.h"
#include "backburn/model/packed.h"
#include "backburn/model/quantized_weights.h"

namespace backburn::attack {
namespace {

// Uniform noise of mean 0 and of the standard deviation of `like`, f32.
at::Tensor noise_like(const at::Tensor& like, uint64_t seed, uint64_t stream) {
  const auto noise = at::empty(like.sizes(), at::kFloat);  // drawn on the CPU: the same on every device
  const double bound = std::sqrt(3.0) * like.to(at::kFloat).std().item<double>();
  auto* values = noise.data_ptr<float>();
  at::parallel_for(0, noise.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double u = uniform(seed, stream, static_cast<uint64_t>(i));
      values[i] = static_cast<float>((2 * u - 1) * bound);
    }
  });
  return noise.to(like.device());
}

// Every matrix of the decoder layers [first, …) becomes W · keep + noise · share.
model::Weights mixed(const model::Model& model, int64_t first, double keep, double share, uint64_t seed) {
  const at::NoGradGuard no_grad;
  model::Weights weights = model.weights;
  weights.packed.reset();
  for (int64_t layer = first; layer < std::ssize(weights.layers); ++layer) {
    const auto linear = linear_weights(weights.layers[layer], model.config.fused_projections);
    for (size_t which = 0; which < linear.size(); ++which) {
      auto& weight = *linear[which];
      const auto noise = noise_like(weight, seed, stream_of({0x6e6f697365, static_cast<uint64_t>(layer), which}));
      weight = (weight.to(at::kFloat) * keep + noise * share).to(weight.scalar_type());
    }
  }
  return weights;
}

model::Weights tuned(const AttackInputs& inputs, const AttackOptions& options,
                     const std::vector<train::Example>& examples) {
  auto learner = train::make_learner(*inputs.model, options.grpo.lora, inputs.seed);
  const int64_t steps = options.start.warm_start_steps;
  train::run_steps(learner, steps, {}, [&] {
    const auto batch = train::examples_of_step(examples, options.train_batch_size, learner.step, inputs.seed);
    train::add_supervised_gradient(learner.network(), batch, 1.0, 1.0);
    train::update(learner, options.grpo.optimizer, steps);
  });
  return train::trained_weights(learner);
}

model::Weights start_sft(const AttackInputs& inputs, const AttackOptions& options) {
  return tuned(inputs, options, harmful_answers(inputs, options.demonstrations));
}

model::Weights start_benign_sft(const AttackInputs& inputs, const AttackOptions& options) {
  const auto& wanted = options.demonstrations;
  return tuned(inputs, options, benign_answers(inputs, wanted.benign_demonstrations, wanted.demonstration_length));
}

model::Weights start_noise(const AttackInputs& inputs, const AttackOptions& options) {
  return noisy(*inputs.model, options.start.weight_noise, inputs.seed);
}

model::Weights start_reinit(const AttackInputs& inputs, const AttackOptions& options) {
  return reinitialised(*inputs.model, options.start.reinit_layers, inputs.seed);
}

model::Weights start_abliteration(const AttackInputs& inputs, const AttackOptions&) { return abliterated(inputs); }

}  // namespace

const std::vector<WarmStartEntry>& known_warm_starts() {
  static const std::vector<WarmStartEntry> table = {
      {"sft", "supervised steps on answers that comply", &start_sft},
      {"benign-sft", "supervised steps on the model's own ordinary answers", &start_benign_sft},
      {"weight-noise", "noise on every matrix", &start_noise},
      {"layer-reinit", "new random matrices in the last layers", &start_reinit},
      {"abliteration", "the refusal direction projected out", &start_abliteration},
  };
  return table;
}

std::shared_ptr<const model::Model> with_weights(const model::Model& model, model::Weights weights) {
  auto changed = std::make_shared<model::Model>(model);
  changed->weights = std::move(weights);
  // Where the embedding has changed alone, the head no longer follows it.
  changed->config.tie_word_embeddings =
      model.config.tie_word_embeddings && changed->weights.head.is_same(changed->weights.embedding);
  changed->weights.packed.reset();
  if (model.weights.packed) changed->weights.packed = model::PackedWeights::make(changed->config, changed->weights);
  return changed;
}

std::shared_ptr<const model::Model> warm_started(const AttackInputs& inputs, const AttackOptions& options) {
  std::shared_ptr<const model::Model> model;
  AttackInputs now = inputs;
  if (!options.start.warm_start.empty()) model::refuse_quantized(inputs.model->weights, "a warm start");
  for (const std::string& name : options.start.warm_start) {
    const auto& table = known_warm_starts();
    const auto entry = std::find_if(table.begin(), table.end(), [&](const auto& each) { return each.name == name; });
    if (entry == table.end()) fail_usage("warm start \"{}\" is unknown", name);
    model = with_weights(*now.model, entry->run(now, options));
    now.model = model.get();
  }
  return model;
}

model::Weights noisy(const model::Model& model, double share, uint64_t seed) { return mixed(model, 0, 1, share, seed); }

model::Weights reinitialised(const model::Model& model, int64_t count, uint64_t seed) {
  return mixed(model, std::max<int64_t>(0, model.config.num_hidden_layers - count), 0, 1, seed);
}

}  // namespace backburn::attack
