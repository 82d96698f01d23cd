#include "backburn/run/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/model/packed.h"
#include "base/error_of.h"

namespace backburn::run {
namespace {

using testing::HasSubstr;

// SmolLM2-135M.
model::ModelConfig smollm2() {
  model::ModelConfig config;
  config.architecture = "llama";
  config.vocab_size = 49152;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_hidden_layers = 30;
  config.num_attention_heads = 9;
  config.num_key_value_heads = 3;
  config.head_dim = 64;
  config.max_position_embeddings = 8192;
  config.tie_word_embeddings = true;
  return config;
}

// Llama 3.1 8B.
model::ModelConfig eight_billion() {
  model::ModelConfig config = smollm2();
  config.vocab_size = 128256;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_hidden_layers = 32;
  config.num_attention_heads = 32;
  config.num_key_value_heads = 8;
  config.head_dim = 128;
  config.tie_word_embeddings = false;
  return config;
}

std::string error_of(const std::string& command, const model::ModelConfig& config, double available) {
  return backburn::error_of([&] { check_memory(command, config, Recipe{}, available); });
}

TEST(Memory, IsAboutWhatWasMeasured) {
  if (!model::PackedWeights::fits(smollm2(), at::kBFloat16)) GTEST_SKIP() << "measured with the kernels of another CPU";
  Recipe recipe;
  recipe.dtype = "bfloat16";
  // README: a GRPO step of 4 × 8 × 48 tokens, and the demo.
  EXPECT_NEAR(memory_need("attack", smollm2(), recipe).gib(), 1.62, 0.25 * 1.62);
  EXPECT_NEAR(memory_need("demo", smollm2(), recipe).gib(), 2.6, 0.25 * 2.6);
}

TEST(Memory, GrowsWithWhatIsAskedFor) {
  const auto need = [](const std::string& command, const std::vector<std::string>& sets) {
    Recipe recipe;
    auto options = options_of(recipe);
    for (const auto& set : sets) options.set(set);
    return memory_need(command, eight_billion(), recipe).gib();
  };
  const double attack = need("attack", {});
  EXPECT_GT(attack, need("generate", {}));
  EXPECT_GT(attack, need("attack", {"attack.gradient_checkpointing=true"}));
  EXPECT_LT(attack, need("attack", {"attack.r=256"}));
  EXPECT_LT(need("attack", {"dtype=bfloat16"}), need("attack", {"dtype=float32"}));
  EXPECT_GT(attack, need("attack", {"attack.target_modules=q_proj,v_proj"}));
  EXPECT_LT(need("attack", {"dtype=float32"}), need("attack", {"dtype=float32", "attack.use_dora=true"}));
  // 8 billion weights: masters, gradients and two averages in f32, what computes and what samples in bf16.
  const double full = need("attack", {"attack.use_peft=false", "dtype=float32", "attack.gradient_checkpointing=true"});
  EXPECT_GT(full - need("attack", {"dtype=float32", "attack.gradient_checkpointing=true"}), 8 * 16 * 0.9);
  for (const char* command : {"align", "defend"}) {
    EXPECT_GT(need(command, {std::string(command) + ".use_peft=false"}), need(command, {}) + 8 * 16 * 0.9);
  }
  EXPECT_GT(need("defend", {"defend.rl_num_generations=64"}), need("defend", {}));
  EXPECT_GT(need("align", {"align.train_batch_size=20"}), need("align", {"align.train_batch_size=2"}));
  EXPECT_GT(need("demo", {}), attack);
  EXPECT_GT(need("demo", {}), need("demo", {"demo.align=false"}));
  for (const char* command : commands_with_need) EXPECT_GT(need(command, {}), 14) << command;
}

// Found before anything is loaded.
TEST(Memory, SettingsThatDoNotGoTogetherAreRefused) {
  Recipe recipe;
  recipe.attack.grpo.lora.target_modules = {"qkv_proj"};
  EXPECT_THAT(backburn::error_of([&] { memory_need("attack", smollm2(), recipe); }), HasSubstr("\"qkv_proj\""));
  recipe.defend.neutralization.lora.use_dora = true;
  recipe.defend.neutralization.lora.use_peft = false;
  EXPECT_THAT(backburn::error_of([&] { memory_need("demo", smollm2(), recipe); }), HasSubstr("use_dora"));
  recipe.attack.grpo.lora.use_peft = false;
  EXPECT_THAT(backburn::error_of([&] { memory_need("attack", smollm2(), recipe); }),
              HasSubstr("leave out one of them"));
}

// SmolLM2 under two attacks, the second with more answers, and with or without a defense.
Comparison comparison(bool align, bool defense) {
  Comparison made;
  made.sets = {align ? "demo.align=true" : "demo.align=false"};
  made.defenses = {{no_defense, {}}};
  if (defense) made.defenses.push_back({"reward-neutralization", {}});
  made.attacks = {{"grpo", {}}, {"wide", {"attack.num_generations=64", "attack.kept_activations_gib=64"}}};
  return made;
}

TEST(Memory, OfAComparisonIsThatOfItsLargestRun) {
  const auto need = [](const Comparison& each) { return memory_need(each, smollm2()).gib(); };
  const Comparison audit = comparison(false, false);
  const Recipe wide = recipe_of(audit, 1, nullptr, &audit.attacks[1]);
  EXPECT_NEAR(need(audit), memory_need("attack", smollm2(), wide).gib(), 1e-9);
  EXPECT_GT(need(comparison(true, false)), need(audit));
  EXPECT_GT(need(comparison(true, true)), need(comparison(true, false)));
  Comparison small = audit;
  small.attacks.pop_back();
  EXPECT_GT(need(audit), need(small));
}

TEST(Memory, AComparisonThatCannotFitIsRefusedWithWhatWouldFit) {
  const Comparison audit = comparison(false, false);
  const auto error_with = [&](double available) {
    return backburn::error_of([&] { check_memory("audit", smollm2(), audit, available); });
  };
  EXPECT_EQ(error_with(64), "no error");
  EXPECT_THAT(error_with(memory_need(audit, smollm2()).gib() - 0.05), HasSubstr("audit needs about "));
  EXPECT_THAT(error_with(0.1), HasSubstr("only a smaller model would fit"));
}

TEST(Memory, PartsMakeTheWhole) {
  const auto need = memory_need("attack", smollm2(), {});
  double sum = 0;
  for (const auto& [part, gib] : need.parts) {
    EXPECT_GT(gib, 0) << part;
    sum += gib;
  }
  EXPECT_DOUBLE_EQ(sum, need.gib());
  EXPECT_THROW(memory_need("attck", smollm2(), {}), std::logic_error);
}

TEST(Memory, AJobThatCannotFitIsRefusedWithWhatWouldFit) {
  EXPECT_EQ(error_of("attack", smollm2(), 64), "no error");
  const double whole = memory_need("attack", smollm2(), {}).gib();
  const std::string tight = error_of("attack", smollm2(), whole - 0.05);
  EXPECT_THAT(tight, HasSubstr("attack needs about "));
  EXPECT_THAT(tight, HasSubstr("weights "));
  EXPECT_THAT(tight, HasSubstr("--set attack.kept_activations_gib=0"));
  EXPECT_THAT(error_of("attack", smollm2(), 0.1), HasSubstr("only a smaller model would fit"));
  EXPECT_THAT(error_of("generate", eight_billion(), 2), HasSubstr("only a smaller model would fit"));
}

// An 8B model in 24 GiB.
TEST(Memory, FewerBitsFit) {
  if (!model::PackedWeights::fits(eight_billion(), at::kBFloat16))
    GTEST_SKIP() << "this CPU has neither AVX-512 BF16 nor AVX2";
  const auto need = [](const std::string& command, const std::string& bits) {
    Recipe recipe;
    recipe.base_quantization = bits;
    return memory_need(command, eight_billion(), recipe).gib();
  };
  for (const char* command : {"generate", "certify", "eval", "align", "attack", "defend"}) {
    EXPECT_LT(need(command, "q4_0"), need(command, "q8_0")) << command;
    EXPECT_LT(need(command, "q8_0"), need(command, "none")) << command;
    EXPECT_LT(need(command, "q4_0"), 24) << command;
  }
  EXPECT_THAT(error_of("generate", eight_billion(), 8), HasSubstr("--set base_quantization=q4_0 needs "));
  EXPECT_THAT(error_of("attack", eight_billion(), 16), HasSubstr("--set base_quantization=q8_0"));
}

// What the message proposes does fit.
TEST(Memory, TheProposedSettingsFit) {
  Recipe recipe;
  auto options = options_of(recipe);
  const double whole = memory_need("attack", eight_billion(), recipe).gib();
  const double available = whole - 1;
  const std::string error = error_of("attack", eight_billion(), available);
  size_t found = 0;
  for (size_t at = error.find("--set "); at != std::string::npos; at = error.find("--set ", at + 1), ++found) {
    options.set(error.substr(at + 6, error.find(' ', at + 6) - at - 6));
  }
  ASSERT_GT(found, 0u) << error;
  EXPECT_LE(memory_need("attack", eight_billion(), recipe).gib(), available);
}

}  // namespace
}  // namespace backburn::run
