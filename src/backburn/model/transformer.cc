#include "backburn/model/transformer.h"

#include <ATen/Functions.h>
#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "backburn/model/packed.h"
#include "backburn/model/packed_decoder.h"
#include "backburn/model/products.h"
#include "backburn/model/residual_stream.h"
#include "backburn/model/rotary.h"

namespace backburn::model {
namespace {

using at::Tensor;
using at::indexing::Slice;

// Per-call tables that all layers share.
struct Rotary {
  Tensor cosine, sine;  // [tokens, 1, turned dimensions], compute dtype
};

Rotary rotary_at(const ModelConfig& config, const Tensor& positions, at::ScalarType dtype, bool local) {
  const auto [cosine, sine] = rotary_table(config, positions, local);
  const auto twice = [&](const Tensor& half) { return at::cat({half, half}, 1).unsqueeze(1).to(dtype); };
  return {twice(cosine), twice(sine)};
}

// Layers with a sliding window may turn by angles of their own.
struct Rotaries {
  Rotary global, local;
  const Rotary& of(const ModelConfig& config, size_t layer) const {
    return config.sliding_window(layer) > 0 ? local : global;
  }
};

Rotaries rotaries_at(const ModelConfig& config, const Tensor& positions, at::ScalarType dtype) {
  const auto global = rotary_at(config, positions, dtype, false);
  return {global, config.local_rope_theta == 0 ? global : rotary_at(config, positions, dtype, true)};
}

// x [tokens, heads, head_dim]; Su 2021 (arXiv 2104.09864) with Hugging Face's half-split layout.
Tensor rotate(const Tensor& x, const Rotary& rotary) {
  const int64_t turned = rotary.cosine.size(-1);
  if (turned < x.size(-1)) {
    return at::cat({rotate(x.narrow(-1, 0, turned), rotary), x.narrow(-1, turned, x.size(-1) - turned)}, -1);
  }
  const auto halves = x.chunk(2, -1);
  return x * rotary.cosine + at::cat({-halves[1], halves[0]}, -1) * rotary.sine;
}

Tensor rms_norm(const ModelConfig& config, const Tensor& x, const Tensor& weight) {
  const auto wide = x.to(at::kFloat);
  const auto scaled = wide * at::rsqrt(wide.square().mean(-1, true) + config.rms_norm_eps);
  if (config.norm_adds_one) return (scaled * (weight.to(at::kFloat) + 1)).to(x.scalar_type());
  return scaled.to(x.scalar_type()) * weight;
}

// Without such a norm, x itself.
Tensor norm_if_there(const ModelConfig& config, const Tensor& x, const Tensor& weight) {
  return weight.defined() ? rms_norm(config, x, weight) : x;
}

Tensor embed(const Network& network, const Tensor& ids) {
  const Tensor x = at::embedding(network.weights->embedding, ids);
  const double scale = network.config->embedding_scale;
  // Rounded as Transformers rounds it.
  return scale == 1 ? x : x * at::scalar_tensor(scale, x.options());
}

// The final hidden states, as the head takes them.
Tensor finish(const Network& network, const Tensor& x) {
  const Tensor normed = rms_norm(*network.config, x, network.weights->final_norm);
  return network.config->logit_scale == 1 ? normed : normed * network.config->logit_scale;
}

// Which linear layer of the model.
struct Place {
  size_t layer;
  Projection which;
  int64_t expert = -1;
};

struct Unpacking : torch::CustomClassHolder {
  std::function<Tensor()> weight;
  Tensor bias;
};

// x · Wᵀ + bias for a quantised weight, which is unpacked here and again for the gradient.
class QuantizedLinear : public torch::autograd::Function<QuantizedLinear> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x,
                        const c10::intrusive_ptr<Unpacking>& unpacking) {
    context->saved_data["unpacking"] = c10::IValue::make_capsule(unpacking);
    return linear_product(x, unpacking->weight(), unpacking->bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& slopes) {
    const auto holder = context->saved_data["unpacking"].toCapsule();
    return {matrix_product(slopes[0], static_cast<const Unpacking&>(*holder).weight()), Tensor()};
  }
};

Tensor quantized_linear(const Network& network, const Place& place, const Tensor& x, const Tensor& bias) {
  const auto unpacking = c10::make_intrusive<Unpacking>();
  unpacking->weight = [packed = network.weights->packed, config = *network.config, place] {
    return packed->unpacked(config, place.layer, place.which);
  };
  unpacking->bias = bias;
  return QuantizedLinear::apply(x, unpacking);
}

// An undefined weight is a quantised one.
Tensor project(const Network& network, const Place& place, const Tensor& weight, const Tensor& x,
               const Tensor& bias = {}) {
  const auto unchanged = [&](const Tensor& added) {
    return weight.defined() ? linear_product(x, weight, added) : quantized_linear(network, place, x, added);
  };
  const Adapter* adapter = network.adapter;
  if (adapter == nullptr) return unchanged(bias);
  const LoraPair& pair = adapter->layers[place.layer][linear_index(*network.config, place.which, place.expert)];
  if (!pair.a.defined()) return unchanged(bias);
  const auto low = linear_product(x, pair.a.to(x.options()));
  const auto update = linear_product(low, pair.b.to(x.options())) * adapter->scale();
  if (!pair.magnitude.defined()) return unchanged(bias) + update;
  const auto ratio = pair.ratio.defined() ? pair.ratio : row_ratio(weight, pair, adapter->scale()).to(x.options());
  const auto y = (linear_product(x, weight) + update) * ratio;
  return bias.defined() ? y + bias : y;
}

struct QueryKeyValue {
  Tensor q, k, v;  // [tokens, heads or key_value_heads, head_dim], RoPE applied to q and k
};

QueryKeyValue project_attention(const Network& network, size_t layer, const Tensor& x, const Rotary& rotary) {
  const ModelConfig& config = *network.config;
  const LayerWeights& weights = network.weights->layers[layer];
  const auto heads = [&](const Tensor& flat) { return flat.view({x.size(0), -1, config.head_dim}); };
  const bool norm_whole = config.query_key_norm == QueryKeyNorm::whole;
  const auto placed = [&](const Tensor& flat, const Tensor& norm) {
    const auto parts = norm_whole ? heads(rms_norm(config, flat, norm)) : norm_if_there(config, heads(flat), norm);
    return config.has_rope(layer) ? rotate(parts, rotary) : parts;
  };
  if (config.fused_projections) {
    const auto fused = project(network, {layer, Projection::qkv}, weights.qkv, x);
    const int64_t queries = config.num_attention_heads * config.head_dim;
    const int64_t keys = config.num_key_value_heads * config.head_dim;
    const auto parts = fused.split_with_sizes({queries, keys, keys}, 1);
    return {placed(parts[0], weights.q_norm), placed(parts[1], weights.k_norm), heads(parts[2])};
  }
  return {placed(project(network, {layer, Projection::q}, weights.q, x, weights.q_bias), weights.q_norm),
          placed(project(network, {layer, Projection::k}, weights.k, x, weights.k_bias), weights.k_norm),
          heads(project(network, {layer, Projection::v}, weights.v, x, weights.v_bias))};
}

Tensor activate(const ModelConfig& config, const Tensor& gate) {
  return config.hidden_act == "silu" ? at::silu(gate) : at::gelu(gate, "tanh");
}

Tensor gated_mlp(const Network& network, size_t layer, int64_t expert, const MlpWeights& mlp, const Tensor& x) {
  const auto gate = project(network, {layer, Projection::gate, expert}, mlp.gate, x);
  const auto up = project(network, {layer, Projection::up, expert}, mlp.up, x);
  return project(network, {layer, Projection::down, expert}, mlp.down, activate(*network.config, gate) * up);
}

// Every token through the experts that the router chooses for it, weighted by their shares (Shazeer 2017, arXiv
// 1701.06538). The shares are differentiable, the choice is not.
Tensor mixture_of_experts(const Network& network, size_t layer, const Tensor& x) {
  const MixtureOfExperts& mixture = network.config->mixture;
  const LayerWeights& weights = network.weights->layers[layer];
  const auto probabilities = at::softmax(linear_product(x, weights.router), -1, at::kFloat);
  auto [shares, chosen] = probabilities.topk(mixture.num_experts_per_tok, -1);
  if (mixture.norm_topk_prob) shares = shares / shares.sum(-1, true);
  shares = shares.to(x.scalar_type());
  auto sum = at::zeros_like(x);
  for (int64_t expert = 0; expert < mixture.num_experts; ++expert) {
    const auto hits = (chosen == expert).nonzero();  // [hits, 2]: the token, and which of its choices
    if (hits.size(0) == 0) continue;
    const auto tokens = hits.select(1, 0);
    const auto share = shares.index({tokens, hits.select(1, 1)}).unsqueeze(1);
    const auto out = gated_mlp(network, layer, expert, weights.experts[expert], x.index_select(0, tokens));
    sum = sum.index_add(0, tokens, out * share);
  }
  return sum;
}

Tensor feed_forward(const Network& network, size_t layer, const Tensor& x) {
  const LayerWeights& weights = network.weights->layers[layer];
  if (network.config->has_experts(layer)) return mixture_of_experts(network, layer, x);
  if (!network.config->fused_projections) {
    return gated_mlp(network, layer, -1, {weights.gate, weights.up, weights.down}, x);
  }
  const auto halves = project(network, {layer, Projection::gate_up}, weights.gate_up, x).chunk(2, -1);
  return project(network, {layer, Projection::down}, weights.down, activate(*network.config, halves[0]) * halves[1]);
}

// The layer's second half: attention output, residual, MLP, residual.
Tensor finish_layer(const Network& network, size_t layer, const Tensor& residual, const Tensor& attended) {
  const ModelConfig& config = *network.config;
  const LayerWeights& weights = network.weights->layers[layer];
  const auto sum = [&](const Tensor& before, const Tensor& added, const Tensor& norm) {
    const auto normed = norm_if_there(config, added, norm);
    return before + (config.residual_scale == 1 ? normed : normed * config.residual_scale);
  };
  const auto x = sum(residual, project(network, {layer, Projection::o}, weights.o, attended, weights.o_bias),
                     weights.attention_output_norm);
  return sum(x, feed_forward(network, layer, norm_if_there(config, x, weights.mlp_norm)), weights.mlp_output_norm);
}

double attention_scale(const ModelConfig& config) {
  return config.attention_scale == 0 ? 1 / std::sqrt(static_cast<double>(config.head_dim)) : config.attention_scale;
}

// q [batch, heads, queries, head_dim], k and v [batch, heads, keys, head_dim]. mask undefined: causal, which a softcap
// does not take.
Tensor attention(const ModelConfig& config, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
  const double scale = attention_scale(config);
  if (config.attention_softcap == 0) return dot_product_attention(q, k, v, mask, scale);
  const double cap = config.attention_softcap;
  const auto scores = at::tanh(matrix_product(q, k.transpose(-2, -1)) * (scale / cap)) * cap + mask;
  return matrix_product(at::softmax(scores, -1, at::kFloat).to(q.scalar_type()), v);
}

// Additive mask of a tree, [tokens, tokens]: 0 where a token may look, −∞ elsewhere. positions: [tokens] of the tree's
// own; window 0: none.
Tensor tree_mask(const PackedTokens::Span& span, const Tensor& positions, int64_t window, at::ScalarType dtype) {
  const int64_t size = span.size();
  const auto options = positions.options().dtype(dtype);
  auto mask = at::full({size, size}, -std::numeric_limits<double>::infinity(), options);
  auto causal = [&](int64_t begin, int64_t length) {
    mask.index_put_({Slice(begin, begin + length), Slice(begin, begin + length)},
                    at::full({length, length}, -std::numeric_limits<double>::infinity(), options).triu(1));
  };
  causal(0, span.prefix);
  int64_t begin = span.prefix;
  for (int64_t length : span.branches) {
    mask.index_put_({Slice(begin, begin + length), Slice(0, span.prefix)}, 0);
    causal(begin, length);
    begin += length;
  }
  if (window > 0) {
    const auto distance = positions.unsqueeze(1) - positions.unsqueeze(0);
    mask.masked_fill_(distance >= window, -std::numeric_limits<double>::infinity());
  }
  return mask;
}

// The masks of all trees for a layer with that window; undefined where plain causal attention does. positions: the
// tokens', on the device.
std::vector<Tensor> tree_masks(const ModelConfig& config, const PackedTokens& tokens, const Tensor& positions,
                               int64_t window, at::ScalarType dtype) {
  std::vector<Tensor> masks;
  for (const auto& span : tokens.spans) {
    const bool causal =
        span.branches.empty() && (window == 0 || span.size() <= window) && config.attention_softcap == 0;
    masks.push_back(causal ? Tensor() : tree_mask(span, positions.narrow(0, span.begin, span.size()), window, dtype));
  }
  return masks;
}

// Additive mask of a decode step, [rows, 1, 1, longest]: each row sees its own tokens, the new one included.
Tensor cached_mask(const Tensor& positions, int64_t longest, int64_t window, at::ScalarType dtype) {
  const auto distance = positions.unsqueeze(1) - at::arange(longest, positions.options()).unsqueeze(0);
  auto hidden = distance < 0;
  if (window > 0) hidden = hidden.logical_or(distance >= window);
  const auto mask = at::zeros(hidden.sizes(), hidden.options().dtype(dtype));
  return mask.masked_fill(hidden, -std::numeric_limits<double>::infinity()).view({-1, 1, 1, longest});
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
    const auto out = attention(config, by_head(qkv.q, span), by_head(k, span), by_head(v, span), masks[i]);
    outputs.push_back(out.squeeze(0).transpose(0, 1).reshape({span.size(), -1}));
  }
  return outputs.size() == 1 ? outputs.front() : at::cat(outputs, 0);
}

