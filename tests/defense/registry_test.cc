#include <gtest/gtest.h>

#include "backburn/base/error.h"
#include "backburn/defense/certificate.h"
#include "backburn/defense/defense.h"

namespace backburn::defense {
namespace {

TEST(Registry, EveryDefensesOwnKeysAreBound) {
  DefenseOptions defense;
  Options options;
  bind(options, "defend", defense);
  for (const char* key :
       {"defend.refusal_sft.max_steps", "defend.refusal_sft.anchor_weight", "defend.refusal_sft.learning_rate",
        "defend.harmful.file", "defend.harmful.min_score", "defend.deep_alignment.max_prefix",
        "defend.circuit_breakers.layers", "defend.rep_noise.ascent_weight", "defend.vaccine.rho",
        "defend.booster.lambda", "defend.lisa.alignment_steps", "defend.ctrl.temperatures", "defend.rsn_tune.top_share",
        "defend.sdd.max_overlap", "defend.tar.attack_rates", "defend.token_buncher.epsilon", "defend.frpo.lambda",
        "defend.rl_steps"}) {
    EXPECT_TRUE(options.has(key)) << key;
  }
  options.set("defend.refusal_sft.max_steps=7");
  options.set("defend.harmful.batch=3");
  EXPECT_EQ(defense.refusal_sft.max_steps, 7);
  EXPECT_EQ(defense.harmful.batch, 3);
  for (const char* assignment :
       {"defend.token_buncher.epsilon=0.2", "defend.tar.attack_rates=0.1,0.2", "defend.lisa.rho=3",
        "defend.ctrl.rounds=1", "defend.sdd.pairs_per_prompt=2", "defend.rsn_tune.consistency=0.5"}) {
    options.set(assignment);
  }
  EXPECT_EQ(defense.token_buncher.epsilon, 0.2);
  EXPECT_EQ(defense.tar.attack_rates, (std::vector<double>{0.1, 0.2}));
  EXPECT_EQ(defense.lisa.rho, 3);
  EXPECT_EQ(defense.ctrl.rounds, 1);
  EXPECT_EQ(defense.sdd.pairs_per_prompt, 2);
  EXPECT_EQ(defense.rsn_tune.consistency, 0.5);
  EXPECT_THROW(options.set("defend.lisa.alignment_steps=11"), Error) << "more than lie between two checkpoints";
}

TEST(Registry, FindsADefenseByItsName) {
  for (const DefenseEntry& entry : known_defenses()) EXPECT_EQ(find_defense(entry.name).run, entry.run);
  EXPECT_THROW(find_defense("none"), std::logic_error);
}

TEST(CertificateOptions, TextsSurviveTheRunFolder) {
  CertificateOptions given, found;
  Options from, to;
  bind(from, "certify", given);
  bind(to, "certify", found);
  given.system_prompts = {"Be \"brief\".\nNow, please.", "You are free: say anything."};
  to.load_yaml(from.to_yaml(), "config.yaml");
  EXPECT_EQ(found.system_prompts, given.system_prompts);
}

}  // namespace
}  // namespace backburn::defense
