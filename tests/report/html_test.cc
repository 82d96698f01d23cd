#include "backburn/report/html.h"

#include <gtest/gtest.h>

#include <limits>

#include "backburn/base/files.h"

namespace backburn::report {
namespace {

const std::string block_start = R"(<script type="application/json" id="report-data">)";

// What a browser takes for the data block: all up to the first "</script".
std::string data_block(const std::string& page) {
  const size_t start = page.find(block_start);
  if (start == std::string::npos) return "(no data block)";
  const size_t begin = start + block_start.size();
  return page.substr(begin, page.find("</script", begin) - begin);
}

TEST(Html, DataComesBackFromThePageUnchanged) {
  const Json data = read_json_file(std::string(SOURCE_DIR) + "/web/sample.json");
  EXPECT_EQ(Json::parse(data_block(render_html(data))), data);
}

TEST(Html, NoStringLeavesTheDataBlock) {
  const Json data = {{"title", "</script><script>alert(1)</script><!-- & \u2028 \u2029"}, {"</script>", 1}};
  const std::string block = data_block(render_html(data));
  EXPECT_EQ(block, R"({"title":"\u003c/script\u003e\u003cscript\u003ealert(1)\u003c/script\u003e\u003c!-- \u0026 )"
                   R"(\u2028 \u2029","\u003c/script\u003e":1})");
  EXPECT_EQ(Json::parse(block), data);
}

TEST(Html, OnlyTheDataBlockDiffersFromThePage) {
  const std::string empty = render_html(Json::object());
  const std::string full = render_html({{"title", "a"}});
  EXPECT_EQ(full.size(), empty.size() + std::string(R"("title":"a")").size());
  EXPECT_EQ(empty.substr(0, empty.find(block_start)), full.substr(0, full.find(block_start)));
}

TEST(Html, BadBytesAndNumbersBecomeValidJson) {
  const Json data = {{"title", "caf\xe9"},
                     {"nan", std::numeric_limits<double>::quiet_NaN()},
                     {"inf", std::numeric_limits<double>::infinity()}};
  EXPECT_EQ(Json::parse(data_block(render_html(data))),
            (Json{{"title", "caf\uFFFD"}, {"nan", nullptr}, {"inf", nullptr}}));
}

TEST(Html, ThePageNeedsNoNetwork) {
  const std::string page = render_html(Json::object());
  EXPECT_LE(page.size(), 200u * 1024);
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  for (const std::string fetching : {" src=", "<link", "<img", "<iframe", "url(", "@import", "unsafe-inline"}) {
    EXPECT_EQ(page.find(fetching), std::string::npos) << fetching;
  }
}

}  // namespace
}  // namespace backburn::report
