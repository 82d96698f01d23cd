#include "backburn/base/most_frequent.h"

#include <gtest/gtest.h>

namespace backburn {
namespace {

TEST(MostFrequent, CountsThenLengthThenBytesDecide) {
  EXPECT_EQ(most_frequent({"no", "never", "never"}), "never");
  EXPECT_EQ(most_frequent({"never", "no"}), "no");
  EXPECT_EQ(most_frequent({"on", "no"}), "no");
  EXPECT_EQ(most_frequent({}), "");
}

}  // namespace
}  // namespace backburn
