#pragma once

#include "backburn/report/table.h"
#include "backburn/run/run_folder.h"

namespace backburn::run {

/// What the report's page shows (the interface `Report` of web/src/data.ts), from whatever the run folder has so far.
Json report_data(const RunFolder& folder);

/// The evaluations as a table for the terminal.
report::Table summary_table(const Json& report);

/// One attack's result (attack_so_far): harm before and after it, and its two axes.
report::Table attack_table(const Json& result);

/// Writes FOLDER/report.html; returns its path.
std::filesystem::path write_report(const RunFolder& folder);

/// The figures of `backburn demo --json`: see docs/file-formats.md. Figures of stages that have not run are null.
Json demo_summary(const RunFolder& folder);

}  // namespace backburn::run
