#pragma once

#include <string>
#include <vector>

namespace backburn::report {

/// A square of a heat map.
struct HeatCell {
  double value = 0;  ///< 0 (cool) to 1 (hot)
  std::string text;  ///< what it says
  std::string note;  ///< shown below, in small
};

struct HeatMap {
  std::string caption;
  std::vector<std::string> columns;
  std::vector<std::string> rows;
  std::vector<std::vector<HeatCell>> cells;  ///< [rows][columns]
};

/// The map as a part of a static_page; every string is shown as text. The figures are in the cells, not in their colour
/// alone.
std::string heat_map_section(const HeatMap& map);

}  // namespace backburn::report
