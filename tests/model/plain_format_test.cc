#include "backburn/model/plain_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_of.h"
#include "model/tiny_model.h"

namespace backburn::model {
namespace {

using testing::HasSubstr;

std::string asked(const Model& model, const std::vector<text::Message>& messages) {
  return model.chat_template.render(messages, true, "", "");
}

TEST(PlainFormat, LeavesTheChatTemplateOut) {
  const auto model = tiny_model("tiny_llama");
  const auto plain = in_plain_format(model, "User: {}\n\"A\" {{ x }}:");
  EXPECT_EQ(asked(plain, {{"user", "Why {}?"}}), "User: Why {}?\n\"A\" {{ x }}:");
  EXPECT_EQ(asked(plain, {{"system", "Be kind."}, {"user", "Hi"}}), "Be kind.\n\nUser: Hi\n\"A\" {{ x }}:");
  EXPECT_TRUE(plain.weights.embedding.is_same(model.weights.embedding));
  EXPECT_NE(chat_prompt(plain, "ABC"), chat_prompt(model, "ABC"));
  EXPECT_EQ(chat_prompt(in_plain_format(model, ""), "ABC"), chat_prompt(model, "ABC"));
  EXPECT_THAT(error_of([&] { in_plain_format(model, "User:"); }),
              HasSubstr("\"User:\" has no {} where the prompt goes"));
}

}  // namespace
}  // namespace backburn::model
