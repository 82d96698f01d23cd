#include "backburn/model/rotary.h"

#include <ATen/Functions.h>

namespace backburn::model {

at::Tensor rotary_angles(const ModelConfig& config, const at::Tensor& positions) {
  const auto inverse =
      at::pow(config.rope_theta,
              at::arange(0, config.head_dim, 2, at::kFloat).div_(static_cast<double>(config.head_dim)).neg_());
  return at::outer(positions.to(at::kFloat), inverse.to(positions.device()));
}

}  // namespace backburn::model
