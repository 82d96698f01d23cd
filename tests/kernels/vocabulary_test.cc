#include "backburn/kernels/vocabulary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backburn/kernels/cpu.h"
#include "backburn/kernels/parallel.h"

namespace backburn::kernels {
namespace {

double widen(bf16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

// Multiples of 1/8: exact in bf16, and their sums of products in f32.
std::vector<bf16> eighths(int64_t count, uint32_t seed, int largest) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> draw(-largest, largest);
  std::vector<bf16> values(count);
  for (bf16& value : values) {
    value = static_cast<bf16>(std::bit_cast<uint32_t>(static_cast<float>(draw(random)) / 8) >> 16);
  }
  return values;
}

std::vector<double> logits_of(const bf16* hidden, const std::vector<bf16>& head, int64_t k, double temperature) {
  std::vector<double> logits(head.size() / k);
  for (size_t v = 0; v < logits.size(); ++v) {
    double sum = 0;
    for (int64_t i = 0; i < k; ++i) sum += widen(hidden[i]) * widen(head[v * k + i]);
    logits[v] = sum / temperature;
  }
  return logits;
}

double normalizer_of(const std::vector<double>& logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

struct Problem {
  Problem(int64_t row_count, int64_t vocab, int64_t size)
      : rows(row_count),
        vocabulary(vocab),
        k(size),
        stride(size + 6),
        hidden(eighths(rows * stride, 1, 12)),
        teacher(eighths(rows * stride, 2, 12)),
        weights(eighths(vocab * size, 3, 8)),
        head(weights.data(), vocab, k),
        targets(rows),
        gradients(rows) {
    std::vector<bf16> turned(weights.size());
    for (int64_t v = 0; v < vocabulary; ++v) {
      for (int64_t i = 0; i < k; ++i) turned[i * vocabulary + v] = weights[v * k + i];
    }
    head_transposed = PackedMatrix(turned.data(), k, vocabulary);
    std::mt19937 random(4);
    for (int64_t row = 0; row < rows; ++row) {
      targets[row] = row == 0 ? vocabulary - 1 : random() % vocabulary;
      gradients[row] = static_cast<float>(row % 5 + 1) * (row % 2 == 0 ? 0.5F : -0.25F);
    }
  }

  std::vector<double> logits(const std::vector<bf16>& of, int64_t row, double temperature = 1) const {
    return logits_of(&of[row * stride], weights, k, temperature);
  }

  // Σ slope · head, compared relatively to the row's length.
  void expect_gradient(int64_t row, const std::vector<double>& slopes, const std::vector<bf16>& found) const {
    double gap = 0, length = 0;
    for (int64_t i = 0; i < k; ++i) {
      double wanted = 0;
      for (int64_t v = 0; v < vocabulary; ++v) wanted += slopes[v] * widen(weights[v * k + i]);
      gap += std::pow(widen(found[row * stride + i]) - wanted, 2);
      length += wanted * wanted;
    }
    EXPECT_LT(std::sqrt(gap / length), 0.006) << "row " << row;
  }

  int64_t rows, vocabulary, k, stride;
  std::vector<bf16> hidden, teacher, weights;
  PackedMatrix head, head_transposed;
  std::vector<int64_t> targets;
  std::vector<float> gradients;
};

const std::vector<std::array<int64_t, 3>> shapes = {{1, 1000, 64}, {5, 2, 8},       {5, 1090, 24},
                                                    {5, 8192, 96}, {300, 1000, 32}, {300, 96, 34}};

class VocabularyTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!available()) GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  }
};

TEST_F(VocabularyTest, LogprobsAndTheirGradient) {
  for (const auto& [rows, vocabulary, k] : shapes) {
    const Problem problem(rows, vocabulary, k);
    for (const float temperature : {1.0F, 2.0F}) {
      std::vector<float> logprobs(rows), entropies(rows), normalizers(rows);
      std::vector<bf16> gradient(rows * problem.stride);
      parallel([&] {
        team_token_logprobs(rows, problem.hidden.data(), problem.stride, problem.head, problem.targets.data(),
                            temperature, logprobs.data(), entropies.data(), normalizers.data());
        team_token_logprobs_gradient(rows, problem.hidden.data(), problem.stride, problem.head, problem.head_transposed,
                                     problem.targets.data(), temperature, normalizers.data(), problem.gradients.data(),
                                     gradient.data());
      });
      for (int64_t row = 0; row < rows; ++row) {
        auto logits = problem.logits(problem.hidden, row, temperature);
        const double normalizer = normalizer_of(logits);
        ASSERT_NEAR(normalizers[row], normalizer, 5e-6) << row << " of " << rows << ", " << vocabulary;
        ASSERT_NEAR(logprobs[row], logits[problem.targets[row]] - normalizer, 5e-6);
        double entropy = 0;
        for (double& logit : logits) {
          const double p = std::exp(logit - normalizer);
          entropy -= p * (logit - normalizer);
          logit = -p * problem.gradients[row] / temperature;
        }
        ASSERT_NEAR(entropies[row], entropy, 1e-5);
        logits[problem.targets[row]] += problem.gradients[row] / temperature;
        problem.expect_gradient(row, logits, gradient);
      }
    }
  }
}

