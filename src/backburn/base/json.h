#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace backburn {

/// Keys keep the order in which they were written, so that files read as their author meant them.
using Json = nlohmann::ordered_json;

/// Parses `text`; `origin` (a file name) is named in the error, with line and column.
Json parse_json(std::string_view text, std::string_view origin);

/// Reads one JSON document. Errors: missing file, not JSON (file, line, column).
Json read_json_file(const std::filesystem::path& path);

/// Parses JSON lines, one value a line; empty lines are skipped. Errors name `origin` and line.
std::vector<Json> parse_jsonl(std::string_view text, std::string_view origin);

/// parse_jsonl of a file.
std::vector<Json> read_jsonl_file(const std::filesystem::path& path);

}  // namespace backburn
