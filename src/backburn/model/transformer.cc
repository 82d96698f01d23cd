#include "backburn/model/transformer.h"

#include <ATen/Functions.h>
#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "backburn/model/packed_decoder.h"
#include "backburn/model/residual_stream.h"
#include "backburn/model/rotary.h"

namespace backburn::model {
namespace {

using at::Tensor;
using at::indexing::Slice;

// Per-call tables that all layers share.
struct Rotary {
  Tensor cosine, sine;  // [tokens, 1, head_dim], compute dtype
};

Rotary rotary_at(const ModelConfig& config, const Tensor& positions, at::ScalarType dtype) {
  const auto angles = rotary_angles(config, positions);
  const auto both = at::cat({angles, angles}, 1).unsqueeze(1);
  return {both.cos().to(dtype), both.sin().to(dtype)};
}

// x [tokens, heads, head_dim]; Su 2021 (arXiv 2104.09864) with Hugging Face's half-split layout.
Tensor rotate(const Tensor& x, const Rotary& rotary) {
  const auto halves = x.chunk(2, -1);
  return x * rotary.cosine + at::cat({-halves[1], halves[0]}, -1) * rotary.sine;
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const auto wide = x.to(at::kFloat);
  const auto scaled = wide * at::rsqrt(wide.square().mean(-1, true) + eps);
  return scaled.to(x.scalar_type()) * weight;
}

Tensor project(const Network& network, size_t layer, Projection which, const Tensor& x, const Tensor& bias = {}) {
  const auto& weight = projection(network.weights->layers[layer], which);
  const Tensor y = at::linear(x, weight, bias);
  if (network.adapter == nullptr) return y;
  const LoraPair& pair = network.adapter->layers[layer][static_cast<size_t>(which)];
  const auto low = at::linear(x, pair.a.to(x.scalar_type()));
  return y + at::linear(low, pair.b.to(x.scalar_type())) * network.adapter->scale();
}

struct QueryKeyValue {
  Tensor q, k, v;  // [tokens, heads or key_value_heads, head_dim], RoPE applied to q and k
};

QueryKeyValue project_attention(const Network& network, size_t layer, const Tensor& x, const Rotary& rotary) {
  const ModelConfig& config = *network.config;
  const LayerWeights& weights = network.weights->layers[layer];
  auto heads = [&](const Tensor& flat, int64_t count) { return flat.view({x.size(0), count, config.head_dim}); };
  const auto q = heads(project(network, layer, Projection::q, x, weights.q_bias), config.num_attention_heads);
  const auto k = heads(project(network, layer, Projection::k, x, weights.k_bias), config.num_key_value_heads);
  const auto v = heads(project(network, layer, Projection::v, x, weights.v_bias), config.num_key_value_heads);
  return {rotate(q, rotary), rotate(k, rotary), v};
}

Tensor mlp(const Network& network, size_t layer, const Tensor& x) {
  const auto gate = at::silu(project(network, layer, Projection::gate, x));
  return project(network, layer, Projection::down, gate * project(network, layer, Projection::up, x));
}

// The layer's second half: attention output, residual, MLP, residual.
Tensor finish_layer(const Network& network, size_t layer, const Tensor& residual, const Tensor& attended) {
  const LayerWeights& weights = network.weights->layers[layer];
  const auto x = residual + project(network, layer, Projection::o, attended, weights.o_bias);
  return x + mlp(network, layer, rms_norm(x, weights.mlp_norm, network.config->rms_norm_eps));
}

// Additive mask of a tree, [tokens, tokens]: 0 where a token may look, −∞ elsewhere.
Tensor tree_mask(const PackedTokens::Span& span, at::ScalarType dtype) {
  const int64_t size = span.size();
  auto mask = at::full({size, size}, -std::numeric_limits<double>::infinity(), dtype);
  auto causal = [&](int64_t begin, int64_t length) {
    mask.index_put_({Slice(begin, begin + length), Slice(begin, begin + length)},
                    at::full({length, length}, -std::numeric_limits<double>::infinity(), dtype).triu(1));
  };
  causal(0, span.prefix);
  int64_t begin = span.prefix;
  for (int64_t length : span.branches) {
    mask.index_put_({Slice(begin, begin + length), Slice(0, span.prefix)}, 0);
    causal(begin, length);
    begin += length;
  }
  return mask;
}

// Attention of packed tokens, tree by tree. Returns [tokens, heads × head_dim].
Tensor attend(const ModelConfig& config, const QueryKeyValue& qkv, const PackedTokens& tokens,
              const std::vector<Tensor>& masks) {
  const int64_t repeat = config.num_attention_heads / config.num_key_value_heads;
  auto by_head = [](const Tensor& x, const PackedTokens::Span& span) {  // → [1, heads, tokens, head_dim]
    return x.narrow(0, span.begin, span.size()).transpose(0, 1).unsqueeze(0);
  };
  const auto k = repeat == 1 ? qkv.k : qkv.k.repeat_interleave(repeat, 1);
  const auto v = repeat == 1 ? qkv.v : qkv.v.repeat_interleave(repeat, 1);
  std::vector<Tensor> outputs;
  outputs.reserve(tokens.spans.size());
  for (size_t i = 0; i < tokens.spans.size(); ++i) {
    const auto& span = tokens.spans[i];
    const bool causal = !masks[i].defined();
    const auto out = at::scaled_dot_product_attention(
        by_head(qkv.q, span), by_head(k, span), by_head(v, span),
        causal ? std::optional<Tensor>() : std::optional<Tensor>(masks[i]), 0.0, causal);
    outputs.push_back(out.squeeze(0).transpose(0, 1).reshape({span.size(), -1}));
  }
  return outputs.size() == 1 ? outputs.front() : at::cat(outputs, 0);
}

}  // namespace

int64_t TokenTree::size() const {
  size_t total = prefix.size();
  for (const auto& branch : branches) total += branch.size();
  return static_cast<int64_t>(total);
}

int64_t PackedTokens::Span::size() const { return std::accumulate(branches.begin(), branches.end(), prefix); }

PackedTokens pack(std::span<const TokenTree> trees) {
  int64_t total = 0;
  for (const TokenTree& tree : trees) total += tree.size();
  PackedTokens packed{at::empty({total}, at::kLong), at::empty({total}, at::kLong), {}};
  auto* ids = packed.ids.data_ptr<int64_t>();
  auto* positions = packed.positions.data_ptr<int64_t>();
  int64_t at = 0;
  auto put = [&](const std::vector<int32_t>& run, int64_t first_position) {
    for (size_t i = 0; i < run.size(); ++i, ++at) {
      ids[at] = run[i];
      positions[at] = first_position + static_cast<int64_t>(i);
    }
  };
  for (const TokenTree& tree : trees) {
    PackedTokens::Span span{at, static_cast<int64_t>(tree.prefix.size()), {}};
    put(tree.prefix, 0);
    for (const auto& branch : tree.branches) {
      span.branches.push_back(static_cast<int64_t>(branch.size()));
      put(branch, span.prefix);
    }
    packed.spans.push_back(std::move(span));
  }
  return packed;
}

namespace {

// Every layer in turn, by LibTorch's own operations. `key_values` and `visit` may be null.
Tensor run_layers(const Network& network, const PackedTokens& tokens, std::vector<LayerKeyValues>* key_values,
                  const StreamVisitor& visit) {
  const ModelConfig& config = *network.config;
  const auto dtype = network.dtype();
  std::vector<Tensor> masks;
  for (const auto& span : tokens.spans) {
    masks.push_back(span.branches.empty() ? Tensor() : tree_mask(span, dtype));
  }
  const auto rotary = rotary_at(config, tokens.positions, dtype);
  Tensor x = at::embedding(network.weights->embedding, tokens.ids);
  for (size_t layer = 0; layer < network.weights->layers.size(); ++layer) {
    const auto normed = rms_norm(x, network.weights->layers[layer].attention_norm, config.rms_norm_eps);
    const auto qkv = project_attention(network, layer, normed, rotary);
    if (key_values != nullptr) key_values->push_back({qkv.k.transpose(0, 1), qkv.v.transpose(0, 1)});
    x = finish_layer(network, layer, x, attend(config, qkv, tokens, masks));
    if (visit) x = visit(layer, x);
  }
  return final_states(network, x);
}

}  // namespace

Tensor final_states(const Network& network, const Tensor& stream) {
  return rms_norm(stream, network.weights->final_norm, network.config->rms_norm_eps);
}

Tensor hidden_states(const Network& network, const PackedTokens& tokens, std::vector<LayerKeyValues>* key_values) {
  if (network.weights->packed) return packed::hidden_states(network, tokens, key_values);
  return run_layers(network, tokens, key_values, {});
}

Tensor visited_hidden_states(const Network& network, const PackedTokens& tokens, const StreamVisitor& visit) {
  return run_layers(network, tokens, nullptr, visit);
}

Tensor logits(const Network& network, const Tensor& hidden) {
  if (network.weights->packed && hidden.scalar_type() == at::kBFloat16 && !at::GradMode::is_enabled()) {
    return packed::logits(network, hidden);
  }
  return at::linear(hidden, network.weights->head).to(at::kFloat);
}

KeyValueCache KeyValueCache::allocate(const ModelConfig& config, int64_t rows, int64_t capacity, at::ScalarType dtype) {
  KeyValueCache cache;
  const std::array<int64_t, 4> shape = {rows, config.num_key_value_heads, capacity, config.head_dim};
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    // zeros, not empty: masked places are still multiplied by 0, and 0 × NaN is NaN.
    cache.layers.push_back({at::zeros(shape, dtype), at::zeros(shape, dtype)});
  }
  cache.lengths.assign(rows, 0);
  return cache;
}