TEST_F(VocabularyTest, DivergenceAndItsGradient) {
  for (const auto& [rows, vocabulary, k] : shapes) {
    const Problem problem(rows, vocabulary, k);
    std::vector<float> divergences(rows), none(rows), students(rows), teachers(rows);
    std::vector<bf16> gradient(rows * problem.stride);
    parallel([&] {
      team_divergence(rows, problem.teacher.data(), problem.teacher.data(), problem.stride, problem.head, none.data(),
                      students.data(), teachers.data());
      team_divergence(rows, problem.hidden.data(), problem.teacher.data(), problem.stride, problem.head,
                      divergences.data(), students.data(), teachers.data());
      team_divergence_gradient(rows, problem.hidden.data(), problem.teacher.data(), problem.stride, problem.head,
                               problem.head_transposed, students.data(), teachers.data(), problem.gradients.data(),
                               gradient.data());
    });
    for (int64_t row = 0; row < rows; ++row) {
      const auto student = problem.logits(problem.hidden, row), teacher = problem.logits(problem.teacher, row);
      const double of_student = normalizer_of(student), of_teacher = normalizer_of(teacher);
      ASSERT_NEAR(students[row], of_student, 5e-6);
      ASSERT_NEAR(teachers[row], of_teacher, 5e-6);
      std::vector<double> slopes(vocabulary);
      double divergence = 0;
      for (int64_t v = 0; v < vocabulary; ++v) {
        const double wanted = teacher[v] - of_teacher, given = student[v] - of_student;
        divergence += std::exp(wanted) * (wanted - given);
        slopes[v] = problem.gradients[row] * (std::exp(given) - std::exp(wanted));
      }
      ASSERT_NEAR(divergences[row], divergence, 1e-5);
      ASSERT_EQ(none[row], 0.0F);
      problem.expect_gradient(row, slopes, gradient);
    }
  }
}

TEST_F(VocabularyTest, ARowsResultDependsNeitherOnOtherRowsNorOnThreads) {
  const Problem problem(29, 1090, 64);
  std::vector<float> logprobs(29), entropies(29), normalizers(29), one(3);
  std::vector<bf16> gradient(29 * problem.stride), one_gradient(problem.stride);
  const auto compute = [&](int64_t row, int64_t rows, float* logprob, float* entropy, float* normalizer, bf16* out) {
    team_token_logprobs(rows, &problem.hidden[row * problem.stride], problem.stride, problem.head,
                        &problem.targets[row], 1.0F, logprob, entropy, normalizer);
    team_token_logprobs_gradient(rows, &problem.hidden[row * problem.stride], problem.stride, problem.head,
                                 problem.head_transposed, &problem.targets[row], 1.0F, normalizer,
                                 &problem.gradients[row], out);
  };
  parallel([&] { compute(0, 29, logprobs.data(), entropies.data(), normalizers.data(), gradient.data()); });
  for (const int64_t row : {0, 13, 28}) {
    compute(row, 1, &one[0], &one[1], &one[2], one_gradient.data());
    EXPECT_EQ(one, (std::vector<float>{logprobs[row], entropies[row], normalizers[row]}));
    EXPECT_TRUE(std::equal(one_gradient.begin(), one_gradient.begin() + 64, &gradient[row * problem.stride]));
  }
}

TEST_F(VocabularyTest, LogitsInMemoryAreDescribedWithTheBitsOfThoseThatAreNot) {
  for (const auto& [rows, vocabulary, k] : shapes) {
    const Problem problem(rows, vocabulary, k);
    for (const float temperature : {1.0F, 0.7F, 1.5F}) {
      std::vector<float> logits(rows * vocabulary);
      std::vector<std::vector<float>> wanted(3, std::vector<float>(rows)), found = wanted;
      const std::vector<int32_t> ids(problem.targets.begin(), problem.targets.end());
      parallel([&] {
        team_multiply_f32(rows, {{problem.hidden.data(), problem.stride, &problem.head}, {}}, logits.data(),
                          vocabulary);
        team_describe(rows, logits.data(), vocabulary, vocabulary, temperature, ids.data(), found[0].data(),
                      found[1].data(), found[2].data());
        team_token_logprobs(rows, problem.hidden.data(), problem.stride, problem.head, problem.targets.data(),
                            temperature, wanted[0].data(), wanted[1].data(), wanted[2].data());
      });
      EXPECT_EQ(found, wanted);
    }
  }
}

