#pragma once

#include <ATen/core/Tensor.h>

#include "backburn/model/config.h"

namespace backburn::model {

/// Cosines and sines of the angles by which the pairs of a head are turned (Su 2021, arXiv 2104.09864), times the
/// scaling's attention factor: [tokens, half of the turned dimensions] f32.
struct RotaryTable {
  at::Tensor cosine, sine;
};

/// `local`: for layers with a sliding window. Frequencies are stretched as Transformers does for linear, llama3
/// (Llama 3.1), yarn (Peng 2023, arXiv 2309.00071), dynamic and longrope (Ding 2024, arXiv 2402.13753). The last two
/// change them once a sequence grows beyond the trained length, which would make the keys computed until then wrong:
/// up to there they are exact, a position beyond it is an Error.
RotaryTable rotary_table(const ModelConfig& config, const at::Tensor& positions, bool local = false);

/// By what YaRN and LongRoPE multiply cosines and sines: the config's own factor, or the method's; 1 for other
/// scalings.
double rope_attention_factor(const ModelConfig& config);

}  // namespace backburn::model
