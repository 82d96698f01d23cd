#pragma once

namespace backburn {

/// The most memory that this process has held so far (resident set), GiB.
double peak_rss_gib();

}  // namespace backburn
