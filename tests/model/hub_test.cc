#include "backburn/model/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/model/gguf_model.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/load.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string commit(40, 'a');

// Sets variables of the environment, and sets them back.
class Environment {
 public:
  void set(const char* name, const std::string& value) {
    const char* old = std::getenv(name);
    before_.emplace(name, old == nullptr ? std::nullopt : std::optional<std::string>(old));
    ::setenv(name, value.c_str(), 1);
  }
  ~Environment() {
    for (const auto& [name, value] : before_) {
      if (value) {
        ::setenv(name.c_str(), value->c_str(), 1);
      } else {
        ::unsetenv(name.c_str());
      }
    }
  }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

class Hub : public testing::Test {
 protected:
  void SetUp() override {
    make_folder(programs());
    environment_.set("HF_HUB_CACHE", cache().string());
    environment_.set("PATH", programs().string() + ":/usr/bin:/bin");
  }
  fs::path cache() const { return folder_.path() / "hub"; }
  fs::path programs() const { return folder_.path() / "bin"; }
  fs::path repository() const { return cache() / "models--org--tiny"; }

  // A tiny model in the layout of huggingface_hub.
  void store(const fs::path& folder) {
    make_folder(folder / "refs");
    make_folder(folder / "snapshots");
    write_file(folder / "refs" / "main", commit);
    save_hugging_face(load_gguf(TEST_DATA_DIR "/gguf/llama.gguf", at::kFloat), folder / "snapshots" / commit,
                      at::kFloat);
  }
  // A program `hf` that does what `script` says.
  void install(const std::string& script) {
    write_file(programs() / "hf", "#!/bin/sh\n" + script);
    fs::permissions(programs() / "hf", fs::perms::owner_all);
  }
  std::string error_of(const std::string& model) {
    try {
      load_model(model, at::kFloat);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  const TemporaryFolder folder_;
  Environment environment_;
};

TEST_F(Hub, AModelInTheCacheIsLoadedByItsId) {
  store(repository());
  const Model model = load_model("org/tiny", at::kFloat);
  EXPECT_EQ(model.name, "org/tiny");
  EXPECT_EQ(model.config.architecture, "llama");
}

TEST_F(Hub, TheCacheIsWhereTheHubsLibraryPutsIt) {
  ::unsetenv("HF_HUB_CACHE");
  environment_.set("HF_HOME", "/a");
  EXPECT_EQ(hub_cache_folder(), "/a/hub");
  environment_.set("HF_HOME", "");
  environment_.set("XDG_CACHE_HOME", "/b");
  EXPECT_EQ(hub_cache_folder(), "/b/huggingface/hub");
  environment_.set("XDG_CACHE_HOME", "");
  environment_.set("HOME", "/c");
  EXPECT_EQ(hub_cache_folder(), "/c/.cache/huggingface/hub");
}

TEST_F(Hub, WithoutTheProgramOneSentenceSaysWhatToDo) {
  environment_.set("PATH", programs().string());
  const std::string error = error_of("org/tiny");
  EXPECT_THAT(error, HasSubstr("not in the Hub's cache (" + cache().string() + ")"));
  EXPECT_THAT(error, HasSubstr("huggingface_hub"));
}

TEST_F(Hub, AMissingModelIsFetchedByTheProgram) {
  store(folder_.path() / "remote");
  install("[ \"$1 $2\" = 'download org/tiny' ] && mkdir -p '" + cache().string() + "' && cp -r '" +
          (folder_.path() / "remote").string() + "' '" + repository().string() + "'\n");
  EXPECT_EQ(load_model("org/tiny", at::kFloat).name, "org/tiny");
  fs::remove(programs() / "hf");
  EXPECT_EQ(load_model("org/tiny", at::kFloat).name, "org/tiny");  // out of the cache now
}

TEST_F(Hub, AFailedDownloadIsToldInTheProgramsWords) {
  install("echo 'Repository Not Found' >&2; exit 1\n");
  EXPECT_THAT(error_of("org/tiny"), HasSubstr("`hf download` failed: Repository Not Found"));
  install("exit 0\n");
  EXPECT_THAT(error_of("org/tiny"), HasSubstr("no config.json with safetensors"));
}

TEST_F(Hub, AHalfFetchedModelIsNotThere) {
  store(repository());
  const fs::path snapshot = repository() / "snapshots" / commit;
  EXPECT_EQ(cached_snapshot("org/tiny"), snapshot);
  fs::rename(snapshot / "model.safetensors", snapshot / "model-00001-of-00002.safetensors");
  EXPECT_EQ(cached_snapshot("org/tiny"), std::nullopt);
  write_file(snapshot / "model.safetensors.index.json",
             R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  EXPECT_EQ(cached_snapshot("org/tiny"), std::nullopt);
  write_file(snapshot / "model-00002-of-00002.safetensors", "");
  EXPECT_EQ(cached_snapshot("org/tiny"), snapshot);
}

TEST_F(Hub, ALoneGgufFileIsTheModel) {
  const fs::path snapshot = repository() / "snapshots" / commit;
  make_folder(repository() / "refs");
  make_folder(snapshot);
  write_file(repository() / "refs" / "main", commit + "\n");
  fs::copy(TEST_DATA_DIR "/gguf/llama.gguf", snapshot / "tiny.gguf");
  EXPECT_EQ(load_model("org/tiny", at::kFloat).name, "org/tiny");
}

TEST_F(Hub, ACommitThatLeadsElsewhereIsRefused) {
  make_folder(repository() / "refs");
  write_file(repository() / "refs" / "main", "../../../etc");
  EXPECT_THAT(error_of("org/tiny"), HasSubstr("expected a commit"));
}

TEST(HubId, IsTwoNames) {
  for (const char* id : {"org/name", "Org-1/Name_2.5-B"}) EXPECT_TRUE(is_hub_id(id)) << id;
  for (const char* no : {"name", "/name", "org/", "a/b/c", "../b", "a/..", "a b/c", "./x"})
    EXPECT_FALSE(is_hub_id(no)) << no;
}

}  // namespace
}  // namespace backburn::model