struct LayerFunction : torch::CustomClassHolder {
  std::function<Tensor(const Tensor&)> run;
};

// A layer whose gradient runs it again from its input.
class CheckpointedLayer : public torch::autograd::Function<CheckpointedLayer> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, at::TensorList parameters,
                        const c10::intrusive_ptr<LayerFunction>& layer) {
    torch::autograd::variable_list saved = {x};
    saved.insert(saved.end(), parameters.begin(), parameters.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["layer"] = c10::IValue::make_capsule(layer);
    return layer->run(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& slopes) {
    const at::AutoGradMode with_gradient(true);
    const auto holder = context->saved_data["layer"].toCapsule();
    auto inputs = context->get_saved_variables();
    inputs[0] = inputs[0].detach().requires_grad_();
    const auto y = static_cast<const LayerFunction&>(*holder).run(inputs[0]);
    // An expert that no token went to has no gradient.
    auto gradients = torch::autograd::grad({y}, inputs, {slopes[0]}, std::nullopt, false, /*allow_unused=*/true);
    gradients.emplace_back();  // the layer function has none
    return gradients;
  }
};

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
  const auto ids = tokens.ids.to(network.device());
  const auto positions = tokens.positions.to(network.device());
  std::map<int64_t, std::vector<Tensor>> masks;  // by window
  for (size_t layer = 0; layer < network.weights->layers.size(); ++layer) {
    const int64_t window = config.sliding_window(layer);
    if (masks.count(window) == 0) masks[window] = tree_masks(config, tokens, positions, window, dtype);
  }
  const auto rotaries = rotaries_at(config, positions, dtype);
  const auto run_layer = [&config, network, tokens, masks, rotaries, key_values](size_t layer, const Tensor& x) {
    const auto normed = norm_if_there(config, x, network.weights->layers[layer].attention_norm);
    const auto qkv = project_attention(network, layer, normed, rotaries.of(config, layer));
    if (key_values != nullptr) key_values->push_back({qkv.k.transpose(0, 1), qkv.v.transpose(0, 1)});
    return finish_layer(network, layer, x, attend(config, qkv, tokens, masks.at(config.sliding_window(layer))));
  };
  const auto run_again = [&](size_t layer, const Tensor& x) {
    const auto function = c10::make_intrusive<LayerFunction>();
    function->run = [run_layer, layer](const Tensor& input) { return run_layer(layer, input); };
    auto parameters = network.adapter != nullptr ? parameters_of(network.adapter->layers[layer])
                                                 : tensors_of(network.weights->layers[layer]);
    std::erase_if(parameters, [](const Tensor& each) { return !each.requires_grad(); });
    return CheckpointedLayer::apply(x, at::TensorList(parameters), function);
  };
  const bool checkpointing = network.gradient_checkpointing && at::GradMode::is_enabled();
  Tensor x = embed(network, ids);
  for (size_t layer = 0; layer < network.weights->layers.size(); ++layer) {
    x = checkpointing ? run_again(layer, x) : run_layer(layer, x);
    if (visit) x = visit(layer, x);
  }
  return final_states(network, x);
}

}  // namespace

