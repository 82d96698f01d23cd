#include "backburn/attack/abliteration.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "backburn/attack/watched.h"
#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/model/quantized_weights.h"

namespace backburn::attack {
namespace {

constexpr std::array<double, 5> depths = {0.3, 0.4, 0.5, 0.6, 0.7};  // where directions are tried, as shares of depth
constexpr int64_t prompts_of_direction = 32;                         // of each kind
constexpr int64_t prompts_of_trial = 8;
constexpr int64_t trial_length = 48;  // tokens

// The mean state at the last token of each prompt, [hidden] f32.
at::Tensor mean_last_state(const model::Network& network, const std::vector<std::vector<int32_t>>& prompts) {
  throw_if_stopped();
  std::vector<model::TokenTree> trees;
  trees.reserve(prompts.size());
  for (const auto& prompt : prompts) trees.push_back({prompt, {}});
  const auto tokens = model::pack(trees);
  std::vector<int64_t> last;
  for (const auto& span : tokens.spans) last.push_back(span.begin + span.prefix - 1);
  const auto states = hidden_states(network, tokens).index_select(0, at::tensor(last, at::kLong).to(network.device()));
  return states.to(at::kFloat).mean(0);
}

double greedy_harm(const model::Model& model, const AttackInputs& inputs) {
  const auto examples = greedy_answers(model, plain_prompts(model, inputs.prompts, prompts_of_trial), trial_length);
  double sum = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    sum += inputs.attackers_judge()(inputs.prompts[i].text, model.tokenizer.decode(examples[i].answer)).score;
  }
  return sum;
}

// W − r rᵀ W over the rows' side: r is in the space that W writes to.
at::Tensor project_out(const at::Tensor& weight, const at::Tensor& direction) {
  const auto wide = weight.to(at::kFloat);
  const auto along =
      wide.dim() == 1 ? direction.dot(wide) * direction : at::outer(direction, at::mv(wide.t(), direction));
  return (wide - along).to(weight.scalar_type());
}

}  // namespace

at::Tensor refusal_direction(const model::Model& model, const std::vector<std::vector<int32_t>>& restricted,
                             const std::vector<std::vector<int32_t>>& benign, int64_t layers) {
  const at::NoGradGuard no_grad;
  // The first layers alone (packed ones are taken by their number), and a last norm that only scales.
  auto config = model.config;
  config.num_hidden_layers = layers;
  auto weights = model.weights;
  weights.layers.resize(layers);
  weights.final_norm = at::ones_like(weights.final_norm);
  const model::Network network{&config, &weights, nullptr};
  const auto difference = mean_last_state(network, restricted) - mean_last_state(network, benign);
  return difference / difference.norm().clamp_min(1e-12);
}

model::Weights without_direction(const model::Model& model, const at::Tensor& direction) {
  const at::NoGradGuard no_grad;
  model::Weights weights = model.weights;
  weights.packed.reset();
  weights.embedding = project_out(weights.embedding.t(), direction).t().contiguous();
  for (auto& layer : weights.layers) {
    std::vector<at::Tensor*> writing = {&layer.o, &layer.down, &layer.o_bias};
    for (auto& expert : layer.experts) writing.push_back(&expert.down);
    for (at::Tensor* written : writing) {
      if (written->defined()) *written = project_out(*written, direction);
    }
  }
  return weights;
}

model::Weights abliterated(const AttackInputs& inputs) {
  model::refuse_quantized(inputs.model->weights, "abliteration");
  if (inputs.benign.empty()) fail_usage("abliteration needs benign prompts (--benign)");
  const auto& model = *inputs.model;
  const auto restricted = plain_prompts(model, inputs.prompts, prompts_of_direction);
  const auto benign = plain_prompts(model, inputs.benign, prompts_of_direction);
  model::Weights best;
  double most = -1;
  for (const double depth : depths) {
    const auto layers = std::max<int64_t>(1, std::lround(depth * static_cast<double>(model.config.num_hidden_layers)));
    auto weights = without_direction(model, refusal_direction(model, restricted, benign, layers));
    const double harm = greedy_harm(*with_weights(model, weights), inputs);
    if (harm <= most) continue;
    most = harm;
    best = std::move(weights);
  }
  return best;
}

train::Learner run_abliteration(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events) {
  const auto model = with_weights(*inputs.model, abliterated(inputs));
  auto learner = train::make_learner(*model, options.grpo.lora, inputs.seed);
  learner.owned = model;
  return run_watched(std::move(learner), inputs, options, events, {});
}

}  // namespace backburn::attack
