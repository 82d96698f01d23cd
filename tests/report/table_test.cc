#include "backburn/report/table.h"

#include <gtest/gtest.h>

namespace backburn::report {
namespace {

TEST(Table, AlignsTextLeftAndNumbersRight) {
  const Table table{{"model", "harm", "refused"},
                    {{"aligned", "0.6 [0.2, 1.1]", "91%"}, {"attacked", "8.8 [8.3, 9.2]", "0%"}, {"new", "-", ""}}};
  EXPECT_EQ(render_table(table),
            "model               harm  refused\n"
            "─────────────────────────────────\n"
            "aligned   0.6 [0.2, 1.1]      91%\n"
            "attacked  8.8 [8.3, 9.2]       0%\n"
            "new                    -\n");
}

TEST(Table, OneWordMakesAColumnText) {
  const Table table{{"collapse step"}, {{"7"}, {"never"}}};
  EXPECT_EQ(render_table(table), "collapse step\n─────────────\n7\nnever\n");
}

TEST(Table, CountsTerminalColumnsNotBytes) {
  EXPECT_EQ(display_width("café"), 4u);
  EXPECT_EQ(display_width("cafe\u0301"), 4u);  // a combining accent fills nothing
  EXPECT_EQ(display_width("模型"), 4u);
  EXPECT_EQ(display_width("👩‍🔬"), 2u);  // woman + joiner + microscope: one picture
  EXPECT_EQ(display_width("👍🏽"), 2u);
  EXPECT_EQ(display_width("🇫🇷🇩🇪"), 4u);
  EXPECT_EQ(display_width("\xff\xfe"), 2u);
  EXPECT_EQ(render_table({{"名", "n"}, {{"模型", "1"}, {"café", "22"}}}),
            "名     n\n"
            "────────\n"
            "模型   1\n"
            "café  22\n");
}

TEST(Table, ACellCannotDriveTheTerminal) {
  const std::string text = render_table({{"answer"}, {{"a\x1b[2Jb\nc\x07"}, {"x\u202ey"}, {"bad \xff byte"}}});
  EXPECT_EQ(text, "answer\n──────────\na [2Jb c\nx y\nbad \xEF\xBF\xBD byte\n");
}

TEST(Table, RowsMayBeShorterOrLongerThanTheHeader) {
  EXPECT_EQ(render_table({{"a", "b"}, {{"x"}, {"y", "2", "3"}}}),
            "a  b\n"
            "───────\n"
            "x\n"
            "y  2  3\n");
  EXPECT_EQ(render_table({}), "");
}

TEST(Table, ColorMarksOnlyHeaderAndRule) {
  EXPECT_EQ(render_table({{"a"}, {{"x"}}}, true), "\x1b[1ma\x1b[0m\n\x1b[2m─\x1b[0m\nx\n");
}

}  // namespace
}  // namespace backburn::report
