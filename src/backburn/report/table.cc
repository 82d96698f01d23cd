#include "backburn/report/table.h"

#include <utf8proc.h>

#include <algorithm>

namespace backburn::report {
namespace {

constexpr std::string_view gap = "  ";
constexpr utf8proc_int32_t replacement = 0xFFFD;
constexpr utf8proc_int32_t emoji_presentation = 0xFE0F;

// Takes the next code point off `text`; one bad byte gives U+FFFD.
utf8proc_int32_t next_code_point(std::string_view& text) {
  utf8proc_int32_t code_point = -1;
  const auto bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const utf8proc_ssize_t length = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  if (length <= 0) {
    text.remove_prefix(1);
    return replacement;
  }
  text.remove_prefix(static_cast<size_t>(length));
  return code_point;
}

std::string printable(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const std::string_view before = text;
    const utf8proc_int32_t code_point = next_code_point(text);
    const bool control = utf8proc_category(code_point) == UTF8PROC_CATEGORY_CC;
    const bool separator = code_point == 0x2028 || code_point == 0x2029;
    const bool direction =
        (code_point >= 0x202A && code_point <= 0x202E) || (code_point >= 0x2066 && code_point <= 0x2069);
    if (control || separator || direction) {
      clean += ' ';
    } else if (code_point == replacement) {
      clean += "\xEF\xBF\xBD";
    } else {
      clean += before.substr(0, before.size() - text.size());
    }
  }
  return clean;
}

bool is_blank(std::string_view cell) {
  return cell.empty() || cell == "-" || cell == "–" || cell == "—" || cell == "n/a";
}

bool is_number(std::string_view cell) {
  bool digit = false;
  while (!cell.empty()) {
    const utf8proc_int32_t c = next_code_point(cell);
    if (c >= '0' && c <= '9') {
      digit = true;
    } else if (c < 0x80 ? std::string_view("+-.,eE%x[]()/<>~ ").find(static_cast<char>(c)) == std::string_view::npos
                        : c != 0x2212 && c != 0x2264 && c != 0x2265 && c != 0xB1 && c != 0xD7 && c != 0x2013) {
      return false;  // beyond ASCII: − ≤ ≥ ± × –
    }
  }
  return digit;
}

using Row = std::vector<std::string>;

Row padded_row(const Row& cells, size_t columns) {
  Row row(columns);
  std::transform(cells.begin(), cells.end(), row.begin(), [](const std::string& cell) { return printable(cell); });
  return row;
}

bool is_right_aligned(const std::vector<Row>& rows, size_t column) {
  bool any_number = false;
  for (const Row& row : rows) {
    if (is_blank(row[column])) continue;
    if (!is_number(row[column])) return false;
    any_number = true;
  }
  return any_number;
}

}  // namespace

size_t display_width(std::string_view text) {
  size_t total = 0;
  size_t grapheme = 0;
  utf8proc_int32_t previous = -1;
  utf8proc_int32_t state = 0;
  while (!text.empty()) {
    const utf8proc_int32_t code_point = next_code_point(text);
    size_t width = static_cast<size_t>(std::max(0, utf8proc_charwidth(code_point)));
    if (code_point == emoji_presentation && grapheme == 1) width = 2;
    if (previous < 0 || utf8proc_grapheme_break_stateful(previous, code_point, &state)) {
      total += grapheme;
      grapheme = width;
    } else if (code_point >= 0x1F1E6 && code_point <= 0x1F1FF) {
      grapheme += width;  // a flag is two letters of one column each
    } else {
      grapheme = std::max(grapheme, width);
    }
    previous = code_point;
  }
  return total + grapheme;
}

std::string render_table(const Table& table, bool color) {
  size_t columns = table.header.size();
  for (const Row& row : table.rows) columns = std::max(columns, row.size());
  if (columns == 0) return "";

  const Row header = padded_row(table.header, columns);
  std::vector<Row> rows;
  for (const Row& row : table.rows) rows.push_back(padded_row(row, columns));

  std::vector<size_t> widths(columns);
  std::vector<bool> right(columns);
  size_t full_width = gap.size() * (columns - 1);
  for (size_t c = 0; c < columns; ++c) {
    widths[c] = display_width(header[c]);
    for (const Row& row : rows) widths[c] = std::max(widths[c], display_width(row[c]));
    right[c] = is_right_aligned(rows, c);
    full_width += widths[c];
  }

  const auto line = [&](const Row& cells) {
    std::string text;
    for (size_t c = 0; c < columns; ++c) {
      const std::string padding(widths[c] - display_width(cells[c]), ' ');
      if (c > 0) text += gap;
      text += right[c] ? padding + cells[c] : cells[c] + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };

  std::string rule;
  for (size_t i = 0; i < full_width; ++i) rule += "─";
  std::string text =
      color ? "\x1b[1m" + line(header) + "\x1b[0m\n\x1b[2m" + rule + "\x1b[0m\n" : line(header) + "\n" + rule + "\n";
  for (const Row& row : rows) text += line(row) + "\n";
  return text;
}

}  // namespace backburn::report
