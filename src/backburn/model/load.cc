#include "backburn/model/load.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/util/BFloat16.h>
#include <cpuid.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/model/gguf.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/packed.h"
#include "backburn/model/pull.h"
#include "backburn/model/tensor_bytes.h"

namespace backburn::model {
namespace {

// How a stored tensor's rows map to ours. ggml's Llama conversion interleaves the two halves of every query
// and key head (its RoPE rotates neighbours), so row 2j + s of a head there is row s·d/2 + j here.
struct RowOrder {
  int64_t head_dim = 0;  // 0: as stored

  int64_t operator()(int64_t row) const {
    if (head_dim == 0) return row;
    const int64_t within = row % head_dim;
    return row - within + (within % 2) * (head_dim / 2) + within / 2;
  }
};

at::Tensor read_tensor(const GgufFile& file, const NamedWeight& wanted, RowOrder order, at::ScalarType dtype) {
  const std::string origin = file.path().string();
  const std::string name = gguf_tensor_name(wanted.name);
  const GgufTensor* stored = file.find_tensor(name);
  if (stored == nullptr) fail("{}: tensor \"{}\" is missing", origin, name);
  if (stored->shape != wanted.shape) {
    fail("{}: tensor \"{}\" has shape [{}], expected [{}]", origin, name, fmt::join(stored->shape, ", "),
         fmt::join(wanted.shape, ", "));
  }
  const auto bytes = file.bytes(*stored);
  const bool as_wanted = (stored->type == GgmlType::f32 && dtype == at::kFloat) ||
                         (stored->type == GgmlType::bf16 && dtype == at::kBFloat16);
  if (as_wanted && order.head_dim == 0) {
    at::Tensor view = view_bytes(file.mapping(), bytes, wanted.shape, dtype);
    check_finite(view, name, origin);
    return view;
  }

  // A vector whose values are reordered is a column of rows of one value.
  const bool column = wanted.shape.size() == 1 && order.head_dim != 0;
  const int64_t width = column ? 1 : wanted.shape.back();
  const int64_t rows = stored->values() / width;
  if (width % static_cast<int64_t>(ggml_block_values(stored->type)) != 0) {
    fail("{}: tensor \"{}\" is a bias stored as {}, expected F32", origin, name, ggml_type_name(stored->type));
  }
  const size_t row_bytes = bytes.size() / static_cast<size_t>(rows);
  const auto row_size = static_cast<size_t>(width);
  at::Tensor tensor = at::empty(wanted.shape, dtype);
  at::parallel_for(0, rows, std::max<int64_t>(1, (1 << 16) / width), [&](int64_t begin, int64_t end) {
    std::vector<float> values(row_size);
    for (int64_t row = begin; row < end; ++row) {
      const auto blocks = bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes);
      const int64_t target = order(row) * width;
      if (dtype == at::kFloat) {
        dequantize(stored->type, blocks, {tensor.mutable_data_ptr<float>() + target, row_size});
        continue;
      }
      dequantize(stored->type, blocks, values);
      c10::BFloat16* out = tensor.mutable_data_ptr<c10::BFloat16>() + target;
      for (size_t i = 0; i < row_size; ++i) out[i] = values[i];
    }
  });
  release_pages(bytes);
  check_finite(tensor, name, origin);
  return tensor;
}

Model load_gguf(const std::filesystem::path& path, at::ScalarType dtype) {
  const GgufFile file = GgufFile::open(path);
  const std::string origin = path.string();
  ModelConfig config = config_from_gguf(file);
  text::Tokenizer tokenizer = text::Tokenizer::from_vocabulary(vocabulary(file), origin);
  if (static_cast<int64_t>(tokenizer.size()) > config.vocab_size) {
    fail("{}: the tokenizer has {} tokens, the embedding only {}", origin, tokenizer.size(), config.vocab_size);
  }
  const auto source = chat_template(file);
  if (!source)
    fail("{}: the file has no chat template (tokenizer.chat_template); an instruction-tuned model is needed", origin);
  Model model{
      std::move(config), {}, std::move(tokenizer), text::ChatTemplate::parse(*source, origin), path.stem().string()};

  const bool interleaved = model.config.architecture == "llama";
  for (const NamedWeight& wanted : named_weights(model.config, model.weights)) {
    throw_if_stopped();
    const bool rotated =
        wanted.name.find("q_proj") != std::string::npos || wanted.name.find("k_proj") != std::string::npos;
    *wanted.tensor = read_tensor(file, wanted, {interleaved && rotated ? model.config.head_dim : 0}, dtype);
  }
  if (model.config.tie_word_embeddings) model.weights.head = model.weights.embedding;
  return model;
}

// With the weights where they compute, and laid out for it.
Model placed(Model model, at::Device device) {
  if (!device.is_cpu()) {
    for (const NamedWeight& each : named_weights(model.config, model.weights)) *each.tensor = each.tensor->to(device);
    if (model.config.tie_word_embeddings) model.weights.head = model.weights.embedding;
  }
  model.weights.packed = PackedWeights::make(model.config, model.weights);
  return model;
}

std::string known_names() {
  std::string names;
  for (const NamedModel& each : named_models()) names += (names.empty() ? "" : ", ") + each.name;
  return names;
}

}  // namespace

Model load_model(const std::string& path_or_name, const at::TensorOptions& compute) {
  const auto dtype = compute.dtype().toScalarType();
  const auto device = compute.device();
  if (dtype != at::kBFloat16 && dtype != at::kFloat)
    fail("models compute in bf16 or f32, not in {}", at::toString(dtype));
  const std::filesystem::path path = path_or_name;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return placed(load_hugging_face(path, dtype), device);
  if (std::filesystem::exists(path, ignored)) return placed(load_gguf(path, dtype), device);
  const NamedModel* named = find_named_model(path_or_name);
  if (named == nullptr) {
    fail("{}: no such file or folder, and no model of that name (known names: {})", path_or_name, known_names());
  }
  if (!is_cached(*named)) {
    fail("{}: not in the cache ({}), fetch it with `backburn pull {}`", named->name, cached_path(*named).string(),
         named->name);
  }
  Model model = placed(load_gguf(cached_path(*named), dtype), device);
  model.name = named->name;
  return model;
}

at::Device device_of(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (name != "auto" && name != "cuda") fail_usage("device \"{}\" is unknown (auto, cpu or cuda)", name);
  if (at::hasCUDA()) return at::Device(at::kCUDA, 0);
  if (name == "auto") return at::kCPU;
  fail_usage(
      "device cuda: this program's LibTorch finds no CUDA device; give --device cpu, or see docs/performance.md");
}

at::ScalarType default_dtype(at::Device device) {
  if (device.is_cuda()) return at::kBFloat16;
  // Leaf 7, sub-leaf 0, edx bit 22: AMX-BF16 (Intel SDM, volume 2, CPUID).
  unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool amx = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx >> 22 & 1) != 0;
  return amx || __builtin_cpu_supports("avx512bf16") ? at::kBFloat16 : at::kFloat;
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
