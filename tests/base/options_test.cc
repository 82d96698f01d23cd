#include "backburn/base/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "backburn/base/error.h"

namespace backburn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

struct Fields {
  bool quiet = false;
  int64_t steps = 50;
  double rate = 2e-4;
  std::string loss = "grpo", note;
  std::vector<double> temperatures = {1, 1.5};
  std::vector<std::string> rewards = {"harm"};
};

class OptionsTest : public testing::Test {
 protected:
  OptionsTest() {
    options_.add("quiet", fields_.quiet, "say less");
    options_.add("attack.max_steps", fields_.steps, "steps", at_least_1);
    options_.add("attack.learning_rate", fields_.rate, "step size", {0, 1});
    options_.add("attack.loss.loss_type", fields_.loss, "the loss", {"grpo", "dapo"});
    options_.add("attack.temperatures", fields_.temperatures, "of sampling", at_least_0);
    options_.add("attack.rewards", fields_.rewards, "what is rewarded", {"harm", "length"});
    options_.add("note", fields_.note, "any text");
  }
  // What load_yaml says, with exit code 2.
  std::string error_of(const std::string& yaml) {
    return error_in([&] { options_.load_yaml(yaml, "r.yaml"); });
  }
  std::string set_error_of(const std::string& assignment) {
    return error_in([&] { options_.set(assignment); });
  }
  Fields fields_;
  Options options_;

 private:
  static std::string error_in(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), 2);
      return error.what();
    }
    return "no error";
  }
};

TEST_F(OptionsTest, YamlFillsTheFields) {
  options_.load_yaml(R"(
# a comment
quiet: true
attack:
  max_steps: 7
  learning_rate: 1e-5
  loss: {loss_type: "dapo"}
  temperatures: [0.5, 2]
note: 'a: b'
)",
                     "r.yaml");
  EXPECT_TRUE(fields_.quiet);
  EXPECT_EQ(fields_.steps, 7);
  EXPECT_EQ(fields_.rate, 1e-5);
  EXPECT_EQ(fields_.loss, "dapo");
  EXPECT_THAT(fields_.temperatures, ElementsAre(0.5, 2));
  EXPECT_EQ(fields_.note, "a: b");
  options_.load_yaml("", "empty.yaml");
  EXPECT_EQ(fields_.steps, 7);
}

TEST_F(OptionsTest, DottedKeysAndSingleValuesAreFine) {
  options_.load_yaml("attack.max_steps: 3\nattack.temperatures: 2\n", "r.yaml");
  EXPECT_EQ(fields_.steps, 3);
  EXPECT_THAT(fields_.temperatures, ElementsAre(2));
}

TEST_F(OptionsTest, AListOfTextsMayBeEmpty) {
  options_.load_yaml("attack.rewards: [length, harm]\n", "r.yaml");
  EXPECT_THAT(fields_.rewards, ElementsAre("length", "harm"));
  EXPECT_THAT(error_of("attack.rewards: [harm, wit]\n"), HasSubstr("attack.rewards: \"wit\" is none of harm, length"));
  options_.load_yaml("attack.rewards: []\n", "r.yaml");
  EXPECT_THAT(fields_.rewards, ElementsAre());
  options_.set("attack.rewards=harm,length");
  EXPECT_THAT(fields_.rewards, ElementsAre("harm", "length"));
  options_.set("attack.rewards=[length, \"harm\"]");
  EXPECT_THAT(fields_.rewards, ElementsAre("length", "harm"));
  EXPECT_THAT(set_error_of("attack.rewards=[harm, [length]]"), HasSubstr("list of plain values"));
  EXPECT_THAT(set_error_of("attack.rewards=[harm"), HasSubstr("is no list"));
  options_.set("attack.rewards=[]");
  EXPECT_THAT(fields_.rewards, ElementsAre());
  options_.set("attack.rewards=");
  EXPECT_THAT(fields_.rewards, ElementsAre());
}

TEST_F(OptionsTest, ErrorsNameFileLineAndKey) {
  EXPECT_THAT(error_of("quiet: true\nattack:\n  max_steps: many\n"),
              StartsWith("r.yaml:3: attack.max_steps: \"many\" is not a whole number"));
  EXPECT_THAT(error_of("attack:\n  max_steps: 0\n"),
              HasSubstr("r.yaml:2: attack.max_steps: 0 is too small, it must be at least 1"));
  EXPECT_THAT(error_of("attack:\n  max_steps: 2.5\n"), HasSubstr("not a whole number"));
  EXPECT_THAT(error_of("attack:\n  learning_rate: 2\n"), HasSubstr("2 is out of range, it must be between 0 and 1"));
  EXPECT_THAT(error_of("attack:\n  learning_rate: nan\n"), HasSubstr("\"nan\" is not a number"));
  EXPECT_THAT(error_of("attack:\n  learning_rate: [1, 2]\n"), HasSubstr("takes one value, not a list"));
  EXPECT_THAT(error_of("attack:\n  temperatures: []\n"), HasSubstr("the list is empty"));
  EXPECT_THAT(error_of("attack:\n  temperatures: [1, [2]]\n"), HasSubstr("list of plain values"));
  EXPECT_THAT(error_of("attack:\n  loss:\n    loss_type: ppo\n"),
              HasSubstr("r.yaml:3: attack.loss.loss_type: \"ppo\" is none of grpo, dapo"));
  EXPECT_THAT(error_of("quiet: yes\n"), HasSubstr("\"yes\" is neither true nor false"));
  EXPECT_THAT(error_of("quiet:\n"), HasSubstr("r.yaml:1: quiet has no value"));
  EXPECT_THAT(error_of("note: a\nnote: b\n"), HasSubstr("r.yaml:2: note is given twice"));
  EXPECT_THAT(error_of("note: a\n note: [\n"), HasSubstr("r.yaml:2: not YAML"));
  EXPECT_THAT(error_of("- quiet\n"), HasSubstr("r.yaml:1: a recipe is a list of \"key: value\" lines"));
}

