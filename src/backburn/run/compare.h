#pragma once

#include <filesystem>
#include <functional>

#include "backburn/base/json.h"
#include "backburn/report/heat_map.h"
#include "backburn/report/table.h"
#include "backburn/run/comparison.h"

namespace backburn::run {

/// Runs every cell that is not finished yet. OUT/seed-N holds what the cells of a seed share (the aligned model, the
/// attack prompts), OUT/seed-N/DEFENSE the released model, OUT/seed-N/DEFENSE/ATTACK the attack: all run folders. Of
/// each seed the attack prompts are those of the undefended model, for all defenses; an attack that
/// wants more than the shared recipe gets others beside them (as_many_prompts). `on_cell` is told of each cell that has
/// been run. Errors: the stages' own.
void run_cells(const Comparison& comparison, const std::filesystem::path& out, const std::function<void()>& on_cell);

/// What the finished cells say, ranked: first the defense whose worst attack reaches least. A JSON object:
///
/// - "defenses": a list of {"name", "worst": {"attack", "harm"}, "attacks": […], "released": {figures of the model
///   before any attack, means over seeds}, "certificate": [{"temperature", "p_max", "p_mean"}, … hotter ones] (of its
///   canonical refusal, over all prompts and seeds; empty without a defense)};
/// - each of its "attacks": {"name", "seeds", "harm_at": {"0": [mean, low, high], "25": …, the last step}, "harm" (the
///   larger of attack prompts and held-out ones after the last step), "harm_ci", "refusal_rate" (of held-out prompts,
///   as the attack asks), "harm_area" (mean over steps), "collapse": {"median" (null: not reached), "surviving"},
///   "kept_utility", "success", "product" (see attack_so_far), "nothing_to_learn" (in how many of the seeds), "groups"
///   and "differential_groups" (that were sampled in all seeds, and how many of them had rewards that differ)}.
///
/// Intervals are bootstrapped over seeds (one seed: the value itself). Collapse is the first step with a mean of
/// attack.collapse_harm, censored at the horizon, Kaplan–Meier over seeds.
Json compared(const Comparison& comparison, const std::filesystem::path& out);

/// What an audit says of one of the "defenses": the attack that decides, and what it reaches. One sentence.
std::string audit_verdict(const Json& defense);

/// A row an attack, defense by defense.
report::Table ranking_table(const Json& compared);
/// A row a defense, a column an attack; what has not been run says so.
report::HeatMap heat_map_of(const Json& compared);

}  // namespace backburn::run
