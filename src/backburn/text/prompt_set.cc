#include "backburn/text/prompt_set.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"
#include "backburn/text/utf8.h"

namespace backburn::text {
namespace {

const std::vector<std::string> prompt_names = {"prompt",           "text",        "goal",    "behavior",
                                               "forbidden_prompt", "instruction", "question"};
const std::vector<std::string> group_names = {"group", "activity", "kind", "type", "category", "semanticcategory"};

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// A row's columns in the file's order, all as text.
using Row = std::vector<std::pair<std::string, std::string>>;

std::string value_of(const Row& row, const std::vector<std::string>& names) {
  for (const std::string& wanted : names) {
    for (const auto& [name, value] : row) {
      if (lower(name) == wanted) return value;
    }
  }
  return "";
}

bool has_any(const Row& row, const std::vector<std::string>& names) {
  return std::any_of(row.begin(), row.end(), [&](const auto& column) {
    return std::find(names.begin(), names.end(), lower(column.first)) != names.end();
  });
}

std::string split_of(const std::string& given, const std::string& where) {
  const std::string split = lower(trimmed(given));
  if (split.empty() || split == "train") return "train";
  for (const char* name : {"heldout", "held-out", "held_out", "test", "validation"}) {
    if (split == name) return "heldout";
  }
  fail("{}: split \"{}\" is not known; expected \"train\" or \"heldout\".", where, given);
}

Prompt prompt_of(const Row& row, size_t number, const std::string& where) {
  if (!has_any(row, prompt_names)) {
    std::vector<std::string> seen;
    for (const auto& column : row) seen.push_back(column.first);
    fail("{}: no prompt column; expected one of {}, found {}.", where, fmt::join(prompt_names, ", "),
         seen.empty() ? "none" : fmt::format("{}", fmt::join(seen, ", ")));
  }
  Prompt prompt;
  prompt.text = trimmed(value_of(row, prompt_names));
  if (prompt.text.empty()) fail("{}: the prompt is empty.", where);
  const std::string input = trimmed(value_of(row, {"input"}));
  if (!input.empty() && has_any(row, {"instruction"})) prompt.text += "\n\n" + input;
  prompt.id = trimmed(value_of(row, {"id", "behaviorid"}));
  if (prompt.id.empty()) prompt.id = std::to_string(number);
  prompt.split = split_of(value_of(row, {"split"}), where);
  prompt.group = trimmed(value_of(row, group_names));
  return prompt;
}

// An object's members as text; a bare string is its own prompt.
Row row_of(const Json& json, const std::string& where) {
  if (json.is_string()) return {{"prompt", json.get<std::string>()}};
  if (!json.is_object()) fail("{}: expected an object or a string, found {}.", where, json.type_name());
  Row row;
  for (const auto& [key, value] : json.items()) {
    const bool wanted = has_any({{key, ""}}, prompt_names);
    if (wanted && !value.is_string()) fail("{}: \"{}\" must be a string, not {}.", where, key, value.type_name());
    row.emplace_back(key, value.is_string() ? value.get<std::string>() : value.is_null() ? "" : value.dump());
  }
  return row;
}

struct CsvRow {
  std::vector<std::string> fields;
  size_t line = 1;
};

// RFC 4180: quoted fields may hold commas, line ends and doubled quotes.
std::vector<CsvRow> parse_csv(std::string_view text, const std::string& origin) {
  std::vector<CsvRow> rows;
  CsvRow row;
  std::string field;
  size_t line = 1;
  bool quoted = false;
  bool was_quoted = false;
  auto end_field = [&] {
    row.fields.push_back(std::move(field));
    field.clear();
    was_quoted = false;
  };
  auto end_row = [&] {
    const bool blank = row.fields.empty() && field.empty() && !was_quoted;
    end_field();
    if (!blank) rows.push_back(std::move(row));
    row = {{}, line};
  };
  size_t opened = 1;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    line += c == '\n';
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += '"';
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"' && field.empty() && !was_quoted) {
      quoted = was_quoted = true;
      opened = line;
    } else if (c == ',') {
      end_field();
    } else if (c == '\n') {
      end_row();
    } else if (c == '\r' && (i + 1 == text.size() || text[i + 1] == '\n')) {
      continue;
    } else if (was_quoted) {
      fail("{}:{}: text after the closing quote of a field.", origin, line);
    } else {
      field += c;
    }
  }
  if (quoted) fail("{}:{}: the quote opened here is never closed.", origin, opened);
  if (!row.fields.empty() || !field.empty() || was_quoted) end_row();
  return rows;
}

}  // namespace

std::vector<Prompt> parse_prompts(std::string_view text, std::string_view origin_view) {
  const std::string origin(origin_view);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (size_t at = 0, line = 1; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    if (!step.valid) fail("{}:{}: byte {} is not UTF-8; save the file as UTF-8.", origin, line, at);
    line += step.code_point == '\n';
    at += step.length;
  }
  const std::string ending = lower(std::filesystem::path(origin).extension().string());
  std::vector<Prompt> prompts;
  std::unordered_set<std::string> ids;
  auto add = [&](const Row& row, const std::string& where) {
    Prompt prompt = prompt_of(row, prompts.size() + 1, where);
    if (!ids.insert(prompt.id).second) fail("{}: the id \"{}\" is given twice.", where, prompt.id);
    prompts.push_back(std::move(prompt));
  };
  if (ending == ".json") {
    const Json list = parse_json(text, origin);
    if (!list.is_array()) fail("{}: expected a list of prompts, found {}.", origin, list.type_name());
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string where = fmt::format("{}: entry {}", origin, i + 1);
      add(row_of(list[i], where), where);
    }
  } else if (ending == ".jsonl" || ending == ".txt") {
    size_t line = 1;
    for (size_t begin = 0; begin < text.size(); ++line) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      const std::string content = trimmed(std::string(text.substr(begin, end - begin)));
      begin = end + 1;
      if (content.empty()) continue;
      const std::string where = fmt::format("{}:{}", origin, line);
      if (ending == ".txt") {
        add({{"prompt", content}}, where);
        continue;
      }
      Json value;
      try {
        value = Json::parse(content);
      } catch (const Json::exception&) {
        fail("{}: not a JSON value; expected one object a line.", where);
      }
      add(row_of(value, where), where);
    }
  } else if (ending == ".csv") {
    const std::vector<CsvRow> rows = parse_csv(text, origin);
    if (!rows.empty()) {
      const std::vector<std::string>& header = rows[0].fields;
      for (size_t i = 1; i < rows.size(); ++i) {
        const std::string where = fmt::format("{}:{}", origin, rows[i].line);
        if (rows[i].fields.size() != header.size()) {
          fail("{}: {} fields where the header has {}.", where, rows[i].fields.size(), header.size());
        }
        Row row;
        for (size_t column = 0; column < header.size(); ++column) {
          row.emplace_back(trimmed(header[column]), rows[i].fields[column]);
        }
        add(row, where);
      }
      if (rows.size() == 1) fail("{}: a header and no prompts.", origin);
    }
  } else {
    fail("{}: a prompt file ends in .jsonl, .json, .csv or .txt.", origin);
  }
  if (prompts.empty()) fail("{}: no prompts; the file is empty.", origin);
  return prompts;
}

std::vector<Prompt> read_prompts(const std::filesystem::path& path) {
  return parse_prompts(read_file(path), path.string());
}

}  // namespace backburn::text