Tensor final_states(const Network& network, const Tensor& stream) { return finish(network, stream); }

bool runs_on_kernels(const Network& network) {
  return network.weights->packed != nullptr && (network.adapter == nullptr || !network.adapter->use_dora);
}

Tensor hidden_states(const Network& network, const PackedTokens& tokens, std::vector<LayerKeyValues>* key_values) {
  if (runs_on_kernels(network)) return packed::hidden_states(network, tokens, key_values);
  return run_layers(network, tokens, key_values, {});
}

Tensor visited_hidden_states(const Network& network, const PackedTokens& tokens, const StreamVisitor& visit) {
  return run_layers(network, tokens, nullptr, visit);
}

Tensor logits(const Network& network, const Tensor& hidden) {
  if (network.weights->packed && hidden.scalar_type() == at::kBFloat16 && !at::GradMode::is_enabled()) {
    return packed::logits(network, hidden);
  }
  const auto plain = linear_product(hidden, whole_head(*network.weights)).to(at::kFloat);
  const double cap = network.config->logit_softcap;
  return cap == 0 ? plain : at::tanh(plain / cap) * cap;
}

KeyValueCache KeyValueCache::allocate(const ModelConfig& config, int64_t rows, int64_t capacity,
                                      const at::TensorOptions& options) {
  KeyValueCache cache;
  const std::array<int64_t, 4> shape = {rows, config.num_key_value_heads, capacity, config.head_dim};
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    // zeros, not empty: masked places are still multiplied by 0, and 0 × NaN is NaN.
    cache.layers.push_back({at::zeros(shape, options), at::zeros(shape, options)});
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
  if (runs_on_kernels(network)) return packed::decode_step(network, ids, cache);
  const at::NoGradGuard no_grad;
  const ModelConfig& config = *network.config;
  const auto dtype = network.dtype();
  const auto rows = static_cast<int64_t>(ids.size());
  const int64_t repeat = config.num_attention_heads / config.num_key_value_heads;
  const int64_t longest = *std::max_element(cache.lengths.begin(), cache.lengths.begin() + rows) + 1;

  const at::ArrayRef<int32_t> last_ids(ids.data(), ids.size());
  const at::ArrayRef<int64_t> lengths(cache.lengths.data(), ids.size());
  const auto token_ids = at::tensor(last_ids, at::kLong).to(network.device());
  const auto positions = at::tensor(lengths, at::kLong).to(network.device());
  const auto row_index = at::arange(rows, positions.options());
  const auto rotaries = rotaries_at(config, positions, dtype);
  // Query heads that share a key head become the rows of one attention call, so that each key is read once.
  const auto grouped_mask = [&](int64_t window) {
    return cached_mask(positions, longest, window, dtype).expand({rows, config.num_key_value_heads, repeat, longest});
  };
  std::map<int64_t, Tensor> masks;  // by window

  Tensor x = embed(network, token_ids);
  for (size_t layer = 0; layer < network.weights->layers.size(); ++layer) {
    const auto normed = norm_if_there(config, x, network.weights->layers[layer].attention_norm);
    const auto qkv = project_attention(network, layer, normed, rotaries.of(config, layer));
    auto& held = cache.layers[layer];
    held.keys.index_put_({row_index, Slice(), positions}, qkv.k);
    held.values.index_put_({row_index, Slice(), positions}, qkv.v);
    const int64_t window = config.sliding_window(layer);
    if (masks.count(window) == 0) masks[window] = grouped_mask(window);
    const auto q = qkv.q.view({rows, config.num_key_value_heads, repeat, config.head_dim});
    const auto attended = attention(config, q, held.keys.narrow(0, 0, rows).narrow(2, 0, longest),
                                    held.values.narrow(0, 0, rows).narrow(2, 0, longest), masks[window]);
    x = finish_layer(network, layer, x, attended.reshape({rows, -1}));
  }
  for (int64_t row = 0; row < rows; ++row) ++cache.lengths[row];
  return finish(network, x);
}

}  // namespace backburn::model
