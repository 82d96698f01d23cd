#include <fmt/format.h>

#include "backburn/run/report_data.h"
#include "commands.h"

namespace backburn::app {

void add_report(CLI::App& app) {
  auto* command = app.add_subcommand("report", "one self-contained HTML file from a run folder");
  auto folder = std::make_shared<std::string>();
  command->add_option("FOLDER", *folder, "the run's folder")->required();
  command->callback(
      [folder] { fmt::print("{}\n", run::write_report(run::RunFolder::open_existing(*folder)).string()); });
}

}  // namespace backburn::app
