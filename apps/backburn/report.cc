#include <fmt/format.h>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/progress.h"
#include "backburn/report/static_page.h"
#include "backburn/run/calibration.h"
#include "backburn/run/report_data.h"
#include "commands.h"

namespace backburn::app {
namespace {

struct ReportFlags {
  std::vector<std::string> folders;
  bool calibration = false, json = false;
  std::string out = "calibration.html";
};

void report_calibration(const ReportFlags& flags) {
  const Json calibration = run::calibrate({flags.folders.begin(), flags.folders.end()});
  write_file(flags.out, report::static_page("backburn: forecasts", run::calibration_section(calibration)));
  if (flags.json) {
    fmt::print("{}\n", calibration.dump());
    return;
  }
  fmt::print("{}\n{}\nPlot: {}\n", report::render_table(run::calibration_table(calibration), colors_wanted()),
             run::calibration_verdict(calibration), flags.out);
}

}  // namespace

void add_report(CLI::App& app) {
  auto* command = app.add_subcommand("report", "one self-contained HTML file from a run folder, or from many");
  auto flags = std::make_shared<ReportFlags>();
  command->add_option("FOLDER", flags->folders, "the run's folder; with --calibration any folders of runs")->required();
  command->add_flag("--calibration", flags->calibration,
                    "the certificate's forecasts against what attacks saw, over all runs in the folders");
  command->add_option("--out", flags->out, "--calibration: the page with the plot")->capture_default_str();
  command->add_flag("--json", flags->json, "--calibration: the result as one JSON object, the last line of the output");
  command->callback([flags] {
    if (flags->calibration) {
      report_calibration(*flags);
      return;
    }
    if (flags->folders.size() > 1) fail_usage("report: one FOLDER, or several with --calibration");
    fmt::print("{}\n", run::write_report(run::RunFolder::open_existing(flags->folders[0])).string());
  });
}

}  // namespace backburn::app
