#include "backburn/report/html.h"

#include <stdexcept>
#include <string_view>

#include "backburn/base/embedded.h"

namespace backburn::report {
namespace {

constexpr std::string_view placeholder = R"(<script type="application/json" id="report-data">{}</script>)";

// In valid JSON these characters stand only inside strings, where an escape means the same.
std::string escape_for_script(std::string_view json) {
  std::string escaped;
  escaped.reserve(json.size() + json.size() / 8);
  for (size_t i = 0; i < json.size(); ++i) {
    if (json[i] == '<') {
      escaped += "\\u003c";
    } else if (json[i] == '>') {
      escaped += "\\u003e";
    } else if (json[i] == '&') {
      escaped += "\\u0026";
    } else if (json.substr(i, 3) == "\xE2\x80\xA8") {
      escaped += "\\u2028";
      i += 2;
    } else if (json.substr(i, 3) == "\xE2\x80\xA9") {
      escaped += "\\u2029";
      i += 2;
    } else {
      escaped += json[i];
    }
  }
  return escaped;
}

}  // namespace

std::string render_html(const Json& data) {
  std::string page{embedded_file("web/dist/report.html")};
  const size_t block = page.find(placeholder);
  if (block == std::string::npos) {
    throw std::logic_error("web/dist/report.html has no data block: rebuild it with `npm ci && npm run build` in web/");
  }
  const std::string json = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  page.replace(block + placeholder.find("{}"), 2, escape_for_script(json));
  return page;
}

}  // namespace backburn::report
