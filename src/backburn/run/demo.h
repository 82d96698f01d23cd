#pragma once

#include "backburn/run/run.h"

namespace backburn::run {

/// The main job: (align →) attack → defend → attack the released model → evaluate all → report. Goes on where the run
/// folder says that it was left. `command` is recorded in the report.
void demo(const Run& run, const std::string& command);

}  // namespace backburn::run
