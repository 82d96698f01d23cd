#include "backburn/base/json.h"

#include <algorithm>
#include <string>

#include "backburn/base/error.h"
#include "backburn/base/files.h"

namespace backburn {
namespace {

// What nlohmann's message says after its own "[json.exception…] parse error at line 1, column 2:".
std::string reason_of(const nlohmann::json::parse_error& error) {
  const std::string what = error.what();
  const size_t place = what.find("column ");
  const size_t colon = place == std::string::npos ? std::string::npos : what.find(": ", place);
  return colon == std::string::npos ? what : what.substr(colon + 2);
}

// A stranger's file could nest so deeply that the recursive destructor overruns the stack.
constexpr int max_depth = 256;

Json parse_at(std::string_view text, std::string_view origin, size_t first_line) {
  const auto check_depth = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > max_depth) fail("{}: JSON nested deeper than {} levels", origin, max_depth);
    return true;
  };
  try {
    return Json::parse(text, check_depth);
  } catch (const nlohmann::json::parse_error& error) {
    const std::string_view before = text.substr(0, error.byte > 0 ? error.byte - 1 : 0);
    const size_t line = first_line + std::count(before.begin(), before.end(), '\n');
    const size_t line_start = before.rfind('\n');
    const size_t column = before.size() - (line_start == std::string_view::npos ? 0 : line_start + 1) + 1;
    fail("{}:{}:{}: not valid JSON: {}", origin, line, column, reason_of(error));
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", origin, error.what());
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view origin) { return parse_at(text, origin, 1); }

Json read_json_file(const std::filesystem::path& path) { return parse_json(read_file(path), path.string()); }

std::vector<Json> parse_jsonl(std::string_view text, std::string_view origin) {
  std::vector<Json> values;
  size_t line = 1;
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view row = text.substr(begin, end - begin);
    if (row.find_first_not_of(" \t\r") != std::string_view::npos) values.push_back(parse_at(row, origin, line));
    begin = end + 1;
  }
  return values;
}

std::vector<Json> read_jsonl_file(const std::filesystem::path& path) {
  return parse_jsonl(read_file(path), path.string());
}

}  // namespace backburn
