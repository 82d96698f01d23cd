#pragma once

#include <string>

#include "backburn/base/json.h"

namespace backburn::report {

/// The report as one self-contained HTML page: web/dist/report.html with `data` put into its data block.
///
/// The page makes no network request (its Content-Security-Policy forbids it) and shows every string of
/// `data` as text. The fields it knows are the interface `Report` of web/src/data.ts; all of them may be
/// absent or null. No string in `data` can leave the data block: `<`, `>`, `&`, U+2028 and U+2029 are written
/// as JSON escapes. Bytes that are not UTF-8 become U+FFFD; NaN and infinities become null. Throws
/// std::logic_error when the embedded page has no data block: that is a bug in the build, not a user's error.
std::string render_html(const Json& data);

}  // namespace backburn::report
