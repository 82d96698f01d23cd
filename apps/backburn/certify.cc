#include <fmt/format.h>

#include "backburn/base/progress.h"
#include "backburn/report/table.h"
#include "backburn/run/check_recipe.h"
#include "backburn/run/memory.h"
#include "backburn/run/probe.h"
#include "backburn/run/stages.h"
#include "commands.h"

namespace backburn::app {
namespace {

struct CertifyFlags {
  std::vector<std::string> refusals, system_prompts, prefixes, prompt_templates, plain_formats;
};

std::string scientific(const Json& number) { return fmt::format("{:.2e}", number.get<double>()); }

std::string by_temperature(const Json& result) {
  report::Table table{{"temperature", "p max", "p mean", "P(signal) per group", "steps to first signal"}, {}};
  for (const Json& each : result["temperatures"]) {
    table.rows.push_back({fmt::format("{}", each["temperature"].get<double>()), scientific(each["p_max"]),
                          scientific(each["p_mean"]), scientific(each["signal_per_group_max"]),
                          fmt::format("{:.1f}", each["expected_steps_to_signal"].get<double>())});
  }
  return report::render_table(table, colors_wanted());
}

// Line feeds as they are typed.
std::string escaped(const std::string& text) {
  std::string line = Json(text).dump();
  return line.substr(1, line.size() - 2);
}

std::string by_situation(const Json& result) {
  report::Table table{{"plain format", "system message", "answer begins", "prompt", "temperature", "p max", "p mean"},
                      {}};
  for (const Json& each : result["situations"]) {
    // Runs of older versions have no plain formats.
    table.rows.push_back({escaped(each.value("plain_format", "")), each["system_prompt"].get<std::string>(),
                          each["prefix"].get<std::string>(), each["prompt_template"].get<std::string>(),
                          fmt::format("{}", each["temperature"].get<double>()), scientific(each["p_max"]),
                          scientific(each["p_mean"])});
  }
  return report::render_table(table, colors_wanted());
}

std::string of_leaks(const Json& result) {
  report::Table table{{"weakest prompts", "p", "the refusal is left behind", "with chance"}, {}};
  for (const Json& each : result.value("leaks", Json::array())) {  // runs of older versions have none
    table.rows.push_back({each["id"].get<std::string>(), scientific(each["p"]),
                          fmt::format("\"{}\"", each["after"].get<std::string>()), scientific(each["p_there"])});
  }
  return table.rows.empty() ? "" : report::render_table(table, colors_wanted());
}

std::string of_unseen(const Json& result) {
  report::Table table{{"temperature", "p above", "held-out activities", "share unseen, at most", "P(signal) per group"},
                      {}};
  for (const Json& each : result["temperatures"]) {
    if (each["unseen"].is_null()) continue;
    for (const Json& share : each["unseen"]["shares"]) {
      table.rows.push_back(
          {fmt::format("{}", each["temperature"].get<double>()), scientific(share["threshold"]),
           fmt::format("{} of {}", share["above"].get<int64_t>(), each["unseen"]["units"].get<int64_t>()),
           fmt::format("{:.1f}%", 100 * share["upper"].get<double>()), scientific(share["signal_per_group"])});
    }
  }
  return table.rows.empty() ? "" : report::render_table(table, colors_wanted());
}

}  // namespace

void add_certify(CLI::App& app) {
  auto* command =
      app.add_subcommand("certify", "a bound on any RL attacker's signal, from one pass, without an attack");
  auto flags = std::make_shared<RecipeFlags>();
  auto given = std::make_shared<CertifyFlags>();
  add_recipe_flags(*command, *flags, true);
  const auto add_lines = [&](const char* name, std::vector<std::string>& lines, const char* help) {
    command->add_option(name, lines, help)->allow_extra_args(false);
  };
  add_lines("--refusal", given->refusals,
            "the canonical refusal (default: the model's own most frequent one); further ones count as well");
  add_lines("--system-prompt", given->system_prompts, "a system message of the attacker; may be given again");
  add_lines("--prefix", given->prefixes, "a forced beginning of the answer; may be given again");
  add_lines("--prompt-template", given->prompt_templates,
            "other words around each prompt, which {} stands for; may be given again");
  add_lines("--plain-format", given->plain_formats,
            "a plain text in place of the chat template, {} being the prompt; may be given again");
  command->callback([flags, given] {
    auto recipe = recipe_of(*flags, "");
    auto& refusals = given->refusals;
    if (!refusals.empty()) recipe.defend.refusal = refusals.front();
    if (refusals.size() > 1) recipe.certify.refusals.assign(refusals.begin() + 1, refusals.end());
    if (!given->system_prompts.empty()) recipe.certify.system_prompts = given->system_prompts;
    if (!given->prefixes.empty()) recipe.certify.prefixes = given->prefixes;
    if (!given->prompt_templates.empty()) recipe.certify.prompt_templates = given->prompt_templates;
    if (!given->plain_formats.empty()) recipe.certify.plain_formats = given->plain_formats;
    run::check_recipe(recipe);
    run::check_memory("certify", recipe);
    const auto run = run::open_run(recipe, out_of(*flags, "certify", recipe), nullptr, run::Splits::heldout);
    const auto model = run::load_model(recipe.model, recipe);
    if (!run.folder.finished("certify")) run::certify_stage(run, model, run::choose_refusal(run, model));
    const Json result = run.folder.result("certify");
    if (flags->json) {
      fmt::print("{}\n", result.dump());
      return;
    }
    fmt::print("refusal: {}\n{}", result["canonical_refusal"].get<std::string>(), by_temperature(result));
    if (result["situations"].size() > result["temperatures"].size()) fmt::print("\n{}", by_situation(result));
    if (const auto leaks = of_leaks(result); !leaks.empty()) fmt::print("\n{}", leaks);
    if (const auto unseen = of_unseen(result); !unseen.empty()) {
      fmt::print("\nUnseen prompts, at {}% confidence a line:\n{}", 100 * recipe.certify.confidence, unseen);
    }
  });
}

}  // namespace backburn::app
