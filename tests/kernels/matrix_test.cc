#include "backburn/kernels/matrix.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <bit>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "backburn/kernels/cpu.h"
#include "backburn/kernels/huge_pages.h"
#include "backburn/kernels/parallel.h"
#include "kernels/values.h"

namespace backburn::kernels {
namespace {

// Small integers: exact in bf16, and their sums of products in f32, so that results can be compared for equality.
std::vector<bf16> integers(int64_t count, uint32_t seed, int largest = 7) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> draw(-largest, largest);
  std::vector<bf16> values(count);
  for (bf16& value : values) value = static_cast<bf16>(std::bit_cast<uint32_t>(static_cast<float>(draw(random))) >> 16);
  return values;
}

float dot(const bf16* x, const bf16* w, int64_t k) {
  float sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += widen(x[i]) * widen(w[i]);
  return sum;
}

class MatrixTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!available()) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  }
};

TEST_F(MatrixTest, ProductsOfAllShapesAreExact) {
  for (const int64_t m : {1, 2, 5, 12, 13, 32, 250, 491}) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{32, 2}, {16, 64}, {96, 30}, {49, 18}}) {
      const auto x = integers(m * k, 1), w = integers(n * k, 2), low = integers(m * 6, 3), b = integers(n * 6, 4);
      const PackedMatrix packed(w.data(), n, k), packed_b(b.data(), n, 6);
      const Terms terms{{x.data(), k, &packed}, {low.data(), 6, &packed_b}};
      std::vector<float> y(m * n, 1.0F);
      parallel([&] { team_multiply_f32(m, terms, y.data(), n); });
      std::vector<float> twice = y;
      parallel([&] { team_multiply_add(m, terms, twice.data(), n); });
      for (int64_t row = 0; row < m; ++row) {
        for (int64_t column = 0; column < n; ++column) {
          const float wanted = dot(&x[row * k], &w[column * k], k) + dot(&low[row * 6], &b[column * 6], 6);
          ASSERT_EQ(y[row * n + column], wanted) << m << " " << n << " " << k << " at " << row << ", " << column;
          ASSERT_EQ(twice[row * n + column], 2 * wanted);
        }
      }
    }
  }
}

TEST_F(MatrixTest, ARowsResultDependsNeitherOnOtherRowsNorOnThreads) {
  const int before = omp_get_max_threads();
  for (const int64_t n : {16, 48, 160}) {
    const int64_t m = 37, k = 64;
    const auto x = random_values(m * k, 1), w = random_values(n * k, 2);
    const PackedMatrix packed(w.data(), n, k);
    std::vector<float> wanted(m * n), y(m * n);
    for (int64_t row = 0; row < m; ++row) team_multiply_f32(1, {{&x[row * k], k, &packed}, {}}, &wanted[row * n], n);
    for (const int threads : {1, 2, 3, 5}) {
      omp_set_num_threads(threads);
      parallel([&] { team_multiply_f32(m, {{x.data(), k, &packed}, {}}, y.data(), n); });
      EXPECT_EQ(y, wanted) << n << ", " << threads;
    }
  }
  omp_set_num_threads(before);
}

TEST_F(MatrixTest, SharedMemoryKeepsMatricesApart) {
  HugePages memory;
  const int64_t n = 40, k = 6;
  const auto first = integers(n * k, 1), second = integers(n * k, 2), x = integers(k, 3);
  const auto one = std::make_unique<PackedMatrix>(first.data(), n, k, &memory);
  auto other = std::make_unique<PackedMatrix>(second.data(), n, k, &memory);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(other->panel(0)) % 64, 0);
  PackedMatrix kept = std::move(*other);
  memory = {};  // what was handed out stays
  other.reset();
  std::vector<float> y(n);
  for (const auto& [packed, values] : {std::pair{one.get(), &first}, {&kept, &second}}) {
    team_multiply_f32(1, {{x.data(), k, packed}, {}}, y.data(), n);
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y[i], dot(x.data(), values->data() + i * k, k));
  }
}

TEST_F(MatrixTest, BiasAndResidualAreAdded) {
  const int64_t m = 7, n = 48, k = 10;
  const auto x = integers(m * k, 1, 2), w = integers(n * k, 2, 2), residual = integers(m * n, 3);
  std::vector<float> bias(n);
  for (int64_t i = 0; i < n; ++i) bias[i] = static_cast<float>(i % 5);
  const PackedMatrix packed(w.data(), n, k);
  const Terms terms{{x.data(), k, &packed}, {}};
  std::vector<bf16> y(m * n), sum(m * n);
  parallel([&] {
    team_multiply(m, terms, bias.data(), y.data(), n);
    team_multiply_residual(m, terms, bias.data(), residual.data(), sum.data(), n);
  });
  for (int64_t i = 0; i < m * n; ++i) {
    const float product = dot(&x[i / n * k], &w[i % n * k], k) + bias[i % n];
    ASSERT_EQ(widen(y[i]), product);
    ASSERT_EQ(widen(sum[i]), product + widen(residual[i]));
  }
}

TEST_F(MatrixTest, SwiGluPairsGateAndUp) {
  const int64_t m = 5, inner = 32, k = 8;
  const auto x = integers(m * k, 1, 1), w = integers(2 * inner * k, 2, 1);
  const PackedMatrix packed(w.data(), 2 * inner, k);
  std::vector<bf16> kept(m * 2 * inner), out(m * inner);
  parallel([&] { team_multiply_swiglu(m, {{x.data(), k, &packed}, {}}, kept.data(), out.data(), inner); });
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t i = 0; i < inner; ++i) {
      const int64_t gate_row = i / 16 * 32 + i % 16;
      const float gate = dot(&x[row * k], &w[gate_row * k], k);
      const float up = dot(&x[row * k], &w[(gate_row + 16) * k], k);
      EXPECT_EQ(widen(kept[row * 2 * inner + gate_row]), gate);
      EXPECT_EQ(widen(kept[row * 2 * inner + gate_row + 16]), up);
      EXPECT_NEAR(widen(out[row * inner + i]), gate / (1 + std::exp(-gate)) * up, 0.01 * std::abs(gate * up) + 1e-6);
    }
  }
}

TEST_F(MatrixTest, OuterProductsSumOverTokens) {
  for (const int64_t tokens : {1, 2, 7, 64}) {
    const int64_t n = 24, r = 32;
    const auto y = integers(tokens * n, 1), low = integers(tokens * r, 2);
    std::vector<float> out(n * r, 1.0F), transposed(n * r, 0.0F);
    parallel([&] {
      team_outer_add(tokens, y.data(), n, n, 16, low.data(), r, r, 2.0F, out.data(), r, 1);
      team_outer_add(tokens, y.data(), n, n, 16, low.data(), r, r, 1.0F, transposed.data(), 1, n);
    });
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < r; ++j) {
        float wanted = 0;
        for (int64_t t = 0; t < tokens; ++t) wanted += widen(y[t * n + i]) * widen(low[t * r + j]);
        ASSERT_EQ(out[i * r + j], 1 + 2 * wanted);
        ASSERT_EQ(transposed[j * n + i], wanted);
      }
    }
  }
}

}  // namespace
}  // namespace backburn::kernels
