#include "backburn/report/heat_map.h"

#include "backburn/report/static_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace backburn::report {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(HeatMap, ShowsEveryStringAsText) {
  const auto page =
      static_page("a < b", heat_map_section({"say \"hi\"", {"<script>"}, {"row&"}, {{{2.5, "9.1", "<b>"}}}}));
  EXPECT_THAT(page, HasSubstr("<th scope=\"col\">&lt;script&gt;</th>"));
  EXPECT_THAT(page, HasSubstr("<th scope=\"row\">row&amp;</th>"));
  EXPECT_THAT(page, HasSubstr("--heat: 100%\">9.1<small>&lt;b&gt;</small>"));
  EXPECT_THAT(page, HasSubstr("<title>a &lt; b</title>"));
  EXPECT_THAT(page, Not(HasSubstr("<script>")));
}

}  // namespace
}  // namespace backburn::report
