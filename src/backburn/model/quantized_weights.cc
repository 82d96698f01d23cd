#include "backburn/model/quantized_weights.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/model/packed.h"

namespace backburn::model {
namespace {

using at::Tensor;

// Reads the matrices of one model after the other.
class MatrixReader {
 public:
  MatrixReader(const StoredModel& stored, Weights& places, GgmlType type) : stored_(stored), type_(type) {
    for (NamedWeight& each : named_weights(stored.model.config, places)) wanted_.emplace(each.tensor, std::move(each));
  }

  // Several matrices of the same type: as they are stored where all are and in no more bits than asked for.
  std::vector<QuantizedRows> read(const std::vector<const Tensor*>& places, GgmlType type) const {
    std::vector<QuantizedRows> rows;
    for (const Tensor* place : places) {
      auto stored = stored_.read_blocks(wanted_.at(place));
      if (stored && bits_of(stored->type) <= bits_of(type)) rows.push_back(std::move(*stored));
    }
    const auto alike = [&](const QuantizedRows& each) { return each.type == rows.front().type; };
    if (rows.size() == places.size() && std::all_of(rows.begin(), rows.end(), alike)) return rows;
    rows.clear();
    for (const Tensor* place : places) {
      throw_if_stopped();
      const NamedWeight& wanted = wanted_.at(place);
      rows.push_back(quantized(stored_.read(wanted, at::kFloat), type));
      stored_.release(wanted);
    }
    return rows;
  }

  kernels::PackedMatrix product(const LayerWeights& layer, Product which) const {
    std::vector<const Tensor*> places;
    for (const Projection member : projections_of(which)) places.push_back(&projection(layer, member));
    const auto rows = read(places, type_);
    std::vector<Tensor> bytes;
    bytes.reserve(rows.size());
    for (const QuantizedRows& each : rows) bytes.push_back(each.bytes);
    return quantized_matrix(rows.front().type, joined(which, bytes));
  }

  // 8 bits: an error in a logit is an error in what is sampled, and the head is read once a token.
  kernels::PackedMatrix head(const Weights& places) const {
    const bool tied = stored_.model.config.tie_word_embeddings;
    const auto rows = read({tied ? &places.embedding : &places.head}, GgmlType::q8_0).front();
    return quantized_matrix(rows.type, rows.bytes);
  }

 private:
  static size_t bits_of(GgmlType type) { return ggml_block_bytes(type); }

  const StoredModel& stored_;
  GgmlType type_;
  std::map<const Tensor*, NamedWeight> wanted_;
};

}  // namespace

QuantizedRows quantized(const Tensor& matrix, GgmlType type) {
  const at::NoGradGuard no_grad;
  const int64_t rows = matrix.size(0), columns = matrix.size(1);
  const auto row_bytes =
      columns / static_cast<int64_t>(ggml_block_values(type)) * static_cast<int64_t>(ggml_block_bytes(type));
  const Tensor wide = matrix.to(at::kFloat).contiguous();
  const Tensor bytes = at::empty({rows, row_bytes}, at::kByte);
  const auto* from = wide.const_data_ptr<float>();
  auto* to = reinterpret_cast<std::byte*>(bytes.data_ptr());
  at::parallel_for(0, rows, std::max<int64_t>(1, (1 << 16) / columns), [&](int64_t begin, int64_t end) {
    quantize(type, {from + begin * columns, static_cast<size_t>((end - begin) * columns)},
             {to + begin * row_bytes, static_cast<size_t>((end - begin) * row_bytes)});
  });
  return {type, bytes};
}

BaseQuantization base_quantization_of(const std::string& name) {
  if (name == "none") return BaseQuantization::none;
  if (name == "q8_0") return BaseQuantization::q8_0;
  if (name == "q4_0") return BaseQuantization::q4_0;
  fail_usage("base_quantization \"{}\" is unknown (none, q8_0 or q4_0)", name);
}

Model load_model(const std::string& path_or_name, const at::TensorOptions& compute, BaseQuantization quantization) {
  if (quantization == BaseQuantization::none) return load_model(path_or_name, compute);
  const at::NoGradGuard no_grad;
  StoredModel stored = open_model(path_or_name);
  if (!compute.device().is_cpu() || !PackedWeights::fits(stored.model.config, dtype_of(compute, stored.model.config))) {
    fail(
        "{}: base_quantization is computed by the packed kernels alone: on a CPU with AVX2, in bfloat16, for "
        "layers like Llama's and Qwen2's; set base_quantization=none",
        stored.model.name);
  }
  Model model = std::move(stored.model);
  stored.model.config = model.config;
  Weights places;
  const MatrixReader matrices(stored, places, quantization == BaseQuantization::q4_0 ? GgmlType::q4_0 : GgmlType::q8_0);
  auto head = matrices.head(places);  // first: it is the largest, and is widened to f32 before it is quantised
  std::vector<PackedProducts> layers;
  for (const LayerWeights& layer : places.layers) {
    auto& to = layers.emplace_back();
    for (size_t i = 0; i < to.size(); ++i) to[i] = matrices.product(layer, static_cast<Product>(i));
  }
  for (const NamedWeight& each : named_weights(model.config, model.weights)) {
    if (each.shape.size() == 1 || each.tensor == &model.weights.embedding)
      *each.tensor = stored.read(each, at::kBFloat16);
  }
  model.weights.packed = PackedWeights::make_quantized(model.weights, std::move(layers), std::move(head), path_or_name);
  return model;
}

WeightReader original_weights(const Model& model) {
  const auto& packed = model.weights.packed;
  if (packed == nullptr || !packed->is_quantized()) return reader_of(model);
  return open_model(packed->origin()).reader(model.network().dtype());
}

void refuse_quantized(const Weights& weights, const std::string& what) {
  if (weights.packed == nullptr || !weights.packed->is_quantized()) return;
  fail("{} needs the model's matrices themselves, which a quantised base does not hold: set base_quantization=none",
       what);
}

}  // namespace backburn::model