TEST_F(OptionsTest, AnUnknownKeyNamesTheNearest) {
  EXPECT_THAT(error_of("attack:\n  learning_rte: 1\n"),
              HasSubstr("r.yaml:2: unknown key \"attack.learning_rte\"; did you mean \"attack.learning_rate\"?"));
  EXPECT_THAT(error_of("learning_rate: 1\n"), HasSubstr("did you mean \"attack.learning_rate\"?"));
  EXPECT_THAT(error_of("atack:\n  max_steps: 1\n"),
              HasSubstr("r.yaml:1: unknown key \"atack\"; did you mean \"attack\"?"));
  EXPECT_THAT(error_of("zzz: 1\n"), HasSubstr("unknown key \"zzz\"; --help lists the keys"));
  EXPECT_THAT(error_of("attack: 1\n"), HasSubstr("unknown key \"attack\""));
}

TEST_F(OptionsTest, AStrangersRecipeEnds) {
  EXPECT_THAT(error_of("attack: &a {loss: *a}\n"), HasSubstr("r.yaml:1"));
  std::string bomb = "a0: &a0 {}\n";
  for (int i = 1; i < 40; ++i) bomb += fmt::format("a{0}: &a{0} {{x: *a{1}, y: *a{1}}}\n", i, i - 1);
  EXPECT_THAT(error_of(bomb), HasSubstr("unknown key"));
  EXPECT_THAT(error_of(std::string(100'000, '[')), HasSubstr("not YAML"));
  EXPECT_THAT(error_of("a: *b\n"), HasSubstr("not YAML"));
}

TEST_F(OptionsTest, SetTakesOneAssignment) {
  options_.set("attack.max_steps=9");
  options_.set("attack.temperatures=1,1.5,2");
  options_.set("note=a=b");
  EXPECT_EQ(fields_.steps, 9);
  EXPECT_THAT(fields_.temperatures, ElementsAre(1, 1.5, 2));
  EXPECT_EQ(fields_.note, "a=b");
  EXPECT_THAT(set_error_of("attack.max_steps"), HasSubstr("--set attack.max_steps: expected key=value"));
  EXPECT_THAT(set_error_of("attack.max_stps=1"),
              HasSubstr("--set: unknown key \"attack.max_stps\"; did you mean \"attack.max_steps\"?"));
  EXPECT_THAT(set_error_of("attack.max_steps=x"), HasSubstr("--set attack.max_steps: \"x\" is not a whole number"));
  EXPECT_THAT(set_error_of("attack.temperatures=1,,2"), HasSubstr("\"\" is not a number"));
}

TEST_F(OptionsTest, ToYamlIsReadBack) {
  fields_ = {true, 123456789012, 1.0 / 3, "dapo", "# \"quoted\": é\n\ttrue", {0.1, 1e-9}, {"length"}};
  const std::string yaml = options_.to_yaml();
  const Json json = options_.to_json();
  fields_ = {};
  options_.load_yaml(yaml, "config.yaml");
  EXPECT_EQ(options_.to_json(), json);
  EXPECT_EQ(fields_.rate, 1.0 / 3);
  EXPECT_EQ(fields_.note, "# \"quoted\": é\n\ttrue");
  EXPECT_THAT(yaml, StartsWith("quiet: true\nattack:\n  max_steps: 123456789012\n"));
}

TEST_F(OptionsTest, HelpListsKeyKindValueAndHelp) {
  EXPECT_THAT(options_.help(), HasSubstr("  attack.loss.loss_type (grpo|dapo; default \"grpo\")\n      the loss\n"));
  EXPECT_TRUE(options_.has("quiet"));
  EXPECT_FALSE(options_.has("attack"));
}

TEST(Nearest, IsEmptyWhenNothingIsNear) {
  EXPECT_EQ(nearest("evl", {"eval", "audit"}), "eval");
  EXPECT_EQ(nearest("wobble", {"eval", "audit"}), "");
}

}  // namespace
}  // namespace backburn
