#include "backburn/report/static_page.h"

#include <fmt/format.h>

#include <algorithm>

namespace backburn::report {
namespace {

constexpr std::string_view style = R"(
:root { color-scheme: light dark; --hot: #d1495b; --cool: #2e8b7a; --line: #8886; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
.scroll { overflow-x: auto; }
th { font-weight: 600; text-align: left; padding: .3rem .6rem; }
td { padding: .3rem .6rem; font-variant-numeric: tabular-nums; }
table.rows { border-collapse: collapse; }
table.rows td { border-top: 1px solid var(--line); }
table.heat { border-collapse: separate; border-spacing: 3px; }
table.heat td { min-width: 6rem; padding: .5rem .6rem; border: 1px solid var(--line); border-radius: 4px; text-align: right;
     background: color-mix(in oklab, var(--hot) var(--heat), var(--cool)); color: #fff; }
table.heat td small { display: block; }
p { white-space: pre-line; }
svg { max-width: 40rem; width: 100%; height: auto; }
svg text { font-size: 12px; fill: currentColor; }
svg .axis { stroke: currentColor; }
svg .bound { stroke: currentColor; stroke-dasharray: 4 4; }
svg .held { fill: var(--cool); }
svg .violated { fill: var(--hot); }
)";

}  // namespace

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

std::string static_page(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src "
      "'unsafe-inline'\">\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{2}</body>\n"
      "</html>\n",
      escaped(title), style, body);
}

std::string table_section(const Table& table) {
  std::string html = "<div class=\"scroll\">\n<table class=\"rows\">\n<thead><tr>";
  for (const auto& cell : table.header) html += fmt::format("<th scope=\"col\">{}</th>", escaped(cell));
  html += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (size_t i = 0; i < std::max(row.size(), table.header.size()); ++i) {
      html += fmt::format("<td>{}</td>", i < row.size() ? escaped(row[i]) : "");
    }
    html += "</tr>\n";
  }
  return html + "</tbody>\n</table>\n</div>\n";
}

}  // namespace backburn::report
