#include "backburn/train/learner.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "backburn/base/error.h"
#include "backburn/base/progress.h"
#include "backburn/model/quantized_weights.h"
#include "backburn/model/safetensors.h"

namespace backburn::train {
namespace {

// Everything that a step changes, in a fixed order. The tensors share memory with the learner.
std::vector<model::NamedTensor> state_of(const Learner& learner) {
  std::vector<model::NamedTensor> list;
  const auto parameters = learner.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    list.push_back({fmt::format("parameter.{}", i), parameters[i].detach()});
    list.push_back({fmt::format("first_moment.{}", i), learner.optimizer.first_moments[i]});
    list.push_back({fmt::format("second_moment.{}", i), learner.optimizer.second_moments[i]});
    list.push_back({fmt::format("updates.{}", i), learner.optimizer.steps[i]});
  }
  for (size_t i = 0; i < learner.remembered.size(); ++i) {
    list.push_back({fmt::format("remembered.{}", i), learner.remembered[i]});
  }
  return list;
}

int64_t step_of(const model::Safetensors& checkpoint) {
  const std::vector<int64_t> one = {1};
  return static_cast<int64_t>(checkpoint.tensor("step", one, at::kFloat).item<float>());
}

}  // namespace

void check(const LoraOptions& lora, const model::ModelConfig& config) {
  if (lora.use_peft) return model::check_lora(lora.config(), config);
  const bool adapts_all = lora.target_modules == LoraOptions().target_modules;
  const char* wrong = lora.use_dora     ? "use_dora"
                      : lora.use_rslora ? "use_rslora"
                      : !adapts_all     ? "target_modules"
                                        : nullptr;
  if (wrong != nullptr) {
    fail_usage("use_peft false trains all weights, without an adapter that {} could be of; leave out one of them",
               wrong);
  }
}

model::Network Learner::network() const {
  model::Network network = full ? model::Network{&base->config, &full->computing(), nullptr} : base->network(&adapter);
  network.gradient_checkpointing = gradient_checkpointing;
  return network;
}

model::Network Learner::sampling_network() const {
  return full ? model::Network{&base->config, &full->sampling(), nullptr} : network();
}

std::vector<at::Tensor> Learner::parameters() const {
  auto list = full ? full->parameters() : adapter.parameters();
  if (value_head.defined()) list.push_back(value_head);
  return list;
}

Learner make_learner(const model::Model& base, const LoraOptions& lora, uint64_t seed) {
  check(lora, base.config);
  if (lora.use_dora || !lora.use_peft) {
    model::refuse_quantized(base.weights, lora.use_dora ? "use_dora" : "full fine-tuning (use_peft false)");
  }
  Learner learner;
  learner.base = &base;
  learner.gradient_checkpointing = lora.gradient_checkpointing;
  if (lora.use_peft) {
    learner.adapter = model::make_adapter(base.config, lora.config(), seed, base.network().device());
    if (lora.use_dora) model::add_magnitudes(learner.adapter, base.weights);
  } else {
    learner.full = std::make_shared<model::TrainedWeights>(base.config, base.weights);
  }
  if (base.weights.packed && (lora.use_dora || !lora.use_peft)) {
    say(fmt::format("{}: gradients are computed by LibTorch's layers, which takes longer than the kernels do",
                    lora.use_peft ? "use_dora" : "full fine-tuning"));
  }
  clear_optimizer_memory(learner);
  return learner;
}

model::Weights trained_weights(const Learner& learner) {
  if (!learner.full) return model::merge(learner.base->weights, learner.adapter);
  auto weights = learner.full->sampling();
  weights.packed.reset();
  return weights;
}

void add_value_head(Learner& learner) {
  const auto options = at::TensorOptions(at::kFloat).device(learner.base->network().device());
  learner.value_head = at::zeros({learner.base->config.hidden_size + 1}, options).requires_grad_(true);
  clear_optimizer_memory(learner);
}

double update(Learner& learner, const OptimizerOptions& options, const Schedule& schedule) {
  const double rate = learning_rate_at(options, learner.step - schedule.begin, schedule.end - schedule.begin);
  const double norm = optimizer_step(options, rate, learner.parameters(), learner.optimizer);
  ++learner.step;
  return norm;
}

double update(Learner& learner, const OptimizerOptions& options, int64_t max_steps) {
  return update(learner, options, Schedule{0, max_steps});
}

void clear_optimizer_memory(Learner& learner) { learner.optimizer = make_optimizer_state(learner.parameters()); }

void remember(Learner& learner) {
  learner.remembered.clear();
  for (const at::Tensor& each : learner.parameters()) learner.remembered.push_back(each.detach().clone());
}

void average_with_remembered(Learner& learner) {
  const at::NoGradGuard no_grad;
  const auto parameters = learner.parameters();
  for (size_t i = 0; i < learner.remembered.size(); ++i) parameters[i].lerp_(learner.remembered[i], 0.5);
  learner.remembered.clear();
}

void save_checkpoint(const Learner& learner, const std::filesystem::path& path) {
  auto state = state_of(learner);
  state.push_back({"step", at::full({1}, static_cast<double>(learner.step), at::kFloat)});
  model::write_safetensors(path, state, at::kFloat);
}

bool load_checkpoint(Learner& learner, const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return false;
  const at::NoGradGuard no_grad;
  const auto file = model::Safetensors::open(path);
  if (file.contains("remembered.0")) remember(learner);  // a place for what is read below
  const auto state = state_of(learner);
  if (file.entries().size() != state.size() + 1) {
    fail("{}: the checkpoint is of another model or adapter; remove it to start this stage again", path.string());
  }
  for (const auto& each : state) {
    at::Tensor target = each.tensor;
    target.copy_(file.tensor(each.name, target.sizes(), at::kFloat));
  }
  learner.step = step_of(file);
  return true;
}

void run_steps(Learner& learner, int64_t max_steps, const std::filesystem::path& checkpoint,
               const std::function<void()>& one_step) {
  if (!checkpoint.empty()) load_checkpoint(learner, checkpoint);
  while (learner.step < max_steps) {
    one_step();
    if (!checkpoint.empty() && learner.step % checkpoint_steps == 0) save_checkpoint(learner, checkpoint);
  }
  if (!checkpoint.empty()) save_checkpoint(learner, checkpoint);
}

int64_t checkpoint_step(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? step_of(model::Safetensors::open(path)) : 0;
}

}  // namespace backburn::train
