#include "backburn/defense/unseen.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backburn/base/rng.h"
#include "backburn/defense/certificate.h"

namespace backburn::defense {
namespace {

TEST(ClopperPearson, IsSciPys) {
  for (const Json& each : read_json_file(TEST_DATA_DIR "/statistics.json")["clopper_pearson_upper"]) {
    EXPECT_NEAR(clopper_pearson_upper(each["successes"].get<int64_t>(), each["total"].get<int64_t>(),
                                      each["confidence"].get<double>()),
                each["upper"].get<double>(), 1e-10)
        << each.dump();
  }
}

TEST(ClopperPearson, SaysNothingWithoutDraws) { EXPECT_EQ(clopper_pearson_upper(0, 0, 0.95), 1); }

// The guarantee itself: over many draws from a known share, the bound is below it no more often than 1 − confidence.
TEST(ClopperPearson, CoversTheTrueShare) {
  constexpr int runs = 4000, total = 43;
  for (const double truth : {0.02, 0.1, 0.5}) {
    int missed = 0;
    for (int run = 0; run < runs; ++run) {
      int64_t seen = 0;
      for (int i = 0; i < total; ++i) seen += uniform(1, static_cast<uint64_t>(run), static_cast<uint64_t>(i)) < truth;
      missed += clopper_pearson_upper(seen, total, 0.95) < truth ? 1 : 0;
    }
    EXPECT_LT(missed, runs * 0.05 + 3 * std::sqrt(runs * 0.05 * 0.95)) << truth;
  }
}

TEST(Conformal, IsTheRankThatTheTheoremNames) {
  std::vector<double> values;
  for (int i = 19; i >= 1; --i) values.push_back(i / 100.0);
  EXPECT_DOUBLE_EQ(conformal_quantile(values, 0.95), 0.19);  // ⌈20 · 0.95⌉ = 19
  EXPECT_DOUBLE_EQ(conformal_quantile(values, 0.9), 0.18);
  EXPECT_DOUBLE_EQ(conformal_quantile(values, 0.96), 1);  // 20 values would be needed
  EXPECT_DOUBLE_EQ(conformal_quantile({}, 0.9), 1);
}

TEST(Conformal, CoversANewValue) {
  constexpr int runs = 4000, n = 30;
  int covered = 0;
  for (uint64_t run = 0; run < runs; ++run) {
    std::vector<double> values;
    for (uint64_t i = 0; i < n; ++i) values.push_back(std::pow(uniform(2, run, i), 6));
    covered += std::pow(uniform(2, run, n), 6) <= conformal_quantile(values, 0.9) ? 1 : 0;
  }
  EXPECT_GT(covered, runs * 0.9 - 3 * std::sqrt(runs * 0.9 * 0.1));
}

TEST(UnseenBound, CountsActivitiesNotPrompts) {
  const std::vector<HeldOut> heldout = {{"a", 0.2}, {"a", 0.001}, {"b", 0.05}, {"b", 0.04}, {"", 0.001}, {"", 0.002}};
  const std::vector<double> thresholds = {0.01, 0.1};
  const auto bound = bound_unseen(heldout, thresholds, 0.9, 8);
  EXPECT_EQ(bound.units, 4);
  EXPECT_EQ(bound.p_quantile, 1);
  ASSERT_EQ(bound.shares.size(), 2);
  EXPECT_EQ(bound.shares[0].above, 2);
  EXPECT_EQ(bound.shares[1].above, 1);
  const double upper = clopper_pearson_upper(1, 4, 0.9);
  EXPECT_DOUBLE_EQ(bound.shares[1].upper, upper);
  EXPECT_NEAR(bound.shares[1].signal_per_group, upper + (1 - upper) * (1 - std::pow(0.9, 8)), 1e-12);
}

}  // namespace
}  // namespace backburn::defense
