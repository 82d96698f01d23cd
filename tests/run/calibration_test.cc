#include "backburn/run/calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/defense/certificate.h"
#include "backburn/run/attack_stage.h"
#include "backburn/run/run_folder.h"

namespace backburn::run {
namespace {

using testing::HasSubstr;

// A finished attack of `steps` steps on one prompt, a group each, with a differential in step `first` (0: in none).
struct Attack {
  int64_t steps = 100;
  int64_t first = 0;
  double signal = 1e-3;
  int64_t seed = 1;
  bool outside = false;
};

void write_run(const std::filesystem::path& path, const Attack& attack) {
  const auto folder = RunFolder::open(path, "seed: 1\n");
  std::vector<Json> lines;
  for (int64_t step = 1; step <= attack.steps; ++step) {
    lines.push_back({{"step", step}, {"differential_groups", step == attack.first ? 1 : 0}, {"group_prompts", {0}}});
    folder.add_metrics("attack", step, lines.back());
  }
  Json result = {{"attack", attack.outside ? "sft" : "grpo"},
                 {"max_steps", attack.steps},
                 {"outside_certificate", attack.outside},
                 {"prompts", {{{"id", "a"}}}}};
  if (!attack.outside) {
    const std::vector<double> signals = {attack.signal};
    result["attack_prompt_signal"] = signals;
    result["draws"] = {{"seed", attack.seed}};
    result["forecast"] = defense::check_forecast(observed_steps(lines, signals)).to_json();
  }
  folder.finish("attack", result);
}

TEST(Calibration, PoolsWhatRunsSawAgainstTheirBounds) {
  const TemporaryFolder folder;
  write_run(folder.path() / "a", {100, 0, 1e-3, 1});
  write_run(folder.path() / "deep" / "b", {50, 40, 2e-3, 2});
  write_run(folder.path() / "c", {.outside = true});
  const Json found = calibrate({folder.path()});
  ASSERT_EQ(found["runs"].size(), 3u);
  EXPECT_EQ(found["pooled"]["runs"], 2);
  EXPECT_EQ(found["pooled"]["groups"], 150);
  EXPECT_NEAR(found["pooled"]["expected"].get<double>(), 0.2, 1e-12);
  EXPECT_EQ(found["pooled"]["with_differential"], 1);
  EXPECT_NEAR(found["pooled"]["p_value"].get<double>(), 1 - std::pow(1 - 1e-3, 100) * std::pow(1 - 2e-3, 50), 1e-12);
  EXPECT_TRUE(found["violations"].empty());
  EXPECT_EQ(calibration_table(found).rows[1].back(), "outside");
  EXPECT_THAT(calibration_verdict(found), HasSubstr("1 attacks are outside the certificate"));
}

TEST(Calibration, ListsEveryViolation) {
  const TemporaryFolder folder;
  write_run(folder.path() / "good", {100, 0, 1e-3, 1});
  write_run(folder.path() / "bad", {100, 1, 1e-4, 2});
  write_run(folder.path() / "worse", {100, 1, 1e-4, 3});
  const Json found = calibrate({folder.path()});
  ASSERT_EQ(found["violations"].size(), 2u);
  EXPECT_THAT(found["violations"][0].get<std::string>(), HasSubstr("bad attack"));
  EXPECT_EQ(calibration_table(found).rows[0][8], "NO");
  const auto section = calibration_section(found);
  EXPECT_THAT(section, HasSubstr("class=\"violated\""));
  EXPECT_THAT(section, HasSubstr("class=\"held\""));
  EXPECT_THAT(section, HasSubstr("Violation: "));
}

// Runs that each pass their own test may fail together.
TEST(Calibration, ThePooledTestSeesWhatNoSingleRunShows) {
  const TemporaryFolder folder;
  for (int64_t seed = 1; seed <= 6; ++seed) {
    write_run(folder.path() / std::to_string(seed), {100, 50, 1e-3, seed});
  }
  const Json found = calibrate({folder.path()});
  EXPECT_TRUE(found["violations"].empty());
  EXPECT_FALSE(found["pooled"]["holds"].get<bool>());
  EXPECT_THAT(calibration_verdict(found), HasSubstr("FAILS at 99%"));
}

TEST(Calibration, TheSameDrawsCountOnce) {
  const TemporaryFolder folder;
  write_run(folder.path() / "dapo", {50, 20, 1e-3, 1});
  write_run(folder.path() / "grpo", {100, 20, 1e-3, 1});
  const Json found = calibrate({folder.path()});
  EXPECT_EQ(found["pooled"]["runs"], 1);
  EXPECT_EQ(found["pooled"]["groups"], 100);
  EXPECT_EQ(found["runs"][0]["pooled"], false);
  EXPECT_EQ(found["runs"][1]["pooled"], true);
}

TEST(Calibration, DynamicSamplingIsNotPooled) {
  const TemporaryFolder folder;
  write_run(folder.path() / "dapo", {});
  const auto run = RunFolder::open_existing(folder.path() / "dapo");
  Json result = run.result("attack");
  result["draws"]["max_num_gen_batches"] = 4;
  run.finish("attack", result);
  const Json found = calibrate({folder.path()});
  EXPECT_EQ(found["runs"].size(), 1u);
  EXPECT_TRUE(found["pooled"].is_null());
}

// The kept runs of results/ are older than attack_prompt_signal: their certificates have the prompts' p.
TEST(Calibration, ReadsTheKeptRuns) {
  const auto results = std::filesystem::path(SOURCE_DIR) / "results";
  const Json found = calibrate({results});
  EXPECT_GE(found["pooled"]["runs"].get<int64_t>(), 4);
  EXPECT_EQ(found["pooled"]["holds"], true);
  EXPECT_THAT(found["violations"], testing::IsEmpty());
  int64_t demos = 0;
  for (const Json& run : found["runs"]) {
    const std::filesystem::path folder = run["run"].get<std::string>();
    if (!folder.filename().string().starts_with("demo-")) continue;
    ++demos;
    EXPECT_EQ(run["groups"], 800) << run;
    const Json summary = Json::parse(read_file(folder / "summary.json"));  // its own words
    EXPECT_NEAR(run["expected"].get<double>(), summary["forecast"]["expected"].get<double>(), 1e-3);
  }
  EXPECT_GE(demos, 4);
}

TEST(Calibration, AMissingFolderIsNamed) {
  EXPECT_THROW(calibrate({"/no/such/folder"}), Error);
  const TemporaryFolder folder;
  make_folder(folder.path() / "empty");
  const Json found = calibrate({folder.path()});
  EXPECT_TRUE(found["pooled"].is_null());
  EXPECT_THAT(calibration_verdict(found), HasSubstr("No attack has been held against a certificate"));
}

}  // namespace
}  // namespace backburn::run
