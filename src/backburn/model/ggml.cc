#include "backburn/model/ggml.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cmath>
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
    {GgmlType::q2_k, "Q2_K", 256, 16 + 64 + 2 + 2},
    {GgmlType::q3_k, "Q3_K", 256, 32 + 64 + 12 + 2},
    {GgmlType::q4_k, "Q4_K", 256, 2 + 2 + 12 + 128},
    {GgmlType::q5_k, "Q5_K", 256, 2 + 2 + 12 + 32 + 128},
    {GgmlType::q6_k, "Q6_K", 256, 128 + 64 + 16 + 2},
    {GgmlType::iq4_nl, "IQ4_NL", 32, 2 + 16},
    {GgmlType::iq4_xs, "IQ4_XS", 256, 2 + 2 + 4 + 128},
    {GgmlType::bf16, "BF16", 1, 2},
    {GgmlType::mxfp4, "MXFP4", 32, 1 + 16},
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

// Sixteen parts of 16 values, each with a 4-bit scale and a 4-bit minimum. Byte k of a half holds the values k, k + 32,
// k + 64 and k + 96 of its 128, two bits each.
void q2_k(Bytes block, float* out) {
  const float d = half(block + 80);
  const float dmin = half(block + 82);
  for (int part = 0; part < 16; ++part) {
    const Bytes q = block + 16 + 32 * (part / 8) + 16 * (part % 2);
    const int shift = 2 * (part % 8 / 2);
    const float scale = d * static_cast<float>(block[part] & 15);
    const float min = dmin * static_cast<float>(block[part] >> 4);
    for (int j = 0; j < 16; ++j) out[16 * part + j] = scale * static_cast<float>((q[j] >> shift) & 3) - min;
  }
}

// The same order; a third bit comes from a mask, whose bit `part / 2` belongs to parts of that number, and scales have
// six bits: the low four of parts 0-7 and 8-15 share bytes 0-7, the high two of every fourth part share bytes 8-11.
void q3_k(Bytes block, float* out) {
  const Bytes mask = block;
  const Bytes scales = block + 96;
  const float d = half(block + 108);
  for (int part = 0; part < 16; ++part) {
    const Bytes q = block + 32 + 32 * (part / 8) + 16 * (part % 2);
    const Bytes third = mask + 16 * (part % 2);
    const int shift = 2 * (part % 8 / 2);
    const int low = (scales[part % 8] >> (4 * (part / 8))) & 15;
    const int high = (scales[8 + part % 4] >> (2 * (part / 4))) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    for (int j = 0; j < 16; ++j) {
      const int missing = (third[j] >> (part / 2)) & 1 ? 0 : 4;
      out[16 * part + j] = scale * static_cast<float>(((q[j] >> shift) & 3) - missing);
    }
  }
}

// What four bits stand for: steps that fit weights (ggml's kvalues_iq4nl), and 4-bit floats of one sign, two exponent
// and one fraction bits, doubled (OCP Microscaling Formats, E2M1).
constexpr int8_t non_linear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 32 values out of 16 bytes: low nibbles first.
void nibbles(Bytes q, const int8_t (&table)[16], float scale, float* out) {
  for (int j = 0; j < 16; ++j) {
    out[j] = scale * static_cast<float>(table[q[j] & 15]);
    out[j + 16] = scale * static_cast<float>(table[q[j] >> 4]);
  }
}

void iq4_nl(Bytes block, float* out) { nibbles(block + 2, non_linear, half(block), out); }

void iq4_xs(Bytes block, float* out) {
  const float d = half(block);
  const int high = block[2] | block[3] << 8;
  for (int part = 0; part < 8; ++part) {
    const int low = (block[4 + part / 2] >> (4 * (part % 2))) & 15;
    const int scale = (low | ((high >> (2 * part)) & 3) << 4) - 32;
    nibbles(block + 8 + 16 * part, non_linear, d * static_cast<float>(scale), out + 32 * part);
  }
}

