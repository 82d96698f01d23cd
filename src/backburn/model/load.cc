#include "backburn/model/load.h"

#include <ATen/Context.h>

#include "backburn/base/error.h"
#include "backburn/model/packed.h"
#include "backburn/model/products.h"
#include "backburn/model/stored.h"

namespace backburn::model {
namespace {

// With the weights where they compute, and laid out for it.
Model placed(Model model, at::Device device) {
  if (!device.is_cpu()) {
    for (const NamedWeight& each : named_weights(model.config, model.weights)) *each.tensor = each.tensor->to(device);
    if (model.config.tie_word_embeddings) model.weights.head = model.weights.embedding;
  }
  model.weights.packed = PackedWeights::make(model.config, model.weights);
  return model;
}

}  // namespace

Model load_model(const std::string& path_or_name, const at::TensorOptions& compute) {
  StoredModel stored = open_model(path_or_name);
  const auto dtype = dtype_of(compute, stored.model.config);
  if (dtype != at::kBFloat16 && dtype != at::kFloat)
    fail("models compute in bf16 or f32, not in {}", at::toString(dtype));
  return placed(read_all(std::move(stored), dtype), compute.device());
}

at::Device device_of(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name != "auto" && name != "cuda") fail_usage("device \"{}\" is unknown (auto, cpu or cuda)", name);
  if (at::hasCUDA()) return at::Device(at::kCUDA, 0);
  if (name == "auto") return at::kCPU;
  fail_usage(
      "device cuda: this program's LibTorch finds no CUDA device; give --device cpu, or see docs/performance.md");
}

at::ScalarType default_dtype(const ModelConfig& config, at::Device device) {
  return has_bf16_products(device) || PackedWeights::fits(config, at::kBFloat16) ? at::kBFloat16 : at::kFloat;
}

at::ScalarType dtype_of(const at::TensorOptions& compute, const ModelConfig& config) {
  return compute.has_dtype() ? compute.dtype().toScalarType() : default_dtype(config, compute.device());
}

std::vector<int32_t> chat_prompt(const Model& model, std::span<const text::Message> messages,
                                 bool add_generation_prompt) {
  auto token = [&](int64_t id) {
    return id < 0 ? std::string() : std::string(model.tokenizer.token(static_cast<int32_t>(id)));
  };
  const int64_t stop = model.config.stop_token_ids.empty() ? -1 : model.config.stop_token_ids.front();
  const std::string text =
      model.chat_template.render(messages, add_generation_prompt, token(model.config.bos_token_id), token(stop));
  return model.tokenizer.encode(text, true);
}

std::vector<int32_t> chat_prompt(const Model& model, const std::string& user, const std::string& system) {
  std::vector<text::Message> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", user});
  return chat_prompt(model, messages);
}

}  // namespace backburn::model
