#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace backburn::model {

/// The tensor types of GGUF files that this program computes, with ggml's own numbers (ggml.h, `enum
/// ggml_type`).
enum class GgmlType : uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
  mxfp4 = 39,
};

/// The type of that number; empty when it is not one of GgmlType.
std::optional<GgmlType> ggml_type(uint32_t number);

/// "Q4_K", as llama.cpp prints it.
const char* ggml_type_name(GgmlType type);

/// All names, for people: "F32, F16, …".
std::string known_ggml_types();

/// Values in one block; a row is a whole number of blocks.
size_t ggml_block_values(GgmlType type);

/// Bytes of one block.
size_t ggml_block_bytes(GgmlType type);

/// Decodes blocks to f32 with the arithmetic of ggml's own `dequantize_row_*`, operation for operation, so
/// that the bits are equal. `blocks` holds exactly the bytes of `values.size()` values; a mismatch is an
/// Error.
void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> values);

/// Encodes values as F32, F16, BF16 (both rounded to the nearest, ties to even) or Q8_0 (ggml's
/// `quantize_row_q8_0_ref`, bit for bit). Errors: another type, or lengths that don't fit.
void quantize(GgmlType type, std::span<const float> values, std::span<std::byte> blocks);

}  // namespace backburn::model
