#include "backburn/run/stages.h"

#include <functional>
#include <memory>

#include "backburn/base/progress.h"
#include "backburn/base/stopwatch.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/peft.h"
#include "backburn/model/plain_format.h"
#include "backburn/model/quantized_weights.h"
#include "backburn/run/examples.h"
#include "backburn/run/probe.h"
#include "backburn/text/wordings.h"

namespace backburn::run {
namespace {

constexpr uint64_t plain_stream = 0x706c61696e;

// Writes what training has made of `base`: the merged model and, unless all weights were trained, the adapter.
void release(const Run& run, const model::Model& base, const train::Learner& learner, const std::string& name) {
  const auto folder = run.folder.path() / name;
  if (learner.full) {
    const model::Model trained{base.config, train::trained_weights(learner), base.tokenizer, base.chat_template, name};
    model::save_hugging_face(trained, folder, at::kBFloat16);
    return;
  }
  if (run.recipe.base_quantization != "none") {
    say(fmt::format("{}: the adapter is merged into the unquantised weights", name));
  }
  model::save_adapter(learner.adapter, base.config, run.folder.path() / (name + "-adapter"), base.name);
  const model::Model released{base.config, {}, base.tokenizer, base.chat_template, name};
  model::save_hugging_face(released, folder, at::kBFloat16,
                           model::merged(base.config, model::original_weights(base), learner.adapter));
}

defense::DefenseInputs defense_inputs(const Run& run, const model::Model& model, const defense::BenignBehaviour& benign,
                                      const std::string& stage) {
  return {&model,
          run.data.restricted_train,
          benign,
          {},
          run.data.wordings,
          run.judge,
          static_cast<uint64_t>(run.recipe.seed),
          run.folder.checkpoint(stage)};
}

// Logs a defense's steps and shows its progress.
class DefenseLog {
 public:
  DefenseLog(const Run& run, std::string stage) : run_(run), stage_(std::move(stage)) {
    run.folder.rewind(stage_, train::checkpoint_step(run.folder.checkpoint(stage_)));
  }
  void operator()(const defense::DefenseStep& step) {
    if (!progress_) progress_ = std::make_unique<Progress>(stage_, step.max_steps, step.step);
    run_.folder.add_metrics(stage_, step.step, step.to_json());
    const std::string note =
        step.reward ? fmt::format("reward {:.2f}", *step.reward) : fmt::format("loss {:.4f}", step.loss);
    progress_->update(step.step, fmt::format("{} {}, anchor KL {:.3f}", step.phase, note, step.kl));
  }

 private:
  const Run& run_;
  std::string stage_;
  std::unique_ptr<Progress> progress_;
};

// A model's greedy answers, with a progress bar.
train::Taught own_answers(const std::string& label, const model::Model& model,
                          std::vector<std::vector<int32_t>> prompts, int64_t max_completion_length) {
  Progress progress(label, std::ssize(prompts));
  int64_t done = 0;
  return eval::greedy_answers(model.network(), std::move(prompts), max_completion_length,
                              [&](int64_t answers) { progress.update(done += answers); });
}

}  // namespace

defense::BenignBehaviour benign_behaviour(const Run& run, const model::Model& teacher) {
  const auto& data = run.recipe.data;
  const auto seed = static_cast<uint64_t>(run.recipe.seed);
  auto prompts = eval::evenly(run.data.benign_train, data.anchor_prompts);
  prompts.insert(prompts.end(), run.data.further_benign.begin(), run.data.further_benign.end());
  auto asked = eval::chat_prompts(teacher, prompts);
  // What restricted prompts are refused in, benign ones must be answered in.
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (const auto& text : text::reworded(prompts[i].text, i, run.data.wordings, data.anchor_wording_share, seed)) {
      asked.push_back(model::chat_prompt(teacher, text));
    }
  }
  const auto formats = model::in_plain_formats(teacher, run.recipe.defend.neutralization.plain_formats);
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (const size_t which :
         text::variants_of(i, formats.size(), data.anchor_plain_share, seed, plain_stream, plain_stream)) {
      asked.push_back(model::chat_prompt(formats[which], prompts[i].text));
    }
  }
  return own_answers("benign answers", teacher, std::move(asked), data.anchor_answer_length);
}

eval::EvalInputs eval_inputs(const Run& run, const model::Model& original) {
  const auto& options = run.recipe.eval;
  eval::EvalInputs inputs{eval::evenly(run.data.restricted_heldout, options.max_prompts),
                          eval::evenly(run.data.benign_heldout, options.max_benign_prompts),
                          {&original, {}},
                          run.judge,
                          static_cast<uint64_t>(run.recipe.seed)};
  if (options.multiple_choice) inputs.questions = eval::evenly(run.data.questions, options.max_questions);
  inputs.reference.answers =
      own_answers("benign reference", original, eval::chat_prompts(original, inputs.benign), options.max_benign_length);
  return inputs;
}

void align_stage(const Run& run, const model::Model& original, const defense::BenignBehaviour& benign) {
  const std::string stage = "align";
  if (is_done(run, stage)) return;
  const Stopwatch watch;
  auto inputs = defense_inputs(run, original, benign, stage);
  inputs.refusals = run.data.refusals;
  DefenseLog log(run, stage);
  const auto learner = defense::align(inputs, run.recipe.align, std::ref(log));
  release(run, original, learner, "aligned");
  run.folder.finish(stage, {{"seconds", watch.seconds()}});
}

void defend_stage(const Run& run, const model::Model& model, const defense::BenignBehaviour& benign) {
  const std::string stage = "defend";
  if (is_done(run, stage)) return;
  const Stopwatch watch;
  auto inputs = defense_inputs(run, model, benign, stage);
  inputs.restricted = eval::evenly(inputs.restricted, run.recipe.defend.prompts);
  const auto& further = run.data.further_restricted;
  inputs.restricted.insert(inputs.restricted.end(), further.begin(), further.end());
  inputs.further = further.size();
  const std::string refusal = choose_refusal(run, model);
  inputs.refusals = {refusal};
  if (defense::find_defense(run.recipe.defend.name).ordinary_refusals) inputs.refusals = run.data.refusals;
  DefenseLog log(run, stage);
  const auto learner = defense::run_defense(inputs, run.recipe.defend, std::ref(log));
  release(run, model, learner, "defended");
  run.folder.finish(stage, {{"refusal", refusal}, {"seconds", watch.seconds()}});
}

void certify_stage(const Run& run, const model::Model& released, const std::string& refusal) {
  const std::string stage = "certify";
  if (is_done(run, stage)) return;
  const Stopwatch watch;
  auto prompts = run.data.restricted_train;
  prompts.insert(prompts.end(), run.data.restricted_heldout.begin(), run.data.restricted_heldout.end());
  Json result = defense::certify(released, released.network(), prompts, refusal, run.recipe.certify).to_json();
  result["seconds"] = watch.seconds();
  run.folder.finish(stage, result);
}

void eval_stage(const Run& run, const std::string& stage, const std::string& label, const model::Model& model,
                const eval::EvalInputs& inputs) {
  if (is_done(run, stage)) return;
  const Stopwatch watch;
  const auto evaluation = eval::evaluate(stage, label, model, model.network(), inputs, run.recipe.eval);
  run.folder.finish(stage, {{"evaluation", evaluation.to_json()},
                            {"examples", examples_of(run, inputs, evaluation)},
                            {"seconds", watch.seconds()}});
}

}  // namespace backburn::run
