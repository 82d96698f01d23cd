#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/defense/defense.h"

namespace backburn::defense {

/// The maximum mean discrepancy of two samples [n, dim] and [m, dim] (Gretton 2012) with five Gaussian kernels whose
/// bandwidths are ¼ … 4 times the mean squared distance. Differentiable, the bandwidth excepted; 0 for equal samples.
at::Tensor maximum_mean_discrepancy(const at::Tensor& left, const at::Tensor& right);

/// Representation noising (Rosati 2024, arXiv 2405.14577, section 3): the loss
///     stability + noise_weight · noise − ascent_weight · ln(1 + ascent)
/// where stability is −ln π of refusals to the same prompts, noise the mean over layers of the discrepancy between
/// hidden states under harmful answers and Gaussian noise, and ascent the mean over layers of −ln π of harmful answers,
/// read off each layer by the final norm and the head. The weights are those of the released code (rep_noise_loss:
/// beta = 0.001 on the noise, alpha = 1 on the ascent), whose authors search both anew for every model.
/// Simplified: the residual stream at some layers where the paper takes all MLPs' activations; a sample is one token's
/// state, not a padded answer's; noise is drawn anew at every step, from the seed; the stability term is joined by the
/// anchor.
train::Learner run_rep_noise(const DefenseInputs& inputs, const DefenseOptions& options, const DefenseEvents& on_step);

}  // namespace backburn::defense
