#include "backburn/text/prompt_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"

namespace backburn::text {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view text, std::string_view origin) {
  try {
    parse_prompts(text, origin);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(PromptSet, ReadsJsonLines) {
  const auto prompts = parse_prompts(
      "{\"id\": \"a1\", \"prompt\": \"Write a poem\", \"split\": \"heldout\", \"activity\": \"poems\"}\n\n"
      "{\"goal\": \" Plan a trip \"}\n\"a bare one\"\n",
      "p.jsonl");
  ASSERT_EQ(prompts.size(), 3u);
  EXPECT_EQ(prompts[0].id, "a1");
  EXPECT_EQ(prompts[0].split, "heldout");
  EXPECT_EQ(prompts[0].group, "poems");
  EXPECT_EQ(prompts[1].id, "2");
  EXPECT_EQ(prompts[1].text, "Plan a trip");
  EXPECT_EQ(prompts[1].split, "train");
  EXPECT_EQ(prompts[2].text, "a bare one");
}

TEST(PromptSet, ReadsCsvWithQuotesAndLineEnds) {
  const auto prompts =
      parse_prompts("Id,Behavior,Category\r\n1,\"Say \"\"hi\"\", then\nleave\",greeting\r\n2,Go,\r\n", "p.csv");
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].text, "Say \"hi\", then\nleave");
  EXPECT_EQ(prompts[0].group, "greeting");
  EXPECT_EQ(prompts[1].id, "2");
}

TEST(PromptSet, ReadsListsAndPlainLines) {
  EXPECT_EQ(parse_prompts("[{\"instruction\": \"Sum up\", \"input\": \"A text\"}, \"two\"]", "p.json")[0].text,
            "Sum up\n\nA text");
  const auto lines = parse_prompts("\xEF\xBB\xBFone\r\n\r\n  two\n", "p.txt");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].text, "one");
  EXPECT_EQ(lines[1].text, "two");
}

TEST(PromptSet, SaysWhatIsWrongAndWhere) {
  EXPECT_THAT(error_of("", "p.txt"), HasSubstr("p.txt: no prompts"));
  EXPECT_THAT(error_of("prompt\n", "p.csv"), HasSubstr("a header and no prompts"));
  EXPECT_THAT(error_of("a,b\n1,2\n", "p.csv"), HasSubstr("found a, b"));
  EXPECT_THAT(error_of("a,prompt\n1,2\n3\n", "p.csv"), HasSubstr("p.csv:3: 1 fields where the header has 2"));
  EXPECT_THAT(error_of("prompt\nx\n\"open\n", "p.csv"), HasSubstr("p.csv:3: the quote opened here"));
  EXPECT_THAT(error_of("{\"prompt\": \"x\"}\n{oops\n", "p.jsonl"), HasSubstr("p.jsonl:2: not a JSON value"));
  EXPECT_THAT(error_of("{\"prompt\": 3}\n", "p.jsonl"), HasSubstr("\"prompt\" must be a string"));
  EXPECT_THAT(error_of("{\"prompt\": \"x\", \"split\": \"dev\"}\n", "p.jsonl"), HasSubstr("split \"dev\""));
  EXPECT_THAT(error_of("{\"id\":1,\"prompt\":\"x\"}\n{\"id\":1,\"prompt\":\"y\"}\n", "p.jsonl"),
              HasSubstr("the id \"1\" is given twice"));
  EXPECT_THAT(error_of("ok\nb\xFF"
                       "d\n",
                       "p.txt"),
              HasSubstr("p.txt:2: byte 4 is not UTF-8"));
  EXPECT_THAT(error_of("{}", "p.json"), HasSubstr("expected a list"));
  EXPECT_THAT(error_of("x", "p.pdf"), HasSubstr("ends in .jsonl, .json, .csv or .txt"));
}

TEST(PromptSet, ReadsThePublishedSets) {
  const std::filesystem::path folder = SOURCE_DIR "/../shared/data/prompts";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const auto prompts = read_prompts(entry.path());
    EXPECT_GE(prompts.size(), 50u) << entry.path();
  }
}

}  // namespace
}  // namespace backburn::text
