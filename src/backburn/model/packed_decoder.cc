#include "backburn/model/packed_decoder.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "backburn/kernels/attention.h"
#include "backburn/kernels/elementwise.h"
#include "backburn/kernels/parallel.h"
#include "backburn/model/activations.h"
#include "backburn/model/packed.h"
#include "backburn/model/rotary.h"

namespace backburn::model::packed {
namespace {

using at::Tensor;
using kernels::bf16;
using kernels::Terms;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bf16* bits(const Tensor& tensor) { return tensor.defined() ? reinterpret_cast<bf16*>(tensor.data_ptr()) : nullptr; }

Tensor buffer(int64_t rows, int64_t columns) { return at::empty({rows, columns}, at::kBFloat16); }

kernels::HeadShape head_shape(const ModelConfig& config) {
  return {config.num_attention_heads, config.num_key_value_heads, config.head_dim};
}

// Everything that is the same for all layers of a pass.
struct Pass {
  const ModelConfig* config = nullptr;
  const Weights* weights = nullptr;
  std::shared_ptr<const PackedAdapter> adapter;  // null: the base model
  int64_t tokens = 0;
  int64_t rank = 0;  // of the adapter
  kernels::HeadShape heads;
  RotaryTable rotary;

  const PackedProducts& products(size_t layer) const { return weights->packed->layer(layer); }
  float eps() const { return static_cast<float>(config->rms_norm_eps); }
};

Pass make_pass(const Network& network, const Tensor& positions, bool with_gradient) {
  std::shared_ptr<const PackedAdapter> adapter;
  if (network.adapter != nullptr) {
    adapter = network.adapter->packed
                  ? network.adapter->packed
                  : std::make_shared<PackedAdapter>(pack_adapter(*network.adapter, *network.config, with_gradient));
  }
  return {network.config,
          network.weights,
          std::move(adapter),
          positions.size(0),
          network.adapter == nullptr ? 0 : network.adapter->rank,
          head_shape(*network.config),
          rotary_table(*network.config, positions)};
}

std::array<int64_t, 4> low_widths(int64_t rank) {
  std::array<int64_t, 4> widths{};
  for (size_t i = 0; i < widths.size(); ++i) {
    widths[i] = static_cast<int64_t>(projections_of(static_cast<Product>(i)).size()) * padded_rank(rank);
  }
  return widths;
}

// rank 0: no adapter. Without gradient, what only a gradient reads is left out, and so is the input.
LayerActivations allocate_layer(const ModelConfig& config, int64_t rank, int64_t rows, bool with_gradient) {
  const auto heads = head_shape(config);
  LayerActivations layer;
  layer.qkv = buffer(rows, heads.width());
  layer.attended = buffer(rows, heads.queries());
  layer.middle = buffer(rows, config.hidden_size);
  if (with_gradient) {
    layer.input = buffer(rows, config.hidden_size);
    layer.log_sums = at::empty({rows, heads.heads}, at::kFloat);
    layer.gate_up = buffer(rows, 2 * config.intermediate_size);
  }
  if (rank > 0) {
    const auto widths = low_widths(rank);
    for (size_t i = 0; i < widths.size(); ++i) layer.low[i] = buffer(rows, widths[i]);
  }
  return layer;
}

// For gradient checkpointing.
Activations allocate_inputs(const ModelConfig& config, int64_t rows) {
  Activations result;
  result.layers.resize(config.num_hidden_layers);
  for (LayerActivations& layer : result.layers) layer.input = buffer(rows, config.hidden_size);
  result.last = buffer(rows, config.hidden_size);
  return result;
}

// Every tensor of a layer in turn.
template <class Change>
LayerActivations each_tensor(LayerActivations layer, const Change& change) {
  for (Tensor* tensor : {&layer.input, &layer.qkv, &layer.attended, &layer.log_sums, &layer.middle, &layer.gate_up,
                         &layer.low[0], &layer.low[1], &layer.low[2], &layer.low[3]}) {
    if (tensor->defined()) *tensor = change(*tensor);
  }
  return layer;
}

// x · Wᵀ and the low-rank part of one product, whose first factor is computed into `tape` here.
Terms team_terms(const Pass& pass, size_t layer, Product product, const LayerActivations& tape, const bf16* x) {
  const auto which = static_cast<size_t>(product);
  const kernels::PackedMatrix& w = pass.products(layer)[which];
  Terms terms{{x, w.k(), &w}, {}};
  if (!pass.adapter) return terms;
  const auto& pair = pass.adapter->layers[layer][which];
  if (pair.is_empty()) return terms;
  kernels::team_multiply(pass.tokens, {{x, w.k(), &pair.a}, {}}, nullptr, bits(tape.low[which]), pair.a.n());
  terms.second = {bits(tape.low[which]), pair.b.k(), &pair.b};
  return terms;
}

// Buffers that no gradient needs, used by every layer in turn.
struct Scratch {
  Tensor normed, activated;
};

Scratch make_scratch(const Pass& pass) {
  return {buffer(pass.tokens, pass.config->hidden_size), buffer(pass.tokens, pass.config->intermediate_size)};
}

// One layer, from tape.input to `output`. attend: fills tape.attended from tape.qkv; a team function.
template <class Attend>
void team_layer(const Pass& pass, size_t layer, const LayerActivations& tape, const Scratch& scratch,
                const Tensor& output, const Attend& attend) {
  const LayerWeights& weights = pass.weights->layers[layer];
  const PackedWeights& packed = *pass.weights->packed;
  const int64_t m = pass.tokens;
  const int64_t hidden = pass.config->hidden_size;
  kernels::team_rms_norm(m, hidden, bits(tape.input), bits(weights.attention_norm), pass.eps(), bits(scratch.normed));
  kernels::team_multiply(m, team_terms(pass, layer, Product::qkv, tape, bits(scratch.normed)), packed.qkv_bias(layer),
                         bits(tape.qkv), pass.heads.width());
  kernels::team_rotate(m, pass.heads.heads + pass.heads.key_value_heads, pass.heads.head_dim,
                       pass.rotary.cosine.data_ptr<float>(), pass.rotary.sine.data_ptr<float>(), bits(tape.qkv),
                       pass.heads.width());
  attend();
  kernels::team_multiply_residual(m, team_terms(pass, layer, Product::o, tape, bits(tape.attended)),
                                  packed.o_bias(layer), bits(tape.input), bits(tape.middle), hidden);
  kernels::team_rms_norm(m, hidden, bits(tape.middle), bits(weights.mlp_norm), pass.eps(), bits(scratch.normed));
  kernels::team_multiply_swiglu(m, team_terms(pass, layer, Product::gate_up, tape, bits(scratch.normed)),
                                bits(tape.gate_up), bits(scratch.activated), pass.config->intermediate_size);
  kernels::team_multiply_residual(m, team_terms(pass, layer, Product::down, tape, bits(scratch.activated)), nullptr,
                                  bits(tape.middle), bits(output), hidden);
}

Tensor final_norm(const Pass& pass, const Tensor& x) {
  Tensor out = at::empty_like(x);
  kernels::parallel([&] {
    kernels::team_rms_norm(pass.tokens, x.size(1), bits(x), bits(pass.weights->final_norm), pass.eps(), bits(out));
  });
  return out;
}

// Which earlier tokens each token of the trees sees.
struct TreeSights {
  std::vector<kernels::Sight> sights;
  std::vector<int64_t> trees;  // first token of each, and the end
};

TreeSights sights_of(const PackedTokens& tokens) {
  TreeSights result;
  for (const auto& span : tokens.spans) {
    result.trees.push_back(span.begin);
    const auto begin = static_cast<int32_t>(span.begin);
    const auto prefix = static_cast<int32_t>(span.prefix);
    result.sights.insert(result.sights.end(), span.prefix, {begin, 0, begin});
    int64_t at = span.begin + span.prefix;
    for (const int64_t length : span.branches) {
      result.sights.insert(result.sights.end(), length, {begin, prefix, static_cast<int32_t>(at)});
      at += length;
    }
  }
  result.trees.push_back(tokens.tokens());
  return result;
}

// Runs all layers, in one parallel region. attend(layer, values): fills values.attended from values.qkv; a team
// function. With `record`, every token's activations are kept behind record->used; without, each layer overwrites the
// one before.
template <class Attend>
Tensor run_layers(const Pass& pass, const Tensor& ids, Activations* record, std::vector<LayerKeyValues>* key_values,
                  const Attend& attend) {
  const Scratch scratch = make_scratch(pass);
  const auto recorded = [&](const Tensor& whole) { return whole.narrow(0, record->used, pass.tokens); };
  Tensor input = at::embedding(pass.weights->embedding, ids);
  Tensor output = record == nullptr ? at::empty_like(input) : Tensor();
  const bool overwrite = record == nullptr || record->inputs_only();
  if (record != nullptr) input = recorded(record->layers.front().input).copy_(input);
  const size_t count = pass.weights->layers.size();
  std::vector<LayerActivations> layers(
      count, overwrite ? allocate_layer(*pass.config, pass.rank, pass.tokens, false) : LayerActivations());
  std::vector<Tensor> outputs;
  for (size_t layer = 0; layer < count; ++layer) {
    LayerActivations& values = layers[layer];
    if (!overwrite) values = each_tensor(record->layers[layer], recorded);
    if (overwrite && layer > 0 && key_values != nullptr) values.qkv = at::empty_like(values.qkv);
    if (record != nullptr) output = recorded(layer + 1 < count ? record->layers[layer + 1].input : record->last);
    values.input = input;
    outputs.push_back(output);
    std::swap(input, output);
  }
  kernels::parallel([&] {
    for (size_t layer = 0; layer < count; ++layer) {
      team_layer(pass, layer, layers[layer], scratch, outputs[layer], [&] { attend(layer, layers[layer]); });
    }
  });
  if (key_values != nullptr) {
    for (const LayerActivations& values : layers) {
      const auto part = [&](int64_t begin) {
        return values.qkv.narrow(1, begin, pass.heads.keys())
            .view({pass.tokens, pass.heads.key_value_heads, pass.heads.head_dim})
            .transpose(0, 1);
      };
      key_values->push_back({part(pass.heads.queries()), part(pass.heads.queries() + pass.heads.keys())});
    }
  }
  if (record != nullptr) record->used += pass.tokens;
  return outputs.back();
}

float* floats(const Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; }

void team_attend_tree(const Pass& pass, const TreeSights& sights, const LayerActivations& values) {
  kernels::team_attend(pass.heads, pass.tokens, bits(values.qkv), sights.sights.data(), bits(values.attended),
                       floats(values.log_sums));
}

Tensor run_packed_tokens(const Pass& pass, const TreeSights& sights, const Tensor& ids, Activations* record,
                         std::vector<LayerKeyValues>* key_values) {
  return run_layers(pass, ids, record, key_values,
                    [&](size_t, const LayerActivations& values) { team_attend_tree(pass, sights, values); });
}

// What the gradient of a whole pass needs.
struct Tape : torch::CustomClassHolder {
  Pass pass;
  TreeSights sights;
  Activations values;
  double scale = 1;
  std::vector<std::array<bool, 7>> adapted;  // by layer and projection
};

// The gradients of a projection's low-rank factors, padded to whole registers; undefined where the adapter has none.
struct LowRankGradient {
  Tensor a;  // [padded rank, in]
  Tensor b;  // [out, padded rank]
};

struct BackwardBuffers {
  Tensor gradient;  // of the residual stream, [tokens, hidden] f32
  Tensor slope;     // the same in bf16
  Tensor normed, normed_gradient, activated, activated_gradient, gate_up_gradient, attended_gradient, qkv_gradient;
  Tensor wide_qkv_gradient;  // f32
  std::array<Tensor, 4> low;
};

BackwardBuffers make_backward_buffers(const Tape& tape) {
  const Pass& pass = tape.pass;
  const int64_t m = pass.tokens;
  const int64_t hidden = pass.config->hidden_size;
  const int64_t inner = pass.config->intermediate_size;
  BackwardBuffers buffers{at::zeros({m, hidden}, at::kFloat),
                          buffer(m, hidden),
                          buffer(m, hidden),
                          buffer(m, hidden),
                          buffer(m, inner),
                          buffer(m, inner),
                          buffer(m, 2 * inner),
                          buffer(m, pass.heads.queries()),
                          buffer(m, pass.heads.width()),
                          at::empty({m, pass.heads.width()}, at::kFloat),
                          {}};
  const auto widths = low_widths(pass.rank);
  for (size_t i = 0; i < buffers.low.size(); ++i) buffers.low[i] = buffer(m, widths[i]);
  return buffers;
}

// Of one product y = x · (W + s B A)ᵀ: the gradient of x · Aᵀ into work.low, and (x_gradient defined) that of x.
void team_input_gradient(const Tape& tape, size_t layer, Product product, const BackwardBuffers& work,
                         const Tensor& slope, const Tensor& x_gradient) {
  const auto which = static_cast<size_t>(product);
  const auto& pair = tape.pass.adapter->transposed[layer][which];
  const int64_t m = tape.pass.tokens;
  const int64_t out = slope.size(1);
  const int64_t width = pair.b.n();  // of the low-rank part
  bf16* low_slope = bits(work.low[which]);
  if (!pair.is_empty()) kernels::team_multiply(m, {{bits(slope), out, &pair.b}, {}}, nullptr, low_slope, width);
  if (x_gradient.defined()) {
    Terms terms{{bits(slope), out, &tape.pass.weights->packed->transposed(layer)[which]}, {}};
    if (!pair.is_empty()) terms.second = {low_slope, width, &pair.a};
    kernels::team_multiply(m, terms, nullptr, bits(x_gradient), x_gradient.size(1));
  }
}

// Of the same product: the gradients of its low-rank factors, after team_input_gradient.
void team_factor_gradients(const Tape& tape, size_t layer, Product product, const LayerActivations& values,
                           const BackwardBuffers& work, const Tensor& slope, const Tensor& x,
                           std::array<LowRankGradient, 7>& gradients) {
  const auto which = static_cast<size_t>(product);
  const auto& pair = tape.pass.adapter->transposed[layer][which];
  if (pair.is_empty()) return;
  const int64_t m = tape.pass.tokens;
  const int64_t out = pair.b.k();
  const int64_t in = pair.a.n();
  const int64_t width = pair.b.n();
  const bf16* low_slope = bits(work.low[which]);
  const int64_t padded = padded_rank(tape.pass.rank);
  const bf16* low = bits(values.low[which]);
  const auto members = projections_of(product);
  int64_t column = 0;  // first of the projection's outputs
  for (size_t i = 0; i < members.size(); ++i) {
    const LowRankGradient& gradient = gradients[static_cast<size_t>(members[i])];
    const int64_t place = static_cast<int64_t>(i) * padded;
    const int64_t rows = projection_shape(*tape.pass.config, members[i]).first;
    const bool paired = product == Product::gate_up;
    const bf16* own_slope = bits(slope) + (paired ? static_cast<int64_t>(i) * 16 : column);
    column += rows;
    if (!gradient.a.defined()) continue;
    kernels::team_outer_add(m, own_slope, out, rows, paired ? 32 : 16, low + place, width, padded,
                            static_cast<float>(tape.scale), gradient.b.data_ptr<float>(), padded, 1);
    kernels::team_outer_add(m, bits(x), in, in, 16, low_slope + place, width, padded, 1.0F,
                            gradient.a.data_ptr<float>(), 1, in);
  }
}

void run_layer_gradient(const Tape& tape, size_t layer, const LayerActivations& values, const BackwardBuffers& work,
                        std::array<LowRankGradient, 7>& gradients) {
  const Pass& pass = tape.pass;
  const LayerWeights& weights = pass.weights->layers[layer];
  const int64_t m = pass.tokens;
  const int64_t hidden = pass.config->hidden_size;
  const auto input_gradient = [&](Product product, const Tensor& slope, const Tensor& x_gradient) {
    team_input_gradient(tape, layer, product, work, slope, x_gradient);
  };
  const auto factor_gradients = [&](Product product, const Tensor& slope, const Tensor& x) {
    team_factor_gradients(tape, layer, product, values, work, slope, x, gradients);
  };
  work.wide_qkv_gradient.zero_();
  kernels::parallel([&] {
    input_gradient(Product::down, work.slope, work.activated_gradient);
    kernels::team_swiglu_gradient(m, pass.config->intermediate_size, bits(values.gate_up),
                                  bits(work.activated_gradient), bits(work.gate_up_gradient), bits(work.activated));
    factor_gradients(Product::down, work.slope, work.activated);
    kernels::team_rms_norm(m, hidden, bits(values.middle), bits(weights.mlp_norm), pass.eps(), bits(work.normed));
    input_gradient(Product::gate_up, work.gate_up_gradient, work.normed_gradient);
    factor_gradients(Product::gate_up, work.gate_up_gradient, work.normed);
    kernels::team_rms_norm_gradient(m, hidden, bits(values.middle), bits(weights.mlp_norm), pass.eps(),
                                    bits(work.normed_gradient), work.gradient.data_ptr<float>(), bits(work.slope));

    input_gradient(Product::o, work.slope, work.attended_gradient);
    factor_gradients(Product::o, work.slope, values.attended);
    kernels::team_attend_gradient(pass.heads, tape.sights.trees.data(),
                                  static_cast<int64_t>(tape.sights.trees.size()) - 1, bits(values.qkv),
                                  tape.sights.sights.data(), bits(values.attended), floats(values.log_sums),
                                  bits(work.attended_gradient), work.wide_qkv_gradient.data_ptr<float>());
    kernels::team_rotate_back(m, pass.heads.heads + pass.heads.key_value_heads, pass.heads.head_dim,
                              pass.rotary.cosine.data_ptr<float>(), pass.rotary.sine.data_ptr<float>(),
                              work.wide_qkv_gradient.data_ptr<float>(), bits(work.qkv_gradient), pass.heads.width());
    kernels::team_rms_norm(m, hidden, bits(values.input), bits(weights.attention_norm), pass.eps(), bits(work.normed));
    // Nothing is trained below the first layer.
    input_gradient(Product::qkv, work.qkv_gradient, layer == 0 ? Tensor() : work.normed_gradient);
    factor_gradients(Product::qkv, work.qkv_gradient, work.normed);
    if (layer > 0) {
      kernels::team_rms_norm_gradient(m, hidden, bits(values.input), bits(weights.attention_norm), pass.eps(),
                                      bits(work.normed_gradient), work.gradient.data_ptr<float>(), bits(work.slope));
    }
  });
}

// The activations of one layer after the other: those of the tape, or, with gradient checkpointing, computed again.
class LayersOf {
 public:
  explicit LayersOf(const Tape& tape) : tape_(tape) {
    if (!tape.values.inputs_only()) return;
    values_ = allocate_layer(*tape.pass.config, tape.pass.rank, tape.pass.tokens, true);
    scratch_ = make_scratch(tape.pass);
    output_ = at::empty_like(tape.values.last);
  }

