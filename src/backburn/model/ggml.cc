#include "backburn/model/ggml.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstring>

#include "backburn/base/error.h"

namespace backburn::model {
namespace {

struct Layout {
  GgmlType type;
  const char* name;
  size_t values;
  size_t bytes;
};

constexpr Layout layouts[] = {
    {GgmlType::f32, "F32", 1, 4},
    {GgmlType::f16, "F16", 1, 2},
    {GgmlType::q4_0, "Q4_0", 32, 2 + 16},
    {GgmlType::q4_1, "Q4_1", 32, 2 + 2 + 16},
    {GgmlType::q5_0, "Q5_0", 32, 2 + 4 + 16},
    {GgmlType::q5_1, "Q5_1", 32, 2 + 2 + 4 + 16},
    {GgmlType::q8_0, "Q8_0", 32, 2 + 32},
    {GgmlType::q4_k, "Q4_K", 256, 2 + 2 + 12 + 128},
    {GgmlType::q5_k, "Q5_K", 256, 2 + 2 + 12 + 32 + 128},
    {GgmlType::q6_k, "Q6_K", 256, 128 + 64 + 16 + 2},
    {GgmlType::bf16, "BF16", 1, 2},
};

const Layout& layout(GgmlType type) {
  for (const Layout& each : layouts) {
    if (each.type == type) return each;
  }
  fail("ggml type {} is not supported", static_cast<uint32_t>(type));
}

using Bytes = const uint8_t*;

float half(Bytes bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return c10::Half(bits, c10::Half::from_bits());
}

uint32_t word(Bytes bytes) {
  uint32_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

void q4_0(Bytes block, float* out) {
  const float d = half(block);
  for (int j = 0; j < 16; ++j) {
    const int q = block[2 + j];
    out[j] = static_cast<float>((q & 15) - 8) * d;
    out[j + 16] = static_cast<float>((q >> 4) - 8) * d;
  }
}

void q4_1(Bytes block, float* out) {
  const float d = half(block);
  const float m = half(block + 2);
  for (int j = 0; j < 16; ++j) {
    const int q = block[4 + j];
    out[j] = static_cast<float>(q & 15) * d + m;
    out[j + 16] = static_cast<float>(q >> 4) * d + m;
  }
}

// The fifth bits of values 0 … 31 are the bits of one word, lowest first.
int fifth(uint32_t high, int index) { return static_cast<int>((high >> index) & 1) << 4; }

void q5_0(Bytes block, float* out) {
  const float d = half(block);
  const uint32_t high = word(block + 2);
  for (int j = 0; j < 16; ++j) {
    const int q = block[6 + j];
    out[j] = static_cast<float>(((q & 15) | fifth(high, j)) - 16) * d;
    out[j + 16] = static_cast<float>(((q >> 4) | fifth(high, j + 16)) - 16) * d;
  }
}

void q5_1(Bytes block, float* out) {
  const float d = half(block);
  const float m = half(block + 2);
  const uint32_t high = word(block + 4);
  for (int j = 0; j < 16; ++j) {
    const int q = block[8 + j];
    out[j] = static_cast<float>((q & 15) | fifth(high, j)) * d + m;
    out[j + 16] = static_cast<float>((q >> 4) | fifth(high, j + 16)) * d + m;
  }
}

void q8_0(Bytes block, float* out) {
  const float d = half(block);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * d;
}

// K-quants hold eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each in the low six
// bits of bytes 0-3 and 4-7, the last four with their low nibbles in bytes 8-11 and their high pairs above
// the first four.
struct ScaleAndMin {
  float scale, min;
};

ScaleAndMin scale_and_min(Bytes packed, int index) {
  if (index < 4) return {static_cast<float>(packed[index] & 63), static_cast<float>(packed[index + 4] & 63)};
  const int low = packed[index + 4];
  const int scale = (low & 15) | ((packed[index - 4] >> 6) << 4);
  const int min = (low >> 4) | ((packed[index] >> 6) << 4);
  return {static_cast<float>(scale), static_cast<float>(min)};
}

void q4_k(Bytes block, float* out) {
  const float d = half(block);
  const float dmin = half(block + 2);
  const Bytes scales = block + 4;
  for (int pair = 0; pair < 4; ++pair) {
    const Bytes q = block + 16 + 32 * pair;
    const auto low = scale_and_min(scales, 2 * pair);
    const auto high = scale_and_min(scales, 2 * pair + 1);
    const float d1 = d * low.scale, m1 = dmin * low.min;
    const float d2 = d * high.scale, m2 = dmin * high.min;
    float* first = out + 64 * pair;
    for (int j = 0; j < 32; ++j) {
      first[j] = d1 * static_cast<float>(q[j] & 15) - m1;
      first[j + 32] = d2 * static_cast<float>(q[j] >> 4) - m2;
    }
  }
}

void q5_k(Bytes block, float* out) {
  const float d = half(block);
  const float dmin = half(block + 2);
  const Bytes scales = block + 4;
  const Bytes fifths = block + 16;
  for (int pair = 0; pair < 4; ++pair) {
    const Bytes q = block + 48 + 32 * pair;
    const auto low = scale_and_min(scales, 2 * pair);
    const auto high = scale_and_min(scales, 2 * pair + 1);
    const float d1 = d * low.scale, m1 = dmin * low.min;
    const float d2 = d * high.scale, m2 = dmin * high.min;
    float* first = out + 64 * pair;
    for (int j = 0; j < 32; ++j) {
      const int bit1 = ((fifths[j] >> (2 * pair)) & 1) << 4;
      const int bit2 = ((fifths[j] >> (2 * pair + 1)) & 1) << 4;
      first[j] = d1 * static_cast<float>((q[j] & 15) + bit1) - m1;
      first[j + 32] = d2 * static_cast<float>((q[j] >> 4) + bit2) - m2;
    }
  }
}

void q6_k(Bytes block, float* out) {
  const float d = half(block + 208);
  for (int part = 0; part < 2; ++part) {
    const Bytes low = block + 64 * part;
    const Bytes high = block + 128 + 32 * part;
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192 + 8 * part);
    float* first = out + 128 * part;
    float d_scale[8];
    for (int k = 0; k < 8; ++k) d_scale[k] = d * static_cast<float>(scales[k]);
    for (int j = 0; j < 32; ++j) {
      const int sub = j / 16;
      const int q1 = ((low[j] & 15) | ((high[j] & 3) << 4)) - 32;
      const int q2 = ((low[j + 32] & 15) | (((high[j] >> 2) & 3) << 4)) - 32;
      const int q3 = ((low[j] >> 4) | (((high[j] >> 4) & 3) << 4)) - 32;
      const int q4 = ((low[j + 32] >> 4) | ((high[j] >> 6) << 4)) - 32;
      first[j] = d_scale[sub] * static_cast<float>(q1);
      first[j + 32] = d_scale[sub + 2] * static_cast<float>(q2);
      first[j + 64] = d_scale[sub + 4] * static_cast<float>(q3);
      first[j + 96] = d_scale[sub + 6] * static_cast<float>(q4);
    }
  }
}

template <auto decode>
void each_block(Bytes bytes, const Layout& shape, std::span<float> values) {
  for (size_t at = 0; at < values.size(); at += shape.values, bytes += shape.bytes) decode(bytes, &values[at]);
}

}  // namespace

std::optional<GgmlType> ggml_type(uint32_t number) {
  for (const Layout& each : layouts) {
    if (static_cast<uint32_t>(each.type) == number) return each.type;
  }
  return std::nullopt;
}

const char* ggml_type_name(GgmlType type) { return layout(type).name; }
size_t ggml_block_values(GgmlType type) { return layout(type).values; }
size_t ggml_block_bytes(GgmlType type) { return layout(type).bytes; }

void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> values) {
  const Layout& shape = layout(type);
  if (values.size() % shape.values != 0 || blocks.size() / shape.bytes != values.size() / shape.values ||
      blocks.size() % shape.bytes != 0) {
    fail("{} bytes of {} cannot hold {} values", blocks.size(), shape.name, values.size());
  }
  const auto* bytes = reinterpret_cast<Bytes>(blocks.data());
  switch (type) {
    case GgmlType::f32:
      if (!values.empty()) std::memcpy(values.data(), bytes, blocks.size());
      return;
    case GgmlType::f16:
      for (size_t i = 0; i < values.size(); ++i) values[i] = half(bytes + 2 * i);
      return;
    case GgmlType::bf16:
      for (size_t i = 0; i < values.size(); ++i) {
        uint16_t bits;
        std::memcpy(&bits, bytes + 2 * i, sizeof bits);
        values[i] = c10::BFloat16(bits, c10::BFloat16::from_bits());
      }
      return;
    case GgmlType::q4_0: return each_block<q4_0>(bytes, shape, values);
    case GgmlType::q4_1: return each_block<q4_1>(bytes, shape, values);
    case GgmlType::q5_0: return each_block<q5_0>(bytes, shape, values);
    case GgmlType::q5_1: return each_block<q5_1>(bytes, shape, values);
    case GgmlType::q8_0: return each_block<q8_0>(bytes, shape, values);
    case GgmlType::q4_k: return each_block<q4_k>(bytes, shape, values);
    case GgmlType::q5_k: return each_block<q5_k>(bytes, shape, values);
    case GgmlType::q6_k: return each_block<q6_k>(bytes, shape, values);
  }
}

}  // namespace backburn::model