struct Drawn {
  std::vector<int32_t> ids;
  std::vector<float> logprobs, entropies;
};

Drawn draw(const std::vector<float>& logits, const std::vector<float>& uniforms, float temperature) {
  const auto rows = static_cast<int64_t>(uniforms.size());
  const auto size = static_cast<int64_t>(logits.size()) / rows;
  Drawn drawn{std::vector<int32_t>(rows), std::vector<float>(rows), std::vector<float>(rows)};
  std::vector<float> normalizers(rows);
  parallel([&] {
    team_sample(rows, logits.data(), size, size, temperature, uniforms.data(), drawn.ids.data(), drawn.logprobs.data(),
                drawn.entropies.data(), normalizers.data());
  });
  return drawn;
}

TEST_F(VocabularyTest, DrawsInvertTheCumulativeDistribution) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 3);
  std::uniform_real_distribution<float> uniform(0, 1);
  for (const int64_t vocabulary : {1, 2, 17, 1000, 49152, 49153}) {
    for (const float temperature : {1.0F, 2.0F, 0.0F}) {
      const int64_t rows = vocabulary < 2000 ? 300 : 5;
      std::vector<float> logits(rows * vocabulary), uniforms(rows);
      for (float& logit : logits) logit = normal(random);
      for (float& u : uniforms) u = uniform(random);
      uniforms[0] = 0;
      uniforms[1] = std::nextafter(1.0F, 0.0F);
      const Drawn drawn = draw(logits, uniforms, temperature);
      for (int64_t row = 0; row < rows; ++row) {
        std::vector<double> values(&logits[row * vocabulary], &logits[row * vocabulary] + vocabulary);
        const auto likeliest = std::max_element(values.begin(), values.end()) - values.begin();
        if (temperature > 0) {
          for (double& value : values) value /= temperature;
        }
        const double normalizer = normalizer_of(values);
        const int32_t id = drawn.ids[row];
        double before = 0, entropy = 0;
        for (int64_t v = 0; v < vocabulary; ++v) {
          const double p = std::exp(values[v] - normalizer);
          if (v < id) before += p;
          entropy -= p * (values[v] - normalizer);
        }
        if (temperature == 0) {
          ASSERT_EQ(id, likeliest);
        } else {
          ASSERT_LE(before, uniforms[row] + 1e-6) << vocabulary << " row " << row;
          ASSERT_GT(before + std::exp(values[id] - normalizer), uniforms[row] - 1e-6) << vocabulary << " row " << row;
        }
        ASSERT_NEAR(drawn.logprobs[row], values[id] - normalizer, 1e-5);
        ASSERT_NEAR(drawn.entropies[row], entropy, 1e-5);
      }
    }
  }
}

TEST_F(VocabularyTest, ImpossibleTokensAreNeverDrawn) {
  const float none = -std::numeric_limits<float>::infinity();
  std::vector<float> logits(2 * 5000, none);
  logits[700] = logits[701] = logits[5000 + 700] = logits[5000 + 4000] = 2.0F;
  EXPECT_EQ(draw(logits, {0.0F, 0.999999F}, 1).ids, (std::vector<int32_t>{700, 4000}));
  EXPECT_EQ(draw(logits, {0.5F, 0.4999F}, 1).ids, (std::vector<int32_t>{701, 700}));
  EXPECT_EQ(draw(logits, {0.9F, 0.9F}, 0).ids, (std::vector<int32_t>{700, 700}));
  EXPECT_NEAR(draw(logits, {0.0F, 0.0F}, 1).entropies[0], std::log(2.0), 1e-6);
}

TEST_F(VocabularyTest, WhatIsNotADistributionHasNoLogprob) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float temperature : {1.0F, 0.0F}) {
    for (const float damage : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
      std::vector<float> logits(2 * 100, 1.0F);
      logits[177] = damage;
      const Drawn drawn = draw(logits, {0.5F, 0.5F}, temperature);
      EXPECT_FALSE(std::isnan(drawn.logprobs[0]));
      EXPECT_TRUE(std::isnan(drawn.logprobs[1]));
    }
    EXPECT_TRUE(std::isnan(draw(std::vector<float>(40, -infinity), {0.5F}, temperature).logprobs[0]));
  }
}

}  // namespace
}  // namespace backburn::kernels