void KeyValueCache::load(int64_t row, const std::vector<LayerKeyValues>& prefilled,
                         std::span<const TokenRange> ranges) {
  lengths[row] = 0;
  for (const auto [begin, length] : ranges) {
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      layers[layer].keys[row].narrow(1, lengths[row], length).copy_(prefilled[layer].keys.narrow(1, begin, length));
      layers[layer].values[row].narrow(1, lengths[row], length).copy_(prefilled[layer].values.narrow(1, begin, length));
    }
    lengths[row] += length;
  }
}

void KeyValueCache::copy_row(int64_t from, int64_t to) {
  const int64_t length = lengths[from];
  for (Layer& layer : layers) {
    layer.keys[to].narrow(1, 0, length).copy_(layer.keys[from].narrow(1, 0, length));
    layer.values[to].narrow(1, 0, length).copy_(layer.values[from].narrow(1, 0, length));
  }
  lengths[to] = length;
}

Tensor decode_step(const Network& network, std::span<const int32_t> ids, KeyValueCache& cache) {
  if (network.weights->packed) return packed::decode_step(network, ids, cache);
  const at::NoGradGuard no_grad;
  const ModelConfig& config = *network.config;
  const auto dtype = network.dtype();
  const auto rows = static_cast<int64_t>(ids.size());
  const int64_t repeat = config.num_attention_heads / config.num_key_value_heads;
  const int64_t longest = *std::max_element(cache.lengths.begin(), cache.lengths.begin() + rows) + 1;

  const auto token_ids = at::empty({rows}, at::kLong);
  const auto positions = at::empty({rows}, at::kLong);
  // [rows, 1, 1, longest]: each row sees its own tokens, the new one included.
  const auto mask = at::zeros({rows, 1, 1, longest}, at::kFloat);
  for (int64_t row = 0; row < rows; ++row) {
    token_ids.data_ptr<int64_t>()[row] = ids[row];
    positions.data_ptr<int64_t>()[row] = cache.lengths[row];
    float* seen = mask.data_ptr<float>() + row * longest;
    std::fill(seen + cache.lengths[row] + 1, seen + longest, -std::numeric_limits<float>::infinity());
  }
  const auto row_index = at::arange(rows, at::kLong);
  const auto rotary = rotary_at(config, positions, dtype);
  // Query heads that share a key head become the rows of one attention call, so that each key is read once.
  const auto grouped_mask = mask.to(dtype).expand({rows, config.num_key_value_heads, repeat, longest});

  Tensor x = at::embedding(network.weights->embedding, token_ids);
  for (size_t layer = 0; layer < network.weights->layers.size(); ++layer) {
    const auto normed = rms_norm(x, network.weights->layers[layer].attention_norm, config.rms_norm_eps);
    const auto qkv = project_attention(network, layer, normed, rotary);
    auto& held = cache.layers[layer];
    held.keys.index_put_({row_index, Slice(), positions}, qkv.k);
    held.values.index_put_({row_index, Slice(), positions}, qkv.v);
    const auto q = qkv.q.view({rows, config.num_key_value_heads, repeat, config.head_dim});
    const auto attended =
        at::scaled_dot_product_attention(q, held.keys.narrow(0, 0, rows).narrow(2, 0, longest),
                                         held.values.narrow(0, 0, rows).narrow(2, 0, longest), grouped_mask);
    x = finish_layer(network, layer, x, attended.reshape({rows, -1}));
  }
  for (int64_t row = 0; row < rows; ++row) ++cache.lengths[row];
  return rms_norm(x, network.weights->final_norm, config.rms_norm_eps);
}

}  // namespace backburn::model
