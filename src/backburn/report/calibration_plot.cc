#include "backburn/report/calibration_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "backburn/report/static_page.h"

namespace backburn::report {
namespace {

constexpr double size = 360, margin = 48;  // of the square between the axes, and around it

}  // namespace

std::string calibration_plot(const std::vector<CalibrationMark>& marks) {
  double most = 1;
  for (const auto& mark : marks) most = std::max({most, mark.expected, mark.seen});
  const auto x = [&](double value) { return margin + size * std::sqrt(value / most); };
  const auto y = [&](double value) { return margin + size * (1 - std::sqrt(value / most)); };
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {0:.0f} {0:.0f}\" role=\"img\" aria-label=\"Groups with a reward differential: seen, over "
      "those that the bound allows in the mean\">\n",
      size + 2 * margin);
  svg += fmt::format("<path class=\"axis\" fill=\"none\" d=\"M{0:.1f} {1:.1f}V{2:.1f}H{3:.1f}\"/>\n", x(0), y(most),
                     y(0), x(most));
  svg += fmt::format("<path class=\"bound\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\"/>\n", x(0), y(0), x(most), y(most));
  for (const double share : {0.0, 0.01, 0.1, 0.25, 0.5, 1.0}) {
    const double value = share * most;
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.3g}</text>\n", x(value), y(0) + 16,
                       value);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.3g}</text>\n", x(0) - 6, y(value) + 4,
                       value);
  }
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">expected at the most</text>\n",
                     x(most / 4), y(0) + 36);
  svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">seen</text>\n", x(0), y(most) - 12);
  for (const auto& mark : marks) {
    svg += fmt::format(
        "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"><title>{}: {:.3g} expected, {:.0f} seen</title>"
        "</circle>\n",
        mark.holds ? "held" : "violated", x(mark.expected), y(mark.seen), escaped(mark.label), mark.expected,
        mark.seen);
  }
  return svg + "</svg>\n";
}

}  // namespace backburn::report
