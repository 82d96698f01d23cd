#include "backburn/run/demo.h"

#include <fmt/chrono.h>

#include <chrono>

#include "backburn/base/progress.h"
#include "backburn/base/stopwatch.h"
#include "backburn/run/attack_stage.h"
#include "backburn/run/probe.h"
#include "backburn/run/report_data.h"
#include "backburn/run/stages.h"

namespace backburn::run {
namespace {

void describe(const Run& run, const model::Model& original, const std::string& command) {
  if (run.folder.finished("run")) return;
  run.folder.finish(
      "run",
      {{"command", command},
       {"seed", run.recipe.seed},
       {"created", fmt::format("{:%Y-%m-%d %H:%M} UTC",
                               fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())))},
       {"model",
        {{"name", original.name},
         {"architecture", original.config.architecture},
         {"parameters", model::parameter_count(original.config)},
         {"dtype", original.network().dtype() == at::kBFloat16 ? "bf16" : "f32"}}}});
}

}  // namespace

void demo(const Run& run, const std::string& command) {
  if (run.folder.finished("attack_defended")) {
    say(fmt::format("{}: all stages are done", run.folder.path().string()));
    return;
  }
  const auto& options = run.recipe.demo;
  const auto original = load_model(run.recipe.model, run.recipe);
  describe(run, original, command);

  const Stopwatch watch;
  const auto inputs = eval_inputs(run, original);
  const bool training_left = !run.folder.finished("defend");
  const auto benign = training_left ? benign_behaviour(run, original) : defense::BenignBehaviour();
  if (!run.folder.finished("prepare")) {
    run.folder.finish("prepare", {{"seconds", watch.seconds()}});
  }
  eval_stage(run, "original", "Original", original, inputs);
  if (options.align) align_stage(run, original, benign);
  // The vendor's model when it needs no alignment: what is attacked first, and what is defended.
  const auto aligned =
      options.align ? std::make_unique<model::Model>(load_model((run.folder.path() / "aligned").string(), run.recipe))
                    : std::unique_ptr<model::Model>();
  const model::Model& undefended = aligned ? *aligned : original;
  if (aligned) eval_stage(run, "aligned", "Aligned", undefended, inputs);

  const auto prompts = attack_prompts(run, undefended, run.recipe.attack.split);
  attack_stage(run,
               {"attack_undefended", aligned ? "Attack on the aligned model" : "Attack on the original model",
                &undefended, prompts, options.undefended_steps, ""},
               inputs);
  write_report(run.folder);

  defend_stage(run, undefended, benign);
  // What counts is what is released: rounded to bf16, saved, and loaded again.
  const auto defended = load_model((run.folder.path() / "defended").string(), run.recipe);
  const auto refusal = run.folder.result("defend")["refusal"].get<std::string>();
  certify_stage(run, defended, refusal);
  eval_stage(run, "defended", "Defended", defended, inputs);
  attack_stage(run,
               {"attack_defended", "Attack on the defended model", &defended, prompts, options.defended_steps, refusal},
               inputs);
}

}  // namespace backburn::run
