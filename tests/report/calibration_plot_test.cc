#include "backburn/report/calibration_plot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace backburn::report {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(CalibrationPlot, MarksLieByTheirSquareRoots) {
  const auto svg = calibration_plot({{"<b>", 1, 4, false}, {"fine", 0, 0, true}});
  // 48 of margin, 360 of axis: a quarter of the largest lies in the middle, the largest on top.
  EXPECT_THAT(svg, HasSubstr("<circle class=\"violated\" cx=\"228.0\" cy=\"48.0\""));
  EXPECT_THAT(svg, HasSubstr("<circle class=\"held\" cx=\"48.0\" cy=\"408.0\""));
  EXPECT_THAT(svg, HasSubstr("<title>&lt;b&gt;: 1 expected, 4 seen</title>"));
  EXPECT_THAT(svg, Not(HasSubstr("<b>")));
}

}  // namespace
}  // namespace backburn::report