  LayerActivations operator[](size_t layer) const {
    const LayerActivations& kept = tape_.values.layers[layer];
    if (!tape_.values.inputs_only()) return kept;
    LayerActivations values = values_;
    values.input = kept.input;
    kernels::parallel([&] {
      team_layer(tape_.pass, layer, values, scratch_, output_,
                 [&] { team_attend_tree(tape_.pass, tape_.sights, values); });
    });
    return values;
  }

 private:
  const Tape& tape_;
  LayerActivations values_;
  Scratch scratch_;
  Tensor output_;
};

class HiddenStates : public torch::autograd::Function<HiddenStates> {
 public:
  // The tape holds the activations already.
  static Tensor forward(AutogradContext* context, at::TensorList parameters, const c10::intrusive_ptr<Tape>& tape) {
    (void)parameters;  // what the gradients are of; their values are in the packed adapter
    context->saved_data["tape"] = c10::IValue::make_capsule(tape);
    return final_norm(tape->pass, tape->values.last);
  }

  static variable_list backward(AutogradContext* context, const variable_list& slopes) {
    const auto holder = context->saved_data["tape"].toCapsule();
    const Tape& tape = static_cast<const Tape&>(*holder);
    const Pass& pass = tape.pass;
    const auto work = make_backward_buffers(tape);
    const LayersOf values(tape);
    pass.weights->packed->transposed(0);  // laid out here by all threads, not by one inside of the team
    const Tensor slope = slopes[0].contiguous();
    kernels::parallel([&] {
      kernels::team_rms_norm_gradient(pass.tokens, pass.config->hidden_size, bits(tape.values.last),
                                      bits(pass.weights->final_norm), pass.eps(), bits(slope),
                                      work.gradient.data_ptr<float>(), bits(work.slope));
    });
    std::vector<std::array<LowRankGradient, 7>> gradients(tape.values.layers.size());
    const int64_t padded = padded_rank(pass.rank);
    for (size_t layer = gradients.size(); layer-- > 0;) {
      for (size_t i = 0; i < gradients[layer].size(); ++i) {
        if (!tape.adapted[layer][i]) continue;
        const auto [out, in] = projection_shape(*pass.config, static_cast<Projection>(i));
        gradients[layer][i] = {at::zeros({padded, in}, at::kFloat), at::zeros({out, padded}, at::kFloat)};
      }
      run_layer_gradient(tape, layer, values[layer], work, gradients[layer]);
    }
    variable_list result;  // in the order of Adapter::parameters
    for (const auto& layer : gradients) {
      for (const LowRankGradient& each : layer) {
        if (!each.a.defined()) continue;
        result.push_back(each.a.narrow(0, 0, pass.rank));
        result.push_back(each.b.narrow(1, 0, pass.rank));
      }
    }
    result.emplace_back();  // the tape has none
    return result;
  }
};

c10::intrusive_ptr<Tape> make_tape(const Network& network, const PackedTokens& tokens) {
  auto tape = c10::make_intrusive<Tape>();
  tape->pass = make_pass(network, tokens.positions, true);
  tape->sights = sights_of(tokens);
  tape->scale = network.adapter->scale();
  for (const auto& layer : network.adapter->layers) {
    auto& adapted = tape->adapted.emplace_back();
    for (size_t i = 0; i < adapted.size(); ++i) adapted[i] = layer[i].a.defined();
  }
  return tape;
}

Tensor with_gradient_of(const Network& network, const c10::intrusive_ptr<Tape>& tape) {
  const auto parameters = network.adapter->parameters();
  return HiddenStates::apply(at::TensorList(parameters), tape);
}

// One token more for each of the cache's first rows.
Tensor decode(const Network& network, std::span<const int32_t> ids, KeyValueCache& cache, Activations* record) {
  const at::NoGradGuard no_grad;
  const auto rows = static_cast<int64_t>(ids.size());
  const auto token_ids = at::empty({rows}, at::kLong);
  const auto positions = at::empty({rows}, at::kLong);
  std::copy(ids.begin(), ids.end(), token_ids.data_ptr<int64_t>());
  std::copy_n(cache.lengths.begin(), rows, positions.data_ptr<int64_t>());

  const Pass pass = make_pass(network, positions, false);
  const auto last = run_layers(pass, token_ids, record, nullptr, [&](size_t layer, const LayerActivations& values) {
    const auto& held = cache.layers[layer];
    kernels::team_attend_cached(pass.heads, rows, bits(values.qkv), cache.lengths.data(), held.keys.size(2),
                                bits(held.keys), bits(held.values), bits(values.attended), floats(values.log_sums));
  });
  for (int64_t row = 0; row < rows; ++row) ++cache.lengths[row];
  return final_norm(pass, last);
}

}  // namespace

Tensor hidden_states(const Network& network, const PackedTokens& tokens, std::vector<LayerKeyValues>* key_values) {
  const bool with_gradient = at::GradMode::is_enabled() && network.adapter != nullptr && !network.adapter->packed;
  if (!with_gradient) {
    const at::NoGradGuard no_grad;
    const Pass pass = make_pass(network, tokens.positions, false);
    return final_norm(pass, run_packed_tokens(pass, sights_of(tokens), tokens.ids, nullptr, key_values));
  }
  const auto tape = make_tape(network, tokens);
  {
    const at::NoGradGuard no_grad;
    tape->values = network.gradient_checkpointing
                       ? allocate_inputs(*network.config, tokens.tokens())
                       : allocate_activations(*network.config, tape->pass.rank, tokens.tokens());
    run_packed_tokens(tape->pass, tape->sights, tokens.ids, &tape->values, key_values);
  }
  return with_gradient_of(network, tape);
}

Tensor logits(const Network& network, const Tensor& hidden) {
  const auto& head = network.weights->packed->head();
  const Tensor rows = hidden.contiguous();
  Tensor out = at::empty({rows.size(0), head.n()}, at::kFloat);
  kernels::parallel([&] {
    kernels::team_multiply_f32(rows.size(0), {{bits(rows), head.k(), &head}, {}}, out.data_ptr<float>(), head.n());
  });
  return out;
}

Tensor decode_step(const Network& network, std::span<const int32_t> ids, KeyValueCache& cache) {
  return decode(network, ids, cache, nullptr);
}

}  // namespace backburn::model::packed

