#include "backburn/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/base/files.h"

namespace backburn::model {
namespace {

using testing::HasSubstr;

Json file_of(const std::string& name) {
  return read_json_file(SOURCE_DIR "/tests/model/data/" + name + "/config.json");
}

std::string error_of(const Json& json) {
  try {
    config_from_hugging_face(json, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Config, APhi3FileAsTransformers4HasIt) {
  Json json = file_of("tiny_phi4");
  const Json rope = json["rope_parameters"];
  json.erase("rope_parameters");
  json["rope_theta"] = 500.0;
  json["rope_scaling"] = {{"type", "su"}, {"short_factor", rope["short_factor"]}, {"long_factor", rope["long_factor"]}};
  const ModelConfig config = config_from_hugging_face(json, "config.json");
  EXPECT_EQ(config.rope_scaling.type, "longrope");
  EXPECT_EQ(config.rope_theta, 500.0);
  EXPECT_EQ(config.rope_scaling.original_max_position_embeddings, 32);
  EXPECT_EQ(config.rotary_dim, 6);
  EXPECT_TRUE(config.fused_projections);
  // And so it is written.
  const Json written = config_to_hugging_face(config, "bfloat16");
  EXPECT_EQ(written["rope_scaling"].size(), 3U);
  EXPECT_EQ(written["rope_scaling"]["type"], "longrope");
  EXPECT_EQ(written["original_max_position_embeddings"], 32);
  EXPECT_EQ(written["partial_rotary_factor"], 0.75);
}

TEST(Config, RopeScalingsThatMakeNoSenseAreRefused) {
  Json json = file_of("tiny_phi4");
  json["rope_parameters"]["short_factor"] = {1.0, 2.0};
  EXPECT_THAT(error_of(json), HasSubstr("must be 3 positive numbers each"));
  json = file_of("tiny_phi4");
  json["partial_rotary_factor"] = json["rope_parameters"]["partial_rotary_factor"] = 0.4;
  EXPECT_THAT(error_of(json), HasSubstr("RoPE turns 3 of a head's 8 dimensions"));
  json = file_of("tiny_yarn");
  json["rope_parameters"]["beta_slow"] = 64;
  EXPECT_THAT(error_of(json), HasSubstr("0 < beta_slow < beta_fast"));
  json["rope_parameters"].erase("original_max_position_embeddings");
  EXPECT_THAT(error_of(json), HasSubstr("\"original_max_position_embeddings\" is missing"));
  json["rope_parameters"]["rope_type"] = "proportional";
  EXPECT_THAT(error_of(json), HasSubstr("\"proportional\" is not supported"));
}

TEST(Config, ExpertsThatMakeNoSenseAreRefused) {
  const std::vector<std::pair<std::string, int>> cases = {
      {"num_experts_per_tok", 5}, {"num_local_experts", 0}, {"decoder_sparse_step", 0}, {"moe_intermediate_size", -1}};
  for (const auto& [key, value] : cases) {
    Json json = file_of("tiny_qwen3_moe");
    json[key] = value;
    EXPECT_THAT(error_of(json), HasSubstr(key == "decoder_sparse_step" ? "expected at least 1" : "out of range"))
        << key;
  }
}

TEST(Config, ParametersAreCounted) {
  // The values in the tensors of their model.safetensors.
  EXPECT_EQ(parameter_count(config_from_hugging_face(file_of("tiny_qwen3_moe"), "")), 29152);
  EXPECT_EQ(parameter_count(config_from_hugging_face(file_of("tiny_qwen3_moe_mixed"), "")), 53792);
  EXPECT_EQ(parameter_count(config_from_hugging_face(file_of("tiny_phi3"), "")), 22688);
}

}  // namespace
}  // namespace backburn::model
