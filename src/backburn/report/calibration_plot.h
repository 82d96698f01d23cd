#pragma once

#include <string>
#include <vector>

namespace backburn::report {

/// One run: signal groups that the certificate allows in the mean, and those that the attack saw.
struct CalibrationMark {
  std::string label;
  double expected = 0;
  double seen = 0;
  bool holds = true;  ///< by the run's own test
};

/// Seen over expected as an SVG drawing, a mark a run with its label as the mark's title, beside the line where both
/// are equal: marks lie on it or below it in the mean. Both axes are square roots, since most bounds allow less than
/// one.
std::string calibration_plot(const std::vector<CalibrationMark>& marks);

}  // namespace backburn::report