namespace backburn::model {

Activations allocate_activations(const ModelConfig& config, int64_t rank, int64_t capacity) {
  Activations result;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    result.layers.push_back(packed::allocate_layer(config, rank, capacity, true));
  }
  result.last = packed::buffer(capacity, config.hidden_size);
  return result;
}

int64_t activation_bytes(const ModelConfig& config, int64_t rank) {
  const auto row = allocate_activations(config, rank, 1);
  size_t bytes = row.last.nbytes();
  for (const LayerActivations& layer : row.layers) {
    packed::each_tensor(layer, [&](const at::Tensor& tensor) {
      bytes += tensor.nbytes();
      return tensor;
    });
  }
  return static_cast<int64_t>(bytes);
}

at::Tensor hidden_states(const Network& network, const PackedTokens& tokens, std::vector<LayerKeyValues>* key_values,
                         Activations& record) {
  const at::NoGradGuard no_grad;
  const auto pass = packed::make_pass(network, tokens.positions, false);
  return packed::final_norm(
      pass, packed::run_packed_tokens(pass, packed::sights_of(tokens), tokens.ids, &record, key_values));
}

at::Tensor decode_step(const Network& network, std::span<const int32_t> ids, KeyValueCache& cache,
                       Activations& record) {
  return packed::decode(network, ids, cache, &record);
}

at::Tensor recorded_hidden_states(const Network& network, const PackedTokens& tokens, Activations record,
                                  std::span<const int64_t> rows) {
  const auto tape = packed::make_tape(network, tokens);
  {
    const at::NoGradGuard no_grad;
    const auto index = at::tensor(at::ArrayRef<int64_t>(rows.data(), rows.size()), at::kLong);
    const auto chosen = [&](const at::Tensor& whole) { return whole.index_select(0, index); };
    for (LayerActivations& layer : record.layers) {
      tape->values.layers.push_back(packed::each_tensor(layer, chosen));
      layer = {};
    }
    tape->values.last = chosen(record.last);
    tape->values.used = tokens.tokens();
  }
  return packed::with_gradient_of(network, tape);
}

}  // namespace backburn::model
