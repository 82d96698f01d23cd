#include "backburn/base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace backburn {
namespace {

TEST(Progress, TimesReadWell) {
  EXPECT_EQ(format_seconds(0), "0 s");
  EXPECT_EQ(format_seconds(59.4), "59 s");
  EXPECT_EQ(format_seconds(59.6), "1 min 00 s");
  EXPECT_EQ(format_seconds(200), "3 min 20 s");
  EXPECT_EQ(format_seconds(3599.6), "1 h 00 min");
  EXPECT_EQ(format_seconds(3900), "1 h 05 min");
  EXPECT_EQ(format_seconds(100 * 3600), "100 h 00 min");
}

TEST(Progress, OneLineAtTheEndWhereNobodyWatches) {
  testing::internal::CaptureStderr();
  {
    Progress progress("attack", 3);
    for (int i = 1; i <= 3; ++i) progress.update(i, "harm 3.2");
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "attack: 3/3 [0 s] harm 3.2\n");
  testing::internal::CaptureStderr();
  { Progress progress("attack", 200, 150); }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "attack: 150/200 [0 s]\n");
  testing::internal::CaptureStderr();
  { Progress progress("read", 0); }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "read: 0 [0 s]\n");
}

}  // namespace
}  // namespace backburn
