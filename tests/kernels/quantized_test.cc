#include "backburn/kernels/quantized.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>
#include <vector>

#include "backburn/kernels/cpu.h"
#include "backburn/kernels/matrix.h"
#include "backburn/kernels/parallel.h"
#include "backburn/kernels/vocabulary.h"

namespace backburn::kernels {
namespace {

bf16 rounded(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<bf16>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// A matrix of random blocks, and the same values in bf16. Scales are ±1.x · 2⁻⁶ … 2⁻³, whose halves are easy to read.
struct Sample {
  std::vector<uint8_t> blocks;
  std::vector<bf16> values;

  Sample(BlockType type, int64_t n, int64_t k) : values(n * k) {
    std::mt19937 random(7);
    for (int64_t block = 0; block < n * k / 32; ++block) {
      const auto exponent = static_cast<int>(random() % 4);
      const auto fraction = static_cast<int>(random() % 1024);
      const bool negative = random() % 2 == 1;
      const auto half = static_cast<uint16_t>((negative ? 0x8000 : 0) | (exponent + 9) << 10 | fraction);
      const float scale =
          (negative ? -1.0F : 1.0F) * (1 + static_cast<float>(fraction) / 1024) / static_cast<float>(64 >> exponent);
      blocks.push_back(static_cast<uint8_t>(half));
      blocks.push_back(static_cast<uint8_t>(half >> 8));
      for (int64_t i = 0; i < block_bytes(type) - 2; ++i) blocks.push_back(static_cast<uint8_t>(random()));
      const uint8_t* q = blocks.data() + blocks.size() - (block_bytes(type) - 2);
      for (int64_t i = 0; i < 32; ++i) {
        const int value =
            type == BlockType::q8_0 ? static_cast<int8_t>(q[i]) : (i < 16 ? q[i] & 15 : q[i - 16] >> 4) - 8;
        values[block * 32 + i] = rounded(scale * static_cast<float>(value));
      }
    }
  }
};

std::vector<bf16> noise(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw(0, 1);
  std::vector<bf16> values(count);
  for (bf16& value : values) value = rounded(draw(random));
  return values;
}

std::vector<bf16> transposed(const std::vector<bf16>& values, int64_t n, int64_t k) {
  std::vector<bf16> result(n * k);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t column = 0; column < k; ++column) result[column * n + row] = values[row * k + column];
  }
  return result;
}

class Quantized : public testing::TestWithParam<BlockType> {
 protected:
  void SetUp() override {
    if (!available()) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  }
  std::shared_ptr<const QuantizedMatrix> matrix(const Sample& sample, int64_t n, int64_t k) const {
    return std::make_shared<const QuantizedMatrix>(GetParam(), sample.blocks.data(), n, k);
  }
};

TEST_P(Quantized, UnpacksToTheValuesThatItStandsFor) {
  const int64_t n = 70, k = 96;
  const Sample sample(GetParam(), n, k);
  std::vector<bf16> values(n * k);
  matrix(sample, n, k)->unpack(0, n, values.data());
  EXPECT_EQ(values, sample.values);
  values.resize(6 * k);
  matrix(sample, n, k)->unpack(64, n, values.data());
  EXPECT_TRUE(std::equal(values.begin(), values.end(), sample.values.begin() + 64 * k));
}

// To the last bit what the matrix unpacked beforehand gives, in both directions and for any number of rows.
TEST_P(Quantized, ProductsAreThoseOfTheUnpackedMatrix) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{64, 128}, {96, 32}, {38, 64}}) {
    const Sample sample(GetParam(), n, k);
    const auto turned = transposed(sample.values, n, k);
    const PackedMatrix plain(sample.values.data(), n, k), plain_turned(turned.data(), k, n);
    const PackedMatrix forward(matrix(sample, n, k)), back(matrix(sample, n, k), true);
    ASSERT_EQ(back.n(), k);
    ASSERT_EQ(back.k(), n);
    for (const int64_t m : {1, 5, 12, 13, 40, 300}) {
      for (const auto& [left, right] : {std::pair(&plain, &forward), std::pair(&plain_turned, &back)}) {
        const auto x = noise(m * left->k(), static_cast<uint32_t>(m));
        std::vector<float> wanted(m * left->n()), found(m * left->n());
        parallel([&] {
          team_multiply_f32(m, {{x.data(), left->k(), left}, {}}, wanted.data(), left->n());
          team_multiply_f32(m, {{x.data(), left->k(), right}, {}}, found.data(), left->n());
        });
        ASSERT_EQ(wanted, found) << m << " rows, " << n << " × " << k << (right == &back ? " transposed" : "");
      }
    }
  }
}

TEST_P(Quantized, HeadsGiveTheSameLogprobsAndGradients) {
  const int64_t rows = 30, vocabulary = 1094, width = 64;
  const Sample sample(GetParam(), vocabulary, width);
  const auto turned = transposed(sample.values, vocabulary, width);
  const auto hidden = noise(rows * width, 3);
  std::vector<int64_t> targets(rows);
  for (int64_t i = 0; i < rows; ++i) targets[i] = (i * 37) % vocabulary;
  const std::vector<float> gradients(rows, 0.5F);
  const auto run = [&](const PackedMatrix& head, const PackedMatrix& head_transposed) {
    std::vector<float> logprobs(rows), entropies(rows), normalizers(rows);
    std::vector<bf16> slope(rows * width);
    parallel([&] {
      team_token_logprobs(rows, hidden.data(), width, head, targets.data(), 1.0F, logprobs.data(), entropies.data(),
                          normalizers.data());
      team_token_logprobs_gradient(rows, hidden.data(), width, head, head_transposed, targets.data(), 1.0F,
                                   normalizers.data(), gradients.data(), slope.data());
    });
    return std::tuple(logprobs, entropies, slope);
  };
  const auto wanted =
      run(PackedMatrix(sample.values.data(), vocabulary, width), PackedMatrix(turned.data(), width, vocabulary));
  const auto shared = matrix(sample, vocabulary, width);
  EXPECT_EQ(run(PackedMatrix(shared), PackedMatrix(shared, true)), wanted);
}

INSTANTIATE_TEST_SUITE_P(Types, Quantized, testing::Values(BlockType::q8_0, BlockType::q4_0));

}  // namespace
}  // namespace backburn::kernels
