#include "backburn/generate/sampler.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "backburn/base/error.h"
#include "backburn/base/rng.h"

namespace backburn::generate {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Logits of the probabilities 0.1, 0.4, 0.2, 0.3, one row a uniform.
at::Tensor four_tokens(size_t rows) {
  return at::tensor({0.1F, 0.4F, 0.2F, 0.3F}).log().add(5.0).expand({static_cast<int64_t>(rows), 4});
}

std::vector<int32_t> ids_at(const std::vector<float>& uniforms, const SamplingOptions& options = {}) {
  std::vector<int32_t> ids;
  for (const SampledToken& token : sample(four_tokens(uniforms.size()), uniforms, options)) ids.push_back(token.id);
  return ids;
}

// How often each of the four tokens is drawn by 1,000 evenly spaced uniforms.
std::vector<int> shares(const SamplingOptions& options) {
  std::vector<float> uniforms;
  uniforms.reserve(1000);
  for (int i = 0; i < 1000; ++i) uniforms.push_back((static_cast<float>(i) + 0.5F) / 1000);
  std::vector<int> counts(4);
  for (const int32_t id : ids_at(uniforms, options)) ++counts[id];
  return counts;
}

std::string error_of(const at::Tensor& logits, const SamplingOptions& options) {
  try {
    sample(logits, std::vector<float>{0.5F}, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Sampler, InvertsTheCumulativeDistribution) {
  EXPECT_THAT(ids_at({0.0F, 0.09F, 0.11F, 0.49F, 0.51F, 0.69F, 0.71F, 0.99999994F}),
              ElementsAre(0, 0, 1, 1, 2, 2, 3, 3));
  EXPECT_THAT(shares({}), ElementsAre(100, 400, 200, 300));
}

TEST(Sampler, TemperatureDividesLogits) {
  // Squared probabilities, 0.01 0.16 0.04 0.09, over their sum 0.3.
  EXPECT_THAT(shares({.temperature = 0.5}), ElementsAre(33, 534, 133, 300));
}

TEST(Sampler, TheCutsKeepTheLikeliest) {
  EXPECT_THAT(shares({.top_k = 1}), ElementsAre(0, 1000, 0, 0));
  EXPECT_THAT(shares({.top_k = 2}), ElementsAre(0, 571, 0, 429));
  EXPECT_THAT(shares({.top_k = 9}), ElementsAre(100, 400, 200, 300));
  EXPECT_THAT(shares({.top_p = 0.0}), ElementsAre(0, 1000, 0, 0));
  EXPECT_THAT(shares({.top_p = 0.65}), ElementsAre(0, 571, 0, 429));
  EXPECT_THAT(shares({.top_p = 0.75}), ElementsAre(0, 444, 223, 333));
  EXPECT_THAT(shares({.min_p = 0.6}), ElementsAre(0, 571, 0, 429));
  EXPECT_THAT(shares({.min_p = 1.0}), ElementsAre(0, 1000, 0, 0));
  EXPECT_THAT(shares({.top_k = 3, .top_p = 0.75, .min_p = 0.6}), ElementsAre(0, 571, 0, 429));
}

TEST(Sampler, EqualTokensAreCutByTheirPlace) {
  const auto sampled = sample(at::zeros({2, 5}), std::vector<float>{0.1F, 0.9F}, {.top_k = 2});
  EXPECT_EQ(sampled[0].id, 0);
  EXPECT_EQ(sampled[1].id, 1);
}

TEST(Sampler, GreedyTakesTheLikeliest) { EXPECT_THAT(ids_at({0.0F, 0.9F}, {.temperature = 0}), ElementsAre(1, 1)); }

TEST(Sampler, LogprobAndEntropyAreOfTheWholeDistribution) {
  at::manual_seed(1);
  const at::Tensor logits = at::randn({16, 300}) * 4;
  std::vector<float> uniforms;
  for (uint64_t i = 0; i < 16; ++i) uniforms.push_back(uniform(3, 1, i));
  for (const SamplingOptions& options :
       {SamplingOptions{}, SamplingOptions{.temperature = 1.7}, SamplingOptions{.temperature = 0},
        SamplingOptions{.temperature = 0.6, .top_k = 5, .top_p = 0.9}}) {
    const double temperature = options.temperature == 0 ? 1 : options.temperature;
    const auto expected = at::log_softmax(logits.to(at::kDouble) / temperature, -1);
    const auto entropies = -(expected.exp() * expected).sum(-1);
    const auto sampled = sample(logits, uniforms, options);
    for (int64_t row = 0; row < 16; ++row) {
      EXPECT_NEAR(sampled[row].logprob, expected[row][sampled[row].id].item<double>(), 1e-5);
      EXPECT_NEAR(sampled[row].entropy, entropies[row].item<double>(), 1e-5);
    }
  }
}

TEST(Sampler, ForbiddenTokensAreNeverDrawn) {
  const float never = -std::numeric_limits<float>::infinity();
  const auto logits = at::tensor({never, 1.0F, never, 1.0F}).unsqueeze(0);
  for (const auto& [u, id] : {std::pair{0.0F, 1}, {0.49F, 1}, {0.51F, 3}, {0.99999994F, 3}}) {
    const auto token = sample(logits, std::vector<float>{u}, {}).front();
    EXPECT_EQ(token.id, id);
    EXPECT_NEAR(token.entropy, std::log(2), 1e-6);
  }
}

TEST(Sampler, LogitsThatAreNoNumbersAreAnError) {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  for (const SamplingOptions& options :
       {SamplingOptions{}, SamplingOptions{.temperature = 0}, SamplingOptions{.top_p = 0.5}}) {
    EXPECT_THAT(error_of(at::tensor({0.0F, nan, 0.0F}).unsqueeze(0), options), HasSubstr("not numbers"));
    EXPECT_THAT(error_of(at::tensor({0.0F, infinity, 0.0F}).unsqueeze(0), options), HasSubstr("not numbers"));
  }
}

}  // namespace
}  // namespace backburn::generate
