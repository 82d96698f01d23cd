#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/model/config.h"

namespace backburn::model {

/// The angles by which the pairs of a head are turned, [tokens, head_dim / 2] f32 (Su 2021, arXiv 2104.09864).
/// `local`: for layers with a sliding window.
at::Tensor rotary_angles(const ModelConfig& config, const at::Tensor& positions, bool local = false);

}  // namespace backburn::model