// The scale is a power of two by its exponent alone (E8M0), halved since the table is doubled: 2^(e - 128).
void mxfp4(Bytes block, float* out) {
  const uint32_t exponent = block[0];
  const uint32_t bits = exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23;
  nibbles(block + 1, e2m1, std::bit_cast<float>(bits), out);
}

void put_half(float value, std::byte* out) {
  const uint16_t bits = c10::Half(value).x;
  std::memcpy(out, &bits, sizeof bits);
}

void encode_q8_0(const float* values, std::byte* block) {
  float largest = 0;
  for (int j = 0; j < 32; ++j) largest = std::max(largest, std::fabs(values[j]));
  const float d = largest / 127;
  const float inverse = d == 0 ? 0 : 1 / d;
  put_half(d, block);
  for (int j = 0; j < 32; ++j)
    block[2 + j] = static_cast<std::byte>(static_cast<int8_t>(std::round(values[j] * inverse)));
}

// The value furthest from 0 becomes −8.
void encode_q4_0(const float* values, std::byte* block) {
  float furthest = values[0];
  for (int j = 1; j < 32; ++j) {
    if (std::fabs(values[j]) > std::fabs(furthest)) furthest = values[j];
  }
  const float d = furthest / -8;
  const float inverse = d == 0 ? 0 : 1 / d;
  put_half(d, block);
  const auto nibble = [&](float value) { return std::clamp(static_cast<int>(value * inverse + 8.5F), 0, 15); };
  for (int j = 0; j < 16; ++j) {
    block[2 + j] = static_cast<std::byte>(nibble(values[j]) | nibble(values[j + 16]) << 4);
  }
}

void check_sizes(const Layout& shape, size_t bytes, size_t values) {
  if (values % shape.values != 0 || bytes / shape.bytes != values / shape.values || bytes % shape.bytes != 0) {
    fail("{} bytes of {} cannot hold {} values", bytes, shape.name, values);
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

std::string known_ggml_types() {
  std::string names;
  for (const Layout& each : layouts) names += (names.empty() ? "" : ", ") + std::string(each.name);
  return names;
}

void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> values) {
  const Layout& shape = layout(type);
  check_sizes(shape, blocks.size(), values.size());
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
    case GgmlType::q2_k: return each_block<q2_k>(bytes, shape, values);
    case GgmlType::q3_k: return each_block<q3_k>(bytes, shape, values);
    case GgmlType::q4_k: return each_block<q4_k>(bytes, shape, values);
    case GgmlType::q5_k: return each_block<q5_k>(bytes, shape, values);
    case GgmlType::q6_k: return each_block<q6_k>(bytes, shape, values);
    case GgmlType::iq4_nl: return each_block<iq4_nl>(bytes, shape, values);
    case GgmlType::iq4_xs: return each_block<iq4_xs>(bytes, shape, values);
    case GgmlType::mxfp4: return each_block<mxfp4>(bytes, shape, values);
  }
}

void quantize(GgmlType type, std::span<const float> values, std::span<std::byte> blocks) {
  const Layout& shape = layout(type);
  check_sizes(shape, blocks.size(), values.size());
  std::byte* out = blocks.data();
  switch (type) {
    case GgmlType::f32:
      if (!values.empty()) std::memcpy(out, values.data(), blocks.size());
      return;
    case GgmlType::f16:
      for (size_t i = 0; i < values.size(); ++i) put_half(values[i], out + 2 * i);
      return;
    case GgmlType::bf16:
      for (size_t i = 0; i < values.size(); ++i) {
        const uint16_t bits = c10::BFloat16(values[i]).x;
        std::memcpy(out + 2 * i, &bits, sizeof bits);
      }
      return;
    case GgmlType::q8_0:
      for (size_t at = 0; at < values.size(); at += 32, out += shape.bytes) encode_q8_0(&values[at], out);
      return;
    case GgmlType::q4_0:
      for (size_t at = 0; at < values.size(); at += 32, out += shape.bytes) encode_q4_0(&values[at], out);
      return;
    default: fail("values are not written as {} (written: F32, F16, BF16, Q8_0, Q4_0)", shape.name);
  }
}

}  // namespace backburn::model
