#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "backburn/model/transformer.h"

/// A look inside the decoder, for whoever trains on hidden states. Slower than hidden_states: never the packed kernels.
namespace backburn::model {

/// Is shown the residual stream [tokens, hidden] as it leaves each decoder layer (0-based), and returns what goes on in
/// its place: the same tensor to watch, another one to perturb.
using StreamVisitor = std::function<at::Tensor(size_t layer, const at::Tensor& stream)>;

/// hidden_states (after the final norm), with a visitor. Differentiable in the adapter's parameters and through the
/// visitor.
at::Tensor visited_hidden_states(const Network& network, const PackedTokens& tokens, const StreamVisitor& visit);

/// The final norm of a residual stream [rows, hidden]: what the head would read if the decoder ended there.
at::Tensor final_states(const Network& network, const at::Tensor& stream);

}  // namespace backburn::model
