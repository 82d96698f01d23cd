#include "backburn/base/statistics.h"

#include <gtest/gtest.h>

#include <vector>

namespace backburn {
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
  values.reserve(50);
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

TEST(PoissonBinomialTail, IsTheBinomialOneWhereChancesAreEqual) {
  const auto equal = [](double chance) { return std::vector<double>(10, chance); };
  EXPECT_DOUBLE_EQ(poisson_binomial_tail(0, equal(0.3)), 1);
  EXPECT_NEAR(poisson_binomial_tail(1, equal(0.1)), 1 - 0.3486784401, 1e-12);
  EXPECT_NEAR(poisson_binomial_tail(10, equal(0.5)), 1.0 / 1024, 1e-15);
  EXPECT_DOUBLE_EQ(poisson_binomial_tail(1, equal(0)), 0);
  EXPECT_EQ(poisson_binomial_tail(11, equal(1)), 0);
}

TEST(PoissonBinomialTail, AddsUpAllOutcomes) {
  const std::vector<double> chances = {0.001, 0.3, 0.9, 0.05, 0.5};
  for (int64_t successes = 0; successes <= 5; ++successes) {
    double sum = 0;
    for (int outcome = 0; outcome < 32; ++outcome) {
      double chance = 1;
      int64_t count = 0;
      for (int i = 0; i < 5; ++i) {
        const bool happens = ((outcome >> i) & 1) == 1;
        chance *= happens ? chances[i] : 1 - chances[i];
        count += happens ? 1 : 0;
      }
      if (count >= successes) sum += chance;
    }
    EXPECT_NEAR(poisson_binomial_tail(successes, chances), sum, 1e-14) << successes;
  }
}

TEST(KaplanMeier, AgreesWithTheTextbook) {
  // Freireich 1963, remission of leukaemia under 6-MP in weeks, as in every textbook: the median is 23, and after the
  // last end (23 weeks) 44.8% are left.
  std::vector<Lifetime> weeks;
  for (const double end : {6, 6, 6, 7, 10, 13, 16, 22, 23}) weeks.push_back({end, true});
  for (const double watch : {6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35}) weeks.push_back({watch, false});
  const auto survival = kaplan_meier(weeks);
  EXPECT_NEAR(survival.surviving, 0.4482, 5e-5);
  EXPECT_EQ(survival.median, 23);
}

TEST(KaplanMeier, CensoredAtTheHorizonHasNoMedian) {
  EXPECT_EQ(kaplan_meier({{200, false}, {200, false}, {11, true}}).median, std::nullopt);
  EXPECT_NEAR(kaplan_meier({{200, false}, {200, false}, {11, true}}).surviving, 2.0 / 3, 1e-12);
  EXPECT_EQ(kaplan_meier({{11, true}, {17, true}, {21, true}}).median, 17);
  EXPECT_EQ(kaplan_meier({{5, true}, {5, true}}).surviving, 0);
}

}  // namespace
}  // namespace backburn
