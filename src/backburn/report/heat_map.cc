#include "backburn/report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace backburn::report {
namespace {

constexpr std::string_view style = R"(
:root { color-scheme: light dark; --hot: #d1495b; --cool: #2e8b7a; --line: #8886; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 3px; }
th { font-weight: 600; text-align: left; padding: .3rem .6rem; }
td { min-width: 6rem; padding: .5rem .6rem; border: 1px solid var(--line); border-radius: 4px; text-align: right;
     font-variant-numeric: tabular-nums; background: color-mix(in oklab, var(--hot) var(--heat), var(--cool)); color: #fff; }
td small { display: block; }
)";

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace

std::string render_heat_map(const HeatMap& map) {
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src "
      "'unsafe-inline'\">\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{2}</p>\n"
      "<div class=\"scroll\">\n<table>\n<thead><tr><th></th>",
      escaped(map.title), style, escaped(map.caption));
  for (const auto& column : map.columns) page += fmt::format("<th scope=\"col\">{}</th>", escaped(column));
  page += "</tr></thead>\n<tbody>\n";
  for (size_t row = 0; row < map.rows.size(); ++row) {
    page += fmt::format("<tr><th scope=\"row\">{}</th>", escaped(map.rows[row]));
    for (const HeatCell& cell : map.cells[row]) {
      page += fmt::format("<td style=\"--heat: {:.0f}%\">{}<small>{}</small></td>",
                          100 * std::clamp(cell.value, 0.0, 1.0), escaped(cell.text), escaped(cell.note));
    }
    page += "</tr>\n";
  }
  return page + "</tbody>\n</table>\n</div>\n</body>\n</html>\n";
}

}  // namespace backburn::report
