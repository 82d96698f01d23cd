// Whole models with damaged files: an Error or a model that computes, never anything else.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/model/gguf_model.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/source.h"
#include "backburn/model/transformer.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string tiny = TEST_DATA_DIR "/gguf/llama_q8_0.gguf";

// `good` cut short, or with a few bytes changed, dropped, doubled or replaced by a number.
std::string damaged(const std::string& good, std::mt19937& random) {
  std::string bad = good;
  if (random() % 8 == 0) return bad.substr(0, random() % bad.size());
  for (unsigned i = 0; i <= random() % 4 && !bad.empty(); ++i) {
    const size_t at = random() % bad.size();
    switch (random() % 5) {
      case 0: bad[at] = static_cast<char>(random() % 256); break;
      case 1: bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8)); break;
      case 2: bad.erase(at, 1 + random() % 20); break;
      case 3: bad.insert(at, bad.substr(random() % bad.size(), random() % 30)); break;
      default: bad.replace(at, std::min<size_t>(bad.size() - at, random() % 3), std::to_string(random() - (1u << 31)));
    }
  }
  return bad;
}

// Whether it loads. Then it must describe itself, encode and compute.
bool survives(const fs::path& path) {
  try {
    const ModelSource source = find_model(path.string());
    config_of(source);
    stored_tensors(source);
    const Model model = load_model(path.string(), at::kFloat);
    const at::NoGradGuard no_grad;
    auto ids = chat_prompt(model, "Hi THERE");
    ids.resize(8, 3);
    for (auto& id : ids) id = static_cast<int32_t>(id % model.config.vocab_size);
    const TokenTree tree{ids, {}};
    logits(model.network(), hidden_states(model.network(), pack({&tree, 1})));
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Damage, OfAGgufFile) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "bad.gguf";
  const std::string good = read_file(tiny);
  const size_t header = good.find("output_norm.weight") + 64;  // the table of tensors ends about there
  std::mt19937 random(5);
  int loaded = 0;
  for (int round = 0; round < 500; ++round) {
    std::string bad = good;
    if (round % 2 == 0) {
      bad[random() % header] = static_cast<char>(random() % 256);
    } else {
      bad = damaged(good, random);
    }
    write_file(path, bad);
    loaded += survives(path) ? 1 : 0;
  }
  EXPECT_GT(loaded, 20);
  EXPECT_LT(loaded, 480);
}

// What sets a family apart: experts, factors of RoPE, parts.
TEST(Damage, OfTheHeadersOfOtherFamilies) {
  const TemporaryFolder folder;
  std::mt19937 random(7);
  for (const char* name : {"mixtral_q8_0", "qwen3moe", "phi4", "yarn", "gemma3", "llama_split-00001-of-00003",
                           "llama_split-00002-of-00003"}) {
    for (int part = 2; part <= 3; ++part) {
      const std::string other = fmt::format("llama_split-{:05}-of-00003.gguf", part);
      fs::copy(TEST_DATA_DIR "/gguf/" + other, folder.path() / other, fs::copy_options::overwrite_existing);
    }
    const std::string file = std::string(name) + ".gguf";
    const std::string good = read_file(TEST_DATA_DIR "/gguf/" + file);
    const size_t header = good.rfind(".weight") + 64;
    // A part is looked at from the first.
    const bool later = is_later_part(file);
    const fs::path opened = later ? folder.path() / "llama_split-00001-of-00003.gguf" : folder.path() / file;
    write_file(opened, later ? read_file(TEST_DATA_DIR "/gguf/llama_split-00001-of-00003.gguf") : good);
    ASSERT_TRUE(survives(opened)) << name;
    int loaded = 0;
    for (int round = 0; round < 100; ++round) {
      std::string bad = good;
      for (unsigned i = 0; i <= random() % 3; ++i) bad[random() % header] = static_cast<char>(random() % 256);
      write_file(folder.path() / file, bad);
      loaded += survives(opened) ? 1 : 0;
    }
    EXPECT_LT(loaded, 95) << name;
  }
}

TEST(Damage, OfEachFileOfAFolder) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "model";
  save_hugging_face(load_gguf(tiny, at::kFloat), path, at::kFloat);
  ASSERT_TRUE(survives(path));
  std::mt19937 random(6);
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}) {
    const std::string good = read_file(path / name);
    int loaded = 0;
    for (int round = 0; round < 150; ++round) {
      write_file(path / name, damaged(good, random));
      loaded += survives(path) ? 1 : 0;
    }
    EXPECT_LT(loaded, 150) << name;
    write_file(path / name, good);
  }
}

// Every number and list of config.json, set to what no model has.
TEST(Damage, OfEachValueOfAConfig) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "model";
  save_hugging_face(load_gguf(tiny, at::kFloat), path, at::kFloat);
  Json good = read_json_file(path / "config.json");
  for (const char* other : {"rope_scaling", "rope_parameters", "layer_types", "no_rope_layers"}) good[other] = nullptr;
  for (const auto& [key, value] : good.items()) {
    for (const Json& lie : {Json(0), Json(-1), Json(1), Json(int64_t{1} << 40), Json(INT64_MIN), Json(1e300),
                            Json(-0.5), Json("x"), Json::array({1, "x"}), Json::object(), Json(true), Json()}) {
      Json bad = good;
      bad[key] = lie;
      write_file(path / "config.json", bad.dump());
      survives(path);
    }
  }
}

class Shards : public testing::Test {
 protected:
  void SetUp() override {
    save_hugging_face(load_gguf(tiny, at::kFloat), path(), at::kFloat);
    fs::rename(path() / "model.safetensors", path() / "model-00001-of-00002.safetensors");
  }
  fs::path path() const { return folder_.path() / "model"; }
  std::string error_of(const std::string& index) {
    write_file(path() / "model.safetensors.index.json", index);
    try {
      load_model(path().string(), at::kFloat);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  const TemporaryFolder folder_;
};

TEST_F(Shards, ThatAreMissingAreNamed) {
  EXPECT_THAT(error_of(R"({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}})"),
              HasSubstr("model-00002-of-00002.safetensors: cannot open"));
  EXPECT_THAT(error_of(R"({"weight_map": {"x": "model-00001-of-00002.safetensors"}})"),
              HasSubstr("tensor \"x\" is not in"));
  EXPECT_THAT(error_of(R"({"weight_map": {}})"), HasSubstr("is missing"));
  EXPECT_THAT(error_of(R"({"weight_map": {"x": ""}})"), HasSubstr("no file name"));
}

TEST_F(Shards, LieAboutShapes) {
  Json config = read_json_file(path() / "config.json");
  config["intermediate_size"] = 96;
  write_file(path() / "config.json", config.dump());
  EXPECT_THAT(error_of(R"({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}})"),
              HasSubstr("mlp.gate_proj.weight\" has shape [64, 32], expected [96, 32]"));
}

}  // namespace
}  // namespace backburn::model
