#include "backburn/report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>

#include "backburn/report/static_page.h"

namespace backburn::report {

std::string heat_map_section(const HeatMap& map) {
  std::string html = fmt::format("<p>{}</p>\n<div class=\"scroll\">\n<table class=\"heat\">\n<thead><tr><th></th>",
                                 escaped(map.caption));
  for (const auto& column : map.columns) html += fmt::format("<th scope=\"col\">{}</th>", escaped(column));
  html += "</tr></thead>\n<tbody>\n";
  for (size_t row = 0; row < map.rows.size(); ++row) {
    html += fmt::format("<tr><th scope=\"row\">{}</th>", escaped(map.rows[row]));
    for (const HeatCell& cell : map.cells[row]) {
      html += fmt::format("<td style=\"--heat: {:.0f}%\">{}<small>{}</small></td>",
                          100 * std::clamp(cell.value, 0.0, 1.0), escaped(cell.text), escaped(cell.note));
    }
    html += "</tr>\n";
  }
  return html + "</tbody>\n</table>\n</div>\n";
}

}  // namespace backburn::report
