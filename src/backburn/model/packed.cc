#include "backburn/model/packed.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "backburn/kernels/cpu.h"
#include "backburn/kernels/huge_pages.h"

namespace backburn::model {
namespace {

using at::Tensor;

kernels::PackedMatrix pack(const Tensor& matrix, kernels::HugePages* memory = nullptr) {
  const Tensor rows = matrix.to(at::kBFloat16).contiguous();
  return {reinterpret_cast<const kernels::bf16*>(rows.data_ptr()), rows.size(0), rows.size(1), memory};
}

// Rows of gate and up in turn, 16 of each: [2 × inner, …].
Tensor interleaved(const Tensor& gate, const Tensor& up) {
  const auto blocks = [](const Tensor& x) { return x.unflatten(0, {x.size(0) / 16, 16}); };
  return at::cat({blocks(gate), blocks(up)}, 1).flatten(0, 1);
}

Tensor matrix_of(const LayerWeights& layer, Product product) {
  std::vector<Tensor> members;
  for (const Projection member : projections_of(product)) members.push_back(projection(layer, member));
  return joined(product, members);
}

// The same tiles, read the other way round.
kernels::PackedMatrix turned(const kernels::PackedMatrix& matrix) {
  return kernels::PackedMatrix(matrix.quantized(), !matrix.is_transposed());
}

// Rows [begin, end).
Tensor unpack(const kernels::PackedMatrix& matrix, int64_t begin, int64_t end) {
  Tensor rows = at::empty({end - begin, matrix.k()}, at::kBFloat16);
  matrix.quantized()->unpack(begin, end, reinterpret_cast<kernels::bf16*>(rows.data_ptr()));
  return rows;
}

std::vector<float> floats(const std::vector<Tensor>& parts) {
  if (parts.empty() || !parts.front().defined()) return {};
  const Tensor wide = at::cat(parts).to(at::kFloat).contiguous();
  return {wide.data_ptr<float>(), wide.data_ptr<float>() + wide.numel()};
}

constexpr std::array<Product, 4> products = {Product::qkv, Product::o, Product::gate_up, Product::down};

// A and B of a product's projections as single matrices, [low, in] and [out, low]; undefined when the adapter leaves
// all of them alone, zero where it leaves one of them.
std::pair<Tensor, Tensor> low_rank_of(const Adapter& adapter, const ModelConfig& config, size_t layer,
                                      Product product) {
  const int64_t rank = adapter.rank;
  const int64_t width = padded_rank(rank);
  std::vector<Tensor> as, bs;
  const auto members = projections_of(product);
  const auto pair_of = [&](Projection which) -> const LoraPair& {
    return adapter.layers[layer][static_cast<size_t>(which)];
  };
  const auto is_adapted = [&](Projection which) { return pair_of(which).a.defined(); };
  if (std::none_of(members.begin(), members.end(), is_adapted)) return {};
  for (size_t i = 0; i < members.size(); ++i) {
    const LoraPair& pair = pair_of(members[i]);
    const auto [out, in] = projection_shape(config, members[i]);
    const auto a = is_adapted(members[i]) ? pair.a.to(at::kFloat) : at::zeros({rank, in}, at::kFloat);
    const auto b =
        is_adapted(members[i]) ? pair.b.to(at::kFloat) * adapter.scale() : at::zeros({out, rank}, at::kFloat);
    as.push_back(at::constant_pad_nd(a, {0, 0, 0, width - rank}));
    const auto before = static_cast<int64_t>(i) * width;
    const auto after = static_cast<int64_t>(members.size()) * width - before - rank;
    bs.push_back(at::constant_pad_nd(b, {before, after}));
  }
  return {at::cat(as), product == Product::gate_up ? interleaved(bs[0], bs[1]) : at::cat(bs)};
}

}  // namespace

std::vector<Projection> projections_of(Product product) {
  switch (product) {
    case Product::qkv: return {Projection::q, Projection::k, Projection::v};
    case Product::o: return {Projection::o};
    case Product::gate_up: return {Projection::gate, Projection::up};
    case Product::down: return {Projection::down};
  }
  throw std::logic_error("projections_of: no such product");
}

Tensor joined(Product product, const std::vector<Tensor>& members) {
  if (members.size() == 1) return members.front();
  return product == Product::gate_up ? interleaved(members[0], members[1]) : at::cat(members);
}

kernels::PackedMatrix quantized_matrix(GgmlType type, const Tensor& blocks) {
  const auto block = type == GgmlType::q4_0 ? kernels::BlockType::q4_0 : kernels::BlockType::q8_0;
  const Tensor rows = blocks.contiguous();
  const int64_t columns = rows.size(1) / kernels::block_bytes(block) * kernels::QuantizedMatrix::tile_size;
  return kernels::PackedMatrix(
      std::make_shared<const kernels::QuantizedMatrix>(block, rows.const_data_ptr<uint8_t>(), rows.size(0), columns));
}

int64_t padded_rank(int64_t rank) { return (rank + 15) / 16 * 16; }

bool PackedWeights::fits(const ModelConfig& config, at::ScalarType dtype) {
  const bool sizes = config.hidden_size % 32 == 0 && config.intermediate_size % 32 == 0 && config.head_dim % 32 == 0 &&
                     config.head_dim <= 256 && config.vocab_size % 2 == 0 && config.is_plain();
  return kernels::available() && dtype == at::kBFloat16 && sizes;
}

std::shared_ptr<PackedWeights> PackedWeights::make(const ModelConfig& config, const Weights& weights) {
  if (!weights.embedding.is_cpu() || !fits(config, weights.embedding.scalar_type())) return nullptr;
  const at::NoGradGuard no_grad;
  kernels::HugePages memory;
  auto packed = std::make_shared<PackedWeights>();
  packed->weights_ = weights;
  packed->weights_.packed.reset();
  for (const LayerWeights& layer : weights.layers) {
    auto& to = packed->layers_.emplace_back();
    for (size_t i = 0; i < products.size(); ++i) to[i] = pack(matrix_of(layer, products[i]), &memory);
  }
  packed->head_ = pack(weights.head, &memory);
  packed->read_biases(weights);
  return packed;
}

std::shared_ptr<PackedWeights> PackedWeights::make_quantized(const Weights& weights, std::vector<PackedProducts> layers,
                                                             kernels::PackedMatrix head, const std::string& origin) {
  const at::NoGradGuard no_grad;
  auto packed = std::make_shared<PackedWeights>();
  packed->layers_ = std::move(layers);
  packed->head_ = std::move(head);
  packed->origin_ = origin;
  packed->read_biases(weights);
  return packed;
}

void PackedWeights::read_biases(const Weights& weights) {
  for (const LayerWeights& layer : weights.layers) {
    qkv_biases_.push_back(layer.q_bias.defined() ? floats({layer.q_bias, layer.k_bias, layer.v_bias})
                                                 : std::vector<float>());
    o_biases_.push_back(floats({layer.o_bias}));
  }
}

Tensor PackedWeights::unpacked(const ModelConfig& config, size_t layer, Projection which) const {
  for (const Product product : products) {
    const auto members = projections_of(product);
    const auto& matrix = layers_[layer][static_cast<size_t>(product)];
    int64_t begin = 0;
    for (size_t i = 0; i < members.size(); ++i) {
      const int64_t rows = projection_shape(config, members[i]).first;
      if (members[i] == which && product == Product::gate_up) {
        return unpack(matrix, 0, matrix.n())
            .view({rows / 16, 2, 16, matrix.k()})
            .select(1, static_cast<int64_t>(i))
            .reshape({rows, matrix.k()});
      }
      if (members[i] == which) return unpack(matrix, begin, begin + rows);
      begin += rows;
    }
  }
  throw std::logic_error("PackedWeights::unpacked: no such projection");
}

Tensor PackedWeights::unpacked_head() const { return unpack(head_, 0, head_.n()); }

const PackedProducts& PackedWeights::transposed(size_t index) const {
  std::call_once(transposed_once_, [&] {
    const at::NoGradGuard no_grad;
    kernels::HugePages memory;
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      auto& to = transposed_.emplace_back();
      for (size_t i = 0; i < products.size(); ++i) {
        to[i] = is_quantized() ? turned(layers_[layer][i])
                               : pack(matrix_of(weights_.layers[layer], products[i]).t(), &memory);
      }
    }
  });
  return transposed_[index];
}

const kernels::PackedMatrix& PackedWeights::head_transposed() const {
  std::call_once(head_once_, [&] {
    const at::NoGradGuard no_grad;
    kernels::HugePages memory;
    head_transposed_ = is_quantized() ? turned(head_) : pack(weights_.head.t(), &memory);
  });
  return head_transposed_;
}

Tensor whole_head(const Weights& weights) {
  return weights.head.defined() ? weights.head : weights.packed->unpacked_head();
}

PackedAdapter pack_adapter(const Adapter& adapter, const ModelConfig& config, bool with_transposed) {
  const at::NoGradGuard no_grad;
  PackedAdapter packed;
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    auto& forward = packed.layers.emplace_back();
    if (with_transposed) packed.transposed.emplace_back();
    for (size_t i = 0; i < products.size(); ++i) {
      const auto [a, b] = low_rank_of(adapter, config, layer, products[i]);
      if (!a.defined()) continue;
      forward[i] = {pack(a), pack(b)};
      if (with_transposed) packed.transposed.back()[i] = {pack(a.t()), pack(b.t())};
    }
  }
  return packed;
}

}  // namespace backburn::model
