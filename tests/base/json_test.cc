#include "backburn/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/base/files.h"

namespace backburn {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

std::string error_of(std::string_view text, bool lines = false) {
  try {
    lines ? parse_jsonl(text, "x.json").size() : parse_json(text, "x.json").size();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Json, KeysKeepTheirOrder) {
  EXPECT_EQ(parse_json(R"({"b": 1, "a": [true, null]})", "x").dump(), R"({"b":1,"a":[true,null]})");
}

TEST(Json, ErrorsNameLineAndColumn) {
  EXPECT_THAT(error_of("{\n  \"a\": 1,\n  b\n}"), StartsWith("x.json:3:3: not valid JSON: "));
  EXPECT_THAT(error_of(""), HasSubstr("x.json:1:1"));
  EXPECT_THAT(error_of("{\"a\": 1"), HasSubstr("x.json:1:8"));
  EXPECT_THAT(error_of("\"\xff\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of("1e999"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of(std::string(1'000'000, '[')), HasSubstr("nested deeper than 256"));
}

TEST(Json, LinesAreValues) {
  EXPECT_THAT(parse_jsonl("{\"a\": 1}\n\n  \r\n2\r\n[3]", "x"), SizeIs(3));
  EXPECT_THAT(parse_jsonl("", "x"), SizeIs(0));
  EXPECT_THAT(error_of("1\n\n{\"a\"}\n", true), HasSubstr("x.json:3:5"));
}

TEST(Json, FilesAreNamed) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "data.json";
  write_file(path, "[1, 2");
  try {
    read_json_file(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), StartsWith(path.string() + ":1:6"));
  }
  EXPECT_THROW(read_jsonl_file(folder.path() / "none"), Error);
}

}  // namespace
}  // namespace backburn
