#include "backburn/model/linear_layers.h"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace backburn::model {
namespace {

bool has_mixtral_names(const ModelConfig& config) { return config.architecture == "mixtral"; }

const char* expert_projection_name(const ModelConfig& config, Projection which) {
  if (!has_mixtral_names(config)) return projection_names[static_cast<size_t>(which)];
  return which == Projection::gate ? "w1" : which == Projection::up ? "w3" : "w2";
}

}  // namespace

const char* mixture_module(const ModelConfig& config) { return has_mixtral_names(config) ? "block_sparse_moe" : "mlp"; }

std::pair<int64_t, int64_t> projection_shape(const ModelConfig& config, Projection which) {
  const int64_t hidden = config.hidden_size;
  const int64_t queries = config.num_attention_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  switch (which) {
    case Projection::q: return {queries, hidden};
    case Projection::k:
    case Projection::v: return {keys, hidden};
    case Projection::o: return {hidden, queries};
    case Projection::gate:
    case Projection::up: return {config.intermediate_size, hidden};
    case Projection::down: return {hidden, config.intermediate_size};
    case Projection::qkv: return {queries + 2 * keys, hidden};
    case Projection::gate_up: return {2 * config.intermediate_size, hidden};
  }
  throw std::logic_error("projection_shape: no such projection");
}

std::vector<LinearLayer> linear_layers(const ModelConfig& config, size_t layer) {
  std::vector<LinearLayer> list;
  const auto add = [&](std::initializer_list<Projection> members) {
    for (const Projection which : members) {
      LinearLayer& each = list.emplace_back(LinearLayer{which});
      each.module =
          fmt::format("{}.{}", each.in_attention() ? "self_attn" : "mlp", projection_names[static_cast<size_t>(which)]);
      std::tie(each.out, each.in) = projection_shape(config, which);
    }
  };
  if (config.fused_projections) {
    add({Projection::qkv, Projection::o, Projection::gate_up, Projection::down});
    return list;
  }
  add({Projection::q, Projection::k, Projection::v, Projection::o});
  if (!config.has_experts(layer)) {
    add({Projection::gate, Projection::up, Projection::down});
    return list;
  }
  const MixtureOfExperts& mixture = config.mixture;
  for (int64_t expert = 0; expert < mixture.num_experts; ++expert) {
    for (const Projection which : {Projection::gate, Projection::up, Projection::down}) {
      const bool down = which == Projection::down;
      const int64_t inner = mixture.moe_intermediate_size;
      list.push_back(
          {which, expert,
           fmt::format("{}.experts.{}.{}", mixture_module(config), expert, expert_projection_name(config, which)),
           down ? config.hidden_size : inner, down ? inner : config.hidden_size});
    }
  }
  return list;
}

size_t linear_index(const ModelConfig& config, Projection which, int64_t expert) {
  if (config.fused_projections) {
    switch (which) {
      case Projection::qkv: return 0;
      case Projection::o: return 1;
      case Projection::gate_up: return 2;
      case Projection::down: return 3;
      default: throw std::logic_error("linear_index: no such projection");
    }
  }
  return static_cast<size_t>(which) + (expert < 0 ? 0 : 3 * static_cast<size_t>(expert));
}

}  // namespace backburn::model
