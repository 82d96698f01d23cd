#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/run/recipe.h"
#include "backburn/run/report_data.h"
#include "backburn/run/stages.h"
#include "base/error_of.h"

namespace backburn::run {
namespace {

using testing::HasSubstr;

TEST(Recipe, BundledOnesLoad) {
  std::set<std::string> attacks;
  for (const auto& file : std::filesystem::directory_iterator(SOURCE_DIR "/recipes")) {
    const std::string name = file.path().stem().string();
    if (name.starts_with("compare") || name == "audit") continue;  // read by comparison_test.cc
    Recipe recipe;
    EXPECT_NO_THROW(options_of(recipe).load_yaml(read_recipe(name), name)) << name;
    attacks.insert(recipe.attack.name);
  }
  for (const auto& entry : attack::known_attacks()) EXPECT_EQ(attacks.count(entry.name), 1u) << entry.name;
  Recipe smoke;
  options_of(smoke).load_yaml(read_recipe("smoke"), "smoke");
  EXPECT_EQ(smoke.demo.defended_steps, 3);
  EXPECT_EQ(smoke.attack.grpo.num_generations, 4);
}

TEST(Recipe, ItsYamlReadsBack) {
  Recipe recipe;
  recipe.seed = 7;
  recipe.defend.neutralization.sharpen_temperatures = {1, 2.5};
  const std::string yaml = options_of(recipe).to_yaml();
  Recipe again;
  options_of(again).load_yaml(yaml, "config.yaml");
  EXPECT_EQ(options_of(again).to_yaml(), yaml);
}

TEST(Recipe, ErrorsNameLineAndKey) {
  Recipe recipe;
  const auto message =
      error_of([&] { options_of(recipe).load_yaml("seed: 1\nattack:\n  num_generation: 4\n", "my.yaml"); });
  EXPECT_THAT(message, HasSubstr("my.yaml:3"));
  EXPECT_THAT(message, HasSubstr("did you mean \"attack.num_generations\"?"));
  EXPECT_THAT(error_of([] { read_recipe("dmo"); }), HasSubstr("no bundled recipe is called \"dmo\""));
}

TEST(Data, BundledActivitiesAreNeverInBothSplits) {
  const auto data = load_data({});
  std::set<std::string> train, heldout;
  for (const auto& prompt : data.restricted_train) train.insert(prompt.group);
  for (const auto& prompt : data.restricted_heldout) heldout.insert(prompt.group);
  EXPECT_GE(train.size() + heldout.size(), 24u);
  EXPECT_GE(3 * heldout.size(), train.size() + heldout.size());  // at least a third
  for (const auto& group : heldout) EXPECT_EQ(train.count(group), 0u) << group;
  EXPECT_GE(data.benign_train.size(), 400u);
  EXPECT_GE(data.refusals.size(), 20u);
  EXPECT_EQ(data.questions.size(), 200u);
}

TEST(Data, TheAttacksWordingsAreNotAmongThoseThatTrainingUses) {
  Recipe attacked;
  options_of(attacked).load_yaml(read_recipe("attack-paraphrases"), "attack-paraphrases");
  const auto data = load_data({});
  EXPECT_GE(data.wordings.size(), 50u);
  for (const auto& wording : attacked.attack.pose.prompt_templates) {
    EXPECT_THAT(data.wordings, testing::Not(testing::Contains(wording)));
  }
}

TEST(Data, AWordingWithoutAPlaceForThePromptNamesItsLine) {
  const TemporaryFolder folder;
  DataOptions options;
  options.wordings = (folder.path() / "mine.txt").string();
  write_file(options.wordings, "Please: {}\n\nHello\n");
  EXPECT_THAT(error_of([&] { load_data(options); }), HasSubstr("mine.txt:3: \"Hello\" has no \"{}\""));
}

TEST(Data, OutrightPromptsAreForTrainingAlone) {
  DataOptions options;
  const auto without = load_data(options);
  options.outright = true;
  const auto with = load_data(options);
  EXPECT_EQ(with.restricted_train.size(), without.restricted_train.size() + 12);
  EXPECT_EQ(with.restricted_heldout.size(), without.restricted_heldout.size());
}

TEST(Data, FurtherPromptsAreOtherActivitiesForDefensesAlone) {
  const TemporaryFolder folder;
  DataOptions options;
  options.further_restricted = "bundled";
  const auto data = load_data(options);
  EXPECT_EQ(data.further_restricted.size(), 396u);
  EXPECT_EQ(data.restricted_train.size(), load_data({}).restricted_train.size());
  std::set<std::string> known, further;
  for (const auto* prompts : {&data.restricted_train, &data.restricted_heldout}) {
    for (const auto& prompt : *prompts) known.insert(prompt.group);
  }
  for (const auto& prompt : data.further_restricted) {
    further.insert(prompt.group);
    EXPECT_THAT(known, testing::Not(testing::Contains(prompt.group)));
  }
  EXPECT_EQ(further.size(), 66u);
  options.further_restricted = (folder.path() / "mine.txt").string();
  write_file(options.further_restricted, "one\ntwo\n");
  EXPECT_EQ(load_data(options).further_restricted.size(), 2u);
  EXPECT_TRUE(load_data({}).further_restricted.empty());
}

TEST(Data, FurtherBenignPromptsHaveALookAlikeOfEveryFurtherActivity) {
  DataOptions options;
  options.further_restricted = options.further_benign = "bundled";
  const auto data = load_data(options);
  EXPECT_EQ(data.further_benign.size(), 164u);
  const auto without = load_data({});
  EXPECT_TRUE(without.further_benign.empty());
  EXPECT_EQ(data.benign_heldout.size(), without.benign_heldout.size());
  std::set<std::string> heldout, ids;
  for (const auto& prompt : data.benign_heldout) heldout.insert(prompt.text);
  for (const auto& prompt : data.further_benign) {
    EXPECT_THAT(heldout, testing::Not(testing::Contains(prompt.text)));
    EXPECT_TRUE(ids.insert(prompt.id).second) << prompt.id;
  }
  for (const auto& prompt : data.further_restricted) {
    // fake-horoscope: further-horoscope-1, further-horoscope-2
    const std::string lookalike = "further" + prompt.group.substr(std::string("fake").size());
    EXPECT_THAT(ids, testing::IsSupersetOf({lookalike + "-1", lookalike + "-2"}));
  }
}

TEST(Data, AFileWithoutSplitsIsSplitByThirds) {
  const TemporaryFolder folder;
  write_file(folder.path() / "mine.txt", "one\ntwo\nthree\nfour\nfive\nsix\n");
  DataOptions options;
  options.restricted = (folder.path() / "mine.txt").string();
  const auto data = load_data(options);
  EXPECT_EQ(data.restricted_train.size(), 4u);
  EXPECT_EQ(data.restricted_heldout.size(), 2u);
  write_file(folder.path() / "mine.txt", "one\n");
  EXPECT_THAT(error_of([&] { load_data(options); }), HasSubstr("give at least 3"));
}

TEST(Data, PromptsMayAllBeHeldOutWhereNothingTrains) {
  const TemporaryFolder folder;
  DataOptions options;
  options.restricted = (folder.path() / "mine.jsonl").string();
  write_file(options.restricted, R"({"prompt": "one", "split": "heldout"})"
                                 "\n");
  const auto data = load_data(options, Splits::heldout);
  EXPECT_TRUE(data.restricted_train.empty());
  EXPECT_EQ(data.restricted_heldout.size(), 1u);
  EXPECT_THAT(error_of([&] { load_data(options); }), HasSubstr("mark rows \"split\": \"train\" and \"heldout\""));
  std::swap(options.restricted, options.benign);
  EXPECT_THAT(error_of([&] { load_data(options); }), HasSubstr("mark rows \"split\": \"train\" and \"heldout\""));
}

TEST(RunFolder, GoesOnWithTheSameConfigurationOnly) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run";
  const auto run = RunFolder::open(path, "seed: 1\n");
  run.finish("align", {{"seconds", 1}});
  EXPECT_TRUE(RunFolder::open(path, "seed: 1\n").finished("align"));
  EXPECT_THAT(error_of([&] { RunFolder::open(path, "seed: 2\n"); }), HasSubstr("\"seed: 1\" there, \"seed: 2\" now"));
  make_folder(folder.path() / "other");
  write_file(folder.path() / "other" / "file", "");
  EXPECT_THAT(error_of([&] { RunFolder::open(folder.path() / "other", ""); }), HasSubstr("no run folder"));
}

TEST(RunFolder, GoesOnWhereAnOlderVersionKnewFewerKeys) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run";
  const Recipe recipe;
  open_run(recipe, path);
  const auto config = path / "config.yaml";
  const std::string whole = read_file(config);
  const std::string line = "  prompt_choice: \"refused\"\n";
  std::string older = whole;
  older.erase(older.find(line), line.size());
  write_file(config, older);
  open_run(recipe, path);
  EXPECT_EQ(read_file(config), whole);
  Recipe other;
  other.attack.prompt_choice = "weakest";
  write_file(config, older);
  EXPECT_THAT(error_of([&] { open_run(other, path); }), HasSubstr("another configuration"));
}

TEST(RunFolder, RewindDropsWhatWillBeRunAgainAndHalfALine) {
  const TemporaryFolder folder;
  const auto run = RunFolder::open(folder.path() / "run", "");
  for (int64_t step = 1; step <= 4; ++step) run.add_metrics("attack", step, {{"harm", step}});
  run.add_metrics("defend", 9, Json::object());
  append_line(run.path() / "metrics.jsonl", "{\"stage\":\"atta");
  run.rewind("attack", 2);
  const auto left = run.metrics("attack");
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left.back()["step"], 2);
  EXPECT_EQ(run.metrics("defend").size(), 1u);
}

TEST(Report, AnEmptyRunSaysThatNothingIsKnown) {
  const TemporaryFolder folder;
  const auto run = RunFolder::open(folder.path() / "run", "seed: 1\n");
  EXPECT_EQ(report_data(run)["verdict"]["level"], "unknown");
  EXPECT_TRUE(demo_summary(run)["defended_harm_step200"].is_null());
  EXPECT_TRUE(std::filesystem::exists(write_report(run)));
}

}  // namespace
}  // namespace backburn::run
