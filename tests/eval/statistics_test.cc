#include "backburn/eval/statistics.h"

#include <gtest/gtest.h>

#include <vector>

namespace backburn::eval {
namespace {

TEST(Wilson, AgreesWithTheTextbook) {
  // statsmodels.stats.proportion.proportion_confint(9, 10, method="wilson")
  const auto estimate = wilson(9, 10);
  EXPECT_DOUBLE_EQ(estimate.value, 0.9);
  EXPECT_NEAR(estimate.low, 0.5958499732047615, 1e-9);
  EXPECT_NEAR(estimate.high, 0.9821237869049271, 1e-9);
  EXPECT_EQ(wilson(0, 10).low, 0);
  EXPECT_EQ(wilson(10, 10).high, 1);
  EXPECT_EQ(wilson(0, 0).high, 1);
}

TEST(Bootstrap, TheIntervalHoldsTheMeanAndIsTheSameEachTime) {
  std::vector<double> values;
  for (int i = 0; i < 50; ++i) values.push_back(i % 10);
  const auto first = bootstrap_mean(values);
  EXPECT_DOUBLE_EQ(first.value, 4.5);
  EXPECT_LT(first.low, 4.5);
  EXPECT_GT(first.high, 4.5);
  // A normal interval: 4.5 ± 1.96 · 2.87 / √50.
  EXPECT_NEAR(first.low, 3.70, 0.15);
  EXPECT_NEAR(first.high, 5.30, 0.15);
  EXPECT_EQ(bootstrap_mean(values).low, first.low);
}

TEST(BinomialTail, IsExact) {
  EXPECT_DOUBLE_EQ(binomial_tail(0, 10, 0.3), 1);
  EXPECT_NEAR(binomial_tail(1, 10, 0.1), 1 - 0.3486784401, 1e-12);
  EXPECT_NEAR(binomial_tail(10, 10, 0.5), 1.0 / 1024, 1e-15);
  EXPECT_DOUBLE_EQ(binomial_tail(1, 10, 0), 0);
}

}  // namespace
}  // namespace backburn::eval
