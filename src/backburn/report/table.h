#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace backburn::report {

/// A table for the terminal. Rows may be shorter or longer than the header: missing cells are empty.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

/// The table as aligned plain text, a line a row, each ending in a newline; "" for a table without columns.
///
/// Cells are aligned by the columns that they fill on a terminal (wide CJK and emoji fill two, combining
/// marks none). A column whose cells are all numbers ("0.4", "12%", "9.1 [8.7, 9.4]"; "-" and "" allowed
/// beside them) is right-aligned. Control characters, which could drive the terminal, become spaces; bytes
/// that are not UTF-8 U+FFFD. With `color`, the header is bold and its rule dim (ANSI escapes).
std::string render_table(const Table& table, bool color = false);

/// How many terminal columns `text` fills, by grapheme; a byte that is not UTF-8 counts as one.
size_t display_width(std::string_view text);

}  // namespace backburn::report
