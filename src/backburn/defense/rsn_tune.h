#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// A value for each neuron, [layer][projection]: for each output (row of the weight) of q, k, v and up, for each input
/// (column) of down. Undefined for o and gate, which are not looked at.
using PerNeuron = std::vector<std::array<at::Tensor, 7>>;

/// How much each neuron matters to each example, f32: |Σ w ∂L/∂w| over the neuron's weights w, L = −ln π(answer |
/// prompt) in nats a token. To first order it is what L would change by if the weights were 0 (a bias stays).
std::vector<PerNeuron> neuron_importances(const model::Model& model, std::span<const train::Example> examples);

/// The neurons (bool) that are among the top_share most important ones of their projection for at least `consistency`
/// of the examples. None without examples.
PerNeuron important_neurons(const model::Model& model, std::span<const train::Example> examples, double top_share,
                            double consistency);

/// Those neurons that are not among the others.
PerNeuron without(const PerNeuron& neurons, const PerNeuron& others);

/// Clears a fresh adapter's parts that would move other neurons' weights: with b = 0 still everywhere, those are the
/// columns of down's a.
void confine(const model::Adapter& adapter, const PerNeuron& neurons);

/// Clears the gradients that would move other neurons' weights. An adapter that is confined stays so.
void confine_gradients(const model::Adapter& adapter, const PerNeuron& neurons);

/// RSN-Tune, robust safety neuron tuning (Zhao 2025, "Understanding and Enhancing Safety Mechanisms of LLMs via
/// Safety-Specific Neuron", ICLR): safety neurons are those that matter to every harmful query, foundation neurons
/// those that matter to every ordinary one, and supervised tuning on refusals changes the weights of the former alone,
/// less the latter, so that fine-tuning on ordinary data finds no reason to move them. Rows of q, k, v and up and
/// columns of down are neurons, as in the released code. Simplified: a neuron's importance is measured on −ln π of a
/// refusal (or of the model's own benign answer), to first order, where the paper takes the norm by which its layer's
/// output changes; an adapter is trained, confined to those neurons; the anchor stands beside the refusals. The paper
/// goes on to freeze these neurons while a service fine-tunes the model; an attacker who has the weights would not.
train::Learner run_rsn_tune(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
