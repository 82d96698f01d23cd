#include "backburn/defense/rsn_tune.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/hidden.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/model/quantized_weights.h"

namespace backburn::defense {
namespace {

using model::Projection;

constexpr std::array<Projection, 5> tuned = {Projection::q, Projection::k, Projection::v, Projection::up,
                                             Projection::down};

// The dimension of [out, in] that goes through one neuron's weights.
int64_t weights_of_a_neuron(Projection which) { return which == Projection::down ? 0 : 1; }

template <typename Function>
PerNeuron for_each_projection(size_t layers, Function function) {
  PerNeuron result(layers);
  for (size_t layer = 0; layer < layers; ++layer) {
    for (const Projection which : tuned) result[layer][static_cast<size_t>(which)] = function(layer, which);
  }
  return result;
}

const at::Tensor& at_projection(const PerNeuron& neurons, size_t layer, Projection which) {
  return neurons[layer][static_cast<size_t>(which)];
}

// The same weights, with a gradient where there are neurons.
model::Weights traced(const model::Weights& weights) {
  model::Weights result = weights;
  result.packed.reset();
  for (auto& layer : result.layers) {
    for (const Projection which : tuned) {
      at::Tensor& weight = model::projection(layer, which);
      weight = weight.detach().requires_grad_(true);
    }
  }
  return result;
}

at::Tensor most_important(const at::Tensor& importance, double top_share) {
  const auto count = std::llround(top_share * static_cast<double>(importance.numel()));
  const auto indices = std::get<1>(importance.topk(std::max<long long>(1, count)));
  return at::zeros({importance.numel()}, at::kBool).index_fill_(0, indices, true);
}

int64_t count_of(const PerNeuron& neurons) {
  int64_t count = 0;
  for (const auto& layer : neurons) {
    for (const auto& chosen : layer) count += chosen.defined() ? chosen.sum().item<int64_t>() : 0;
  }
  return count;
}

// So many examples, from all over the list.
std::vector<train::Example> spread(std::span<const train::Example> examples, int64_t count) {
  const size_t wanted = std::min(examples.size(), static_cast<size_t>(count));
  std::vector<train::Example> chosen;
  for (size_t i = 0; i < wanted; ++i) chosen.push_back(examples[i * examples.size() / wanted]);
  return chosen;
}

}  // namespace

std::vector<PerNeuron> neuron_importances(const model::Model& model, std::span<const train::Example> examples) {
  const auto weights = traced(model.weights);
  const model::Network network{&model.config, &weights, nullptr};
  std::vector<PerNeuron> importances;
  for (size_t i = 0; i < examples.size(); ++i) {
    throw_if_stopped();
    const auto batch = pack_answers(examples.subspan(i, 1));
    const auto states = train::predicting_states(network, batch.tokens, batch.predictions);
    (-train::token_logprobs(network, states, batch.predictions.targets, 1.0).logprobs.mean()).backward();
    const at::NoGradGuard no_grad;
    importances.push_back(for_each_projection(weights.layers.size(), [&](size_t layer, Projection which) {
      const at::Tensor& weight = model::projection(weights.layers[layer], which);
      const auto change = weight.detach().to(at::kFloat) * weight.grad().to(at::kFloat);
      weight.mutable_grad().reset();
      return change.sum(weights_of_a_neuron(which)).abs();
    }));
  }
  return importances;
}

PerNeuron important_neurons(const model::Model& model, std::span<const train::Example> examples, double top_share,
                            double consistency) {
  const auto importances = neuron_importances(model, examples);
  const double needed = std::max(1.0, consistency * static_cast<double>(examples.size()) - 1e-9);
  return for_each_projection(model.weights.layers.size(), [&](size_t layer, Projection which) {
    const auto shape = model::projection_shape(model.config, which);
    auto counts = at::zeros({which == Projection::down ? shape.second : shape.first}, at::kFloat);
    for (const auto& importance : importances) {
      counts += most_important(at_projection(importance, layer, which), top_share).to(at::kFloat);
    }
    return counts >= needed;
  });
}

PerNeuron without(const PerNeuron& neurons, const PerNeuron& others) {
  return for_each_projection(neurons.size(), [&](size_t layer, Projection which) {
    return at_projection(neurons, layer, which).logical_and(at_projection(others, layer, which).logical_not());
  });
}

void confine(const model::Adapter& adapter, const PerNeuron& neurons) {
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    const auto& pair = adapter.layers[layer][static_cast<size_t>(Projection::down)];
    if (!pair.a.defined()) continue;
    pair.a.detach().mul_(at_projection(neurons, layer, Projection::down));  // shares the memory
  }
}

void confine_gradients(const model::Adapter& adapter, const PerNeuron& neurons) {
  const at::NoGradGuard no_grad;
  const auto keep = [](const at::Tensor& parameter, const at::Tensor& kept) {
    if (parameter.grad().defined()) parameter.mutable_grad().mul_(kept);
  };
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (size_t target = 0; target < adapter.layers[layer].size(); ++target) {
      const model::LoraPair& pair = adapter.layers[layer][target];
      const at::Tensor &a = pair.a, &b = pair.b, &chosen = neurons[layer][target];
      if (!a.defined()) continue;
      if (!chosen.defined()) {
        a.mutable_grad().reset();
        b.mutable_grad().reset();
      } else if (static_cast<Projection>(target) == Projection::down) {
        keep(a, chosen);
      } else {
        keep(b, chosen.unsqueeze(1));
      }
    }
  }
}

train::Learner run_rsn_tune(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step) {
  const RefusalSftOptions& sft = options.refusal_sft;
  const RsnTuneOptions& own = options.rsn_tune;
  const auto& config = inputs.model->config;
  model::refuse_quantized(inputs.model->weights, "rsn-tune");
  if (config.fused_projections || config.mixture.num_experts > 0) {
    fail("rsn-tune: {} joins projections or has experts; neurons are only found where q, k, v, up and down are apart",
         config.architecture);
  }
  if (!sft.lora.use_peft || sft.lora.use_dora) {
    fail_usage("rsn-tune confines a LoRA adapter to neurons: it does not go with use_peft false or use_dora");
  }
  const auto refusals = refusal_examples(inputs);
  const auto detected = [&](std::span<const train::Example> examples) {
    return important_neurons(*inputs.model, spread(examples, own.queries), own.top_share, own.consistency);
  };
  const auto neurons = without(detected(refusals), detected(inputs.benign.examples));
  if (count_of(neurons) == 0) {
    fail(
        "rsn-tune: no neuron is among the {} most important for {} of {} refusals and for fewer benign answers; raise "
        "defend.rsn_tune.top_share or lower defend.rsn_tune.consistency",
        own.top_share, own.consistency, own.queries);
  }
  auto fresh = train::make_learner(*inputs.model, sft.lora, inputs.seed);
  confine(fresh.adapter, neurons);
  const auto gradient = [&](const train::Learner& learner) {
    const auto batch = train::examples_of_step(refusals, sft.train_batch_size, learner.step, inputs.seed);
    const auto loss = add_anchored_gradient(learner, batch, 1.0, inputs.benign, sft.anchor, inputs.seed);
    confine_gradients(learner.adapter, neurons);
    return loss;
  };
  return run_supervised(std::move(fresh), inputs, sft, "rsn-tune", on_step, gradient);
}

}  // namespace backburn::defense
