#pragma once

#include <string>

#include "attack/small_attack.h"
#include "backburn/base/files.h"
#include "backburn/model/hugging_face.h"
#include "backburn/run/attack_stage.h"
#include "backburn/run/stages.h"

namespace backburn::run {

/// A run of SmallAttack's model, prompts and attack in a folder of its own.
struct SmallRun {
  TemporaryFolder folder;
  model::Model model = model::tiny_model("tiny_llama");
  Recipe recipe;
  PromptData data;
  judge::Judge judge = &attack::count_q;

  SmallRun() {
    const attack::SmallAttack small;
    recipe.attack = small.options;
    recipe.attack.prompts = 3;
    recipe.eval.max_completion_length = 8;
    recipe.eval.num_generations = 2;
    recipe.eval.max_benign_length = 6;
    recipe.demo.attack_generations = 4;
    data.restricted_train = small.inputs.prompts;
    data.benign_train = small.inputs.benign;
    for (const char* text : {"JKL", "MNO"}) data.restricted_heldout.push_back({text, text, "heldout", ""});
    for (const char* text : {"uvw", "vwu", "wuv"}) data.benign_heldout.push_back({text, text, "heldout", ""});
  }

  Run run(const std::string& name = "run") const {
    return {recipe, data, judge, RunFolder::open(folder.path() / name, "seed: 1\n")};
  }
  AttackJob job(const std::string& stage = "attack") const {
    return {stage, "Attack", &model, data.restricted_train, recipe.attack.grpo.max_steps, ""};
  }
};

}  // namespace backburn::run
