#include "backburn/kernels/attention.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <vector>

#include "backburn/kernels/cpu.h"
#include "backburn/kernels/parallel.h"
#include "kernels/values.h"

namespace backburn::kernels {
namespace {

struct Attended {
  std::vector<bf16> out;
  std::vector<float> log_sums;
  bool operator==(const Attended&) const = default;
};

// Every token of a sequence, each after those before it, with a cache.
Attended token_by_token(const HeadShape& shape, int64_t tokens, const std::vector<bf16>& qkv) {
  const int64_t capacity = tokens + 3;
  std::vector<bf16> keys(shape.keys() * capacity), values(keys.size());
  Attended result{std::vector<bf16>(tokens * shape.queries()), std::vector<float>(tokens * shape.heads)};
  for (int64_t token = 0; token < tokens; ++token) {
    parallel([&] {
      team_attend_cached(shape, 1, &qkv[token * shape.width()], &token, capacity, keys.data(), values.data(),
                         &result.out[token * shape.queries()], &result.log_sums[token * shape.heads]);
    });
  }
  return result;
}

// The same at once, a token's past in two runs.
Attended at_once(const HeadShape& shape, int64_t tokens, int64_t shared, const std::vector<bf16>& qkv) {
  std::vector<Sight> sights(tokens);
  for (int64_t i = shared; i < tokens; ++i) {
    sights[i] = {0, static_cast<int32_t>(shared), static_cast<int32_t>(shared)};
  }
  Attended result{std::vector<bf16>(tokens * shape.queries()), std::vector<float>(tokens * shape.heads)};
  parallel([&] { team_attend(shape, tokens, qkv.data(), sights.data(), result.out.data(), result.log_sums.data()); });
  return result;
}

class AttentionTest : public testing::TestWithParam<HeadShape> {
 protected:
  void SetUp() override {
    if (!available()) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  }
};

TEST_P(AttentionTest, IsSoftmaxOfScoresTimesValues) {
  const HeadShape shape = GetParam();
  constexpr int64_t tokens = 41;
  const auto qkv = random_values(tokens * shape.width(), 1);
  const auto result = token_by_token(shape, tokens, qkv);
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t head = 0; head < shape.heads; ++head) {
      const bf16* query = &qkv[token * shape.width() + head * shape.head_dim];
      const int64_t key_at = shape.queries() + head / (shape.heads / shape.key_value_heads) * shape.head_dim;
      double total = 0;
      std::vector<double> mixed(shape.head_dim);
      for (int64_t seen = 0; seen <= token; ++seen) {
        const bf16* key = &qkv[seen * shape.width() + key_at];
        double score = 0;
        for (int64_t i = 0; i < shape.head_dim; ++i) score += widen(query[i]) * widen(key[i]);
        const double weight = std::exp(score / std::sqrt(shape.head_dim));
        total += weight;
        for (int64_t i = 0; i < shape.head_dim; ++i) mixed[i] += weight * widen(key[shape.keys() + i]);
      }
      EXPECT_NEAR(result.log_sums[token * shape.heads + head], std::log(total), 1e-4);
      for (int64_t i = 0; i < shape.head_dim; ++i) {
        const double wanted = mixed[i] / total;
        ASSERT_NEAR(widen(result.out[token * shape.queries() + head * shape.head_dim + i]), wanted,
                    0.005 * std::abs(wanted) + 1e-4);
      }
    }
  }
}

TEST_P(AttentionTest, TokenByTokenEqualsAtOnceForAnyNumberOfThreads) {
  const HeadShape shape = GetParam();
  constexpr int64_t tokens = 70;
  const auto qkv = random_values(tokens * shape.width(), 2);
  const auto wanted = token_by_token(shape, tokens, qkv);
  const int before = omp_get_max_threads();
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    for (const int64_t shared : {0, 5, 16, 33}) EXPECT_EQ(at_once(shape, tokens, shared, qkv), wanted) << shared;
    EXPECT_EQ(token_by_token(shape, tokens, qkv), wanted);
  }
  omp_set_num_threads(before);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         testing::Values(HeadShape{3, 3, 32}, HeadShape{9, 3, 64}, HeadShape{14, 2, 64},
                                         HeadShape{4, 1, 128}, HeadShape{3, 1, 256}),
                         [](const auto& each) {
                           return std::to_string(each.param.heads) + "_" + std::to_string(each.param.key_value_heads) +
                                  "_" + std::to_string(each.param.head_dim);
                         });

}  // namespace
}  // namespace backburn::kernels
