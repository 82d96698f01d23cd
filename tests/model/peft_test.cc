#include "backburn/model/peft.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"

namespace backburn::model {
namespace {

using testing::HasSubstr;

ModelConfig tiny() {
  ModelConfig config;
  config.architecture = "llama";
  config.vocab_size = 16;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 4;
  config.max_position_embeddings = 64;
  return config;
}

Adapter random_adapter() {
  Adapter adapter;
  adapter.rank = 3;
  adapter.alpha = 6;
  at::manual_seed(1);
  for (int layer = 0; layer < 2; ++layer) {
    auto& pairs = adapter.layers.emplace_back();
    for (const LinearLayer& each : linear_layers(tiny(), layer)) {
      pairs.push_back({at::randn({3, each.in}), at::randn({each.out, 3})});
    }
  }
  return adapter;
}

class Peft : public testing::Test {
 protected:
  void SetUp() override { save_adapter(random_adapter(), tiny(), folder(), "org/base"); }
  std::filesystem::path folder() const { return temporary_.path() / "adapter"; }
  void set(const char* key, const Json& value) {
    Json json = read_json_file(folder() / "adapter_config.json");
    json[key] = value;
    write_file(folder() / "adapter_config.json", json.dump());
  }
  std::string error_of(const ModelConfig& config = tiny()) {
    try {
      load_adapter(folder(), config);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  TemporaryFolder temporary_;
};

TEST_F(Peft, WhatIsWrittenIsRead) {
  const Adapter before = random_adapter();
  const Adapter after = load_adapter(folder(), tiny());
  EXPECT_EQ(after.rank, 3);
  EXPECT_EQ(after.alpha, 6);
  for (size_t layer = 0; layer < 2; ++layer) {
    for (size_t which = 0; which < 7; ++which) {
      EXPECT_TRUE(at::equal(before.layers[layer][which].a, after.layers[layer][which].a));
      EXPECT_TRUE(at::equal(before.layers[layer][which].b, after.layers[layer][which].b));
    }
  }
  EXPECT_EQ(read_json_file(folder() / "adapter_config.json")["base_model_name_or_path"], "org/base");
}

TEST_F(Peft, AnOlderAdapterIsReplacedButNobodysFilesAreDeleted) {
  save_adapter(random_adapter(), tiny(), folder(), "org/other");
  EXPECT_EQ(read_json_file(folder() / "adapter_config.json")["base_model_name_or_path"], "org/other");
  std::ofstream(folder() / "notes.txt") << "mine";
  EXPECT_THROW(save_adapter(random_adapter(), tiny(), folder(), "org/base"), Error);
  EXPECT_TRUE(std::filesystem::exists(folder() / "notes.txt"));
  // The folder itself is all that is left beside it.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(temporary_.path()), {}), 1);
}

TEST_F(Peft, KeepsTheRankStabilisedScale) {
  set("use_rslora", true);
  const Adapter adapter = load_adapter(folder(), tiny());
  EXPECT_NEAR(adapter.scale(), 6 / std::sqrt(3.0), 1e-12);
  save_adapter(adapter, tiny(), folder(), "org/base");
  const Json json = read_json_file(folder() / "adapter_config.json");
  EXPECT_EQ(json["use_rslora"], true);
  EXPECT_EQ(json["lora_alpha"], 6);
}

TEST_F(Peft, KindsThatAreLeftOutStayLeftOut) {
  Adapter adapter = random_adapter();
  for (auto& layer : adapter.layers) {
    for (const size_t which : {1, 3, 4, 5, 6}) layer[which] = {};
  }
  adapter.layers[0][2] = {};  // v_proj of one layer alone
  save_adapter(adapter, tiny(), folder(), "org/base");
  EXPECT_EQ(read_json_file(folder() / "adapter_config.json")["target_modules"], (Json{"q_proj", "v_proj"}));
  const Adapter again = load_adapter(folder(), tiny());
  EXPECT_FALSE(again.layers[0][1].a.defined());
  EXPECT_EQ(again.layers[0][2].b.abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(again.layers[1][2].b, adapter.layers[1][2].b));
}

TEST_F(Peft, DoraWithoutMagnitudesIsRefused) {
  set("use_dora", true);
  EXPECT_THAT(error_of(), HasSubstr("lora_magnitude_vector"));
}

TEST_F(Peft, RefusesWhatIsNotComputed) {
  const std::pair<const char*, Json> cases[] = {
      {"modules_to_save", {"lm_head"}}, {"bias", "all"}, {"exclude_modules", {"q_proj"}}, {"peft_type", "IA3"}};
  for (const auto& [key, value] : cases) {
    save_adapter(random_adapter(), tiny(), folder(), "org/base");
    set(key, value);
    EXPECT_THAT(error_of(), HasSubstr(key));
  }
}

// What they match is compared with PEFT in adapter_test.cc.
TEST_F(Peft, PatternsThatMakeNoSenseAreRefused) {
  const std::tuple<const char*, Json, const char*> cases[] = {
      {"rank_pattern", {{"q_proj", 8}}, "q_proj.lora_A.weight\" has shape [3, 8], expected [8, 8]"},
      {"rank_pattern", {{"q_proj", 2.5}}, "rank_pattern: \"q_proj\" is 2.5, expected a whole number"},
      {"rank_pattern", {{"q_proj", 1e12}}, "at most 65536"},
      {"rank_pattern", {"q_proj"}, "\"rank_pattern\" must be a map"},
      {"alpha_pattern", {{"q_proj", "8"}}, "alpha_pattern: \"q_proj\" is \"8\", expected a number"},
      {"alpha_pattern", {{"q_proj", 0}}, "alpha_pattern: \"q_proj\" is 0, expected a number above 0"},
      {"alpha_pattern", {{"q_(proj", 8}}, "alpha_pattern: \"q_(proj\": not a regular expression"}};
  for (const auto& [key, value, message] : cases) {
    save_adapter(random_adapter(), tiny(), folder(), "org/base");
    set(key, value);
    EXPECT_THAT(error_of(), HasSubstr(message));
  }
}

TEST_F(Peft, AnAlphaPatternChangesTheScaleOfItsLayers) {
  set("alpha_pattern", {{"0\\.self_attn\\..*", 12}, {"q_proj", 3}, {"proj", 100}});
  const Adapter before = random_adapter(), after = load_adapter(folder(), tiny());
  EXPECT_EQ(after.scale(), before.scale());
  EXPECT_TRUE(at::equal(after.layers[0][0].b, before.layers[0][0].b * 2));  // the first that matches
  EXPECT_TRUE(at::equal(after.layers[1][0].b, before.layers[1][0].b / 2));
  EXPECT_TRUE(at::equal(after.layers[1][1].b, before.layers[1][1].b));  // "proj" is no whole part of the name
}

TEST_F(Peft, RefusesAnAdapterOfAnotherModel) {
  ModelConfig wider = tiny();
  wider.hidden_size = 16;
  EXPECT_THAT(error_of(wider), HasSubstr("has shape [3, 8], expected [3, 16]"));
  ModelConfig shallower = tiny();
  shallower.num_hidden_layers = 1;
  EXPECT_THAT(error_of(shallower), HasSubstr("belongs to no linear layer"));
  set("r", 4);
  EXPECT_THAT(error_of(), HasSubstr("expected [4, 8]"));
  set("r", -1);
  EXPECT_THAT(error_of(), HasSubstr("r is -1"));
}

}  // namespace
}  // namespace backburn::model
