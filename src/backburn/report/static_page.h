#pragma once

#include <string>
#include <string_view>

#include "backburn/report/table.h"

namespace backburn::report {

/// `text` as HTML shows it: `<`, `>`, `&` and `"` become entities.
std::string escaped(std::string_view text);

/// One self-contained HTML page without scripts; its Content-Security-Policy lets nothing be fetched. `body`: sections
/// made by the functions of this room, below a heading that says `title`.
std::string static_page(const std::string& title, const std::string& body);

/// A table as HTML; every string is shown as text.
std::string table_section(const Table& table);

}  // namespace backburn::report
