#pragma once

#include <functional>
#include <optional>
#include <string>

#include "backburn/model/ggml.h"
#include "backburn/model/load.h"

namespace backburn::model {

/// A matrix in ggml's blocks: `type` is Q8_0 or Q4_0, bytes [rows, bytes of a row] uint8.
struct QuantizedRows {
  GgmlType type;
  at::Tensor bytes;
};

/// A tensor of a model by its place in named_weights, wherever it comes from.
using WeightReader = std::function<at::Tensor(const NamedWeight&)>;

/// A model whose weights stay in their file and are read one by one, by whoever can't hold them all. Errors of reading:
/// a tensor that is missing, of another shape, or with a NaN or an infinity, by name.
struct StoredModel {
  Model model;  ///< without weights
  /// The tensor in bf16 or f32; it may view the file.
  std::function<at::Tensor(const NamedWeight&, at::ScalarType)> read;
  /// The matrix as it is stored, where that is Q8_0 or Q4_0.
  std::function<std::optional<QuantizedRows>(const NamedWeight&)> read_blocks;
  /// Says that the tensor's bytes won't be read again soon: they stop counting as this program's memory.
  std::function<void(const NamedWeight&)> release;

  /// Each tensor is released when the next one is read.
  WeightReader reader(at::ScalarType dtype) const;
};

/// What load_model finds under that name.
StoredModel open_model(const std::string& path_or_name);

/// All weights in memory, or mapped where they are stored in `dtype`.
Model read_all(StoredModel stored, at::ScalarType dtype);

/// Of a model in memory. Reading a quantised matrix is an Error.
WeightReader reader_of(const Model& model);

/// `read` with the adapter folded in (`updated`), whose tensors are shared, not copied: a merged model that is never in
/// memory as a whole.
WeightReader merged(const ModelConfig& config, WeightReader read, const Adapter& adapter);

}  // namespace backburn::model
