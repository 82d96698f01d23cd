#pragma once

#include "backburn/model/stored.h"

namespace backburn::model {

/// How a base model's matrices are held: in bf16 or f32, or in 8 or 4 bits with a scale for 32 neighbours of a row
/// (ggml's Q8_0 and Q4_0), from which they are unpacked to bf16 while they are multiplied. Adapters on them are trained
/// in f32 as ever (QLoRA, Dettmers 2023, arXiv 2305.14314).
enum class BaseQuantization { none, q8_0, q4_0 };
BaseQuantization base_quantization_of(const std::string& name);  ///< errors: another name (usage)

/// load_model, and quantised on the way, tensor by tensor, so that the peak stays near what is held in the end:
/// embedding, norms and biases in bf16 as Weights has them, matrices and head in `weights.packed` alone. The head takes
/// 8 bits. Matrices that the file stores as Q8_0 or Q4_0, in no more bits than asked for, are taken as they are.
/// Errors: load_model's, and a model that the packed kernels don't compute (PackedWeights::fits).
Model load_model(const std::string& path_or_name, const at::TensorOptions& compute, BaseQuantization quantization);

/// What an adapter is merged into: the model's weights in memory, or of a quantised model those that it was made of,
/// read from where it was loaded.
WeightReader original_weights(const Model& model);

/// Rows of f32, bf16 or f16 in blocks of that type; columns are a multiple of 32.
QuantizedRows quantized(const at::Tensor& matrix, GgmlType type);

/// An Error that names what was to be done, for whoever changes or reads a model's matrices: a quantised model has
/// none.
void refuse_quantized(const Weights& weights, const std::string& what);

}  // namespace backburn::model
