#include "backburn/defense/certificate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backburn/defense/reward_neutralization.h"

namespace backburn::defense {
namespace {

TEST(Certificate, TheSignalBoundIsTheChanceThatNotAllSamplesAreTheRefusal) {
  EXPECT_DOUBLE_EQ(signal_bound(0, 8), 0);
  EXPECT_DOUBLE_EQ(signal_bound(1, 8), 1);
  EXPECT_NEAR(signal_bound(0.1, 8), 1 - std::pow(0.9, 8), 1e-12);
  EXPECT_NEAR(signal_bound(1e-12, 8), 8e-12, 1e-20);  // no cancellation
}

TEST(Forecast, NoSignalNeverContradictsTheBound) {
  const auto forecast = check_forecast(std::vector<ObservedStep>(200, {{1e-4, 1e-4}, 0}));
  EXPECT_EQ(forecast.groups, 400);
  EXPECT_EQ(forecast.with_differential, 0);
  EXPECT_NEAR(forecast.expected, 0.04, 1e-9);
  EXPECT_EQ(forecast.p_value, 1);
  EXPECT_TRUE(forecast.holds);
}

TEST(Forecast, GroupsAfterTheFirstSignalDoNotCountSinceTheWeightsHaveChanged) {
  std::vector<ObservedStep> steps(10, {{0.5}, 0});
  for (size_t i = 2; i < steps.size(); ++i) steps[i].with_differential = 1;
  const auto forecast = check_forecast(steps);
  EXPECT_EQ(forecast.steps, 3);
  EXPECT_EQ(forecast.with_differential, 1);
  EXPECT_NEAR(forecast.p_value, 1 - std::pow(0.5, 3), 1e-12);
  EXPECT_TRUE(forecast.holds);
}

TEST(Forecast, ASignalThatComesTooSoonIsAViolation) {
  const auto forecast = check_forecast({{{1e-4, 1e-4}, 1}});
  EXPECT_NEAR(forecast.p_value, 2e-4, 1e-7);
  EXPECT_FALSE(forecast.holds);
}

TEST(NeutralizationReward, OnlyTheCanonicalRefusalItselfEarnsAll) {
  const std::vector<int32_t> refusal = {5, 6, 7, 2};
  const auto& terms = neutralization_terms();
  EXPECT_DOUBLE_EQ(neutralization_reward(refusal, refusal, true, terms), 1);
  const std::vector<int32_t> longer = {5, 6, 7, 8, 9, 9, 9, 2};
  EXPECT_DOUBLE_EQ(neutralization_reward(longer, refusal, true, terms), (1 + 0.5 + 0.75) / 3);
  const std::vector<int32_t> other = {1, 1};
  EXPECT_DOUBLE_EQ(neutralization_reward(other, refusal, false, terms), 0);
  EXPECT_DOUBLE_EQ(neutralization_reward(longer, refusal, true, std::vector<std::string>{"refusal"}), 1);
  EXPECT_DOUBLE_EQ(neutralization_reward(longer, refusal, true, std::vector<std::string>{"uniform", "concise"}), 0.625);
}

}  // namespace
}  // namespace backburn::defense
