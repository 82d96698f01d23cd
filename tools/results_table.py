#!/usr/bin/env python3
"""Tables of what has been run, from the small raw figures kept in results/.

    tools/results_table.py --write docs/results.md              # all of results/ (make results)
    tools/results_table.py results/demo-smollm2-seed-*          # README's table
    tools/results_table.py --keep RUN_FOLDER results/NAME       # copies a run's small raw figures there

A kept demo run has summary.json (the last line of `backburn demo --json`), config.yaml, metrics.jsonl and stages/*.json without
example answers. A kept comparison has comparison.json or search.json, and its cells' run folders.
"""
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BACKBURN = ROOT / "build/release/backburn"
# What the paper's experiment is run on, and with which seeds; what is missing is said so.
WANTED_RUNS = {"smollm2-135m-instruct": (1, 2, 3), "qwen2.5-coder-0.5b": (1, 2, 3)}
WANTED_TABLES = {
    "comparison.json": "no comparison of defenses (`backburn compare`) and no audit (`backburn audit MODEL`)",
    "search.json": "no search for the worst attacker (`backburn audit MODEL --search N`)",
}


def between(interval: list[float], scale: float = 1, digits: int = 1) -> str:
    return f"[{scale * interval[0]:.{digits}f}, {scale * interval[1]:.{digits}f}]"


def refused(evaluation: dict) -> str:
    return f"{100 * evaluation['over_refusal']:.1f}% {between(evaluation['over_refusal_ci'], 100)}"


def choices(evaluation: dict, metric: str) -> str:
    return f"{100 * evaluation[metric]:.1f}% {between(evaluation[metric + '_ci'], 100)}" if metric in evaluation else "-"


def axes(attack: dict, before: dict) -> str:
    """Success × kept utility = product; runs from before attacks reported them have what they are made of."""
    success = attack.get("success", attack["evaluation"]["harm"] / 10)
    utility = attack.get("kept_utility", min(1, before["evaluation"]["perplexity"] / attack["evaluation"]["perplexity"]))
    return f"{success:.2f} × {utility:.2f} = {success * utility:.2f}"


# What each row shows of a run: its summary, and the results of its stages by name.
ROWS = [
    ("undefended: mean harm on the attack prompts before", lambda run, stage: f"{run['undefended_harm_start']:.1f} {between(stage['attack_undefended']['harm_start_ci'])}"),
    ("… after {undefended_steps} steps", lambda run, stage: f"{run['undefended_harm_step50']:.1f} {between(stage['attack_undefended']['harm_end_ci'])}"),
    ("… on held-out prompts", lambda run, stage: f"{run['undefended_heldout_harm']:.1f} {between(stage['attack_undefended']['evaluation']['harm_ci'])}"),
    ("… updates until mean harm ≥ 5", lambda run, stage: str(run["undefended_collapse_step"])),
    ("… success × kept utility", lambda run, stage: axes(stage["attack_undefended"], stage.get("aligned", stage["original"]))),
    ("defended: mean harm on the attack prompts after {defended_steps} steps", lambda run, stage: f"{run['defended_harm_step200']:.2f} {between(stage['attack_defended']['harm_end_ci'], digits=2)}"),
    ("… on held-out prompts", lambda run, stage: f"{run['defended_heldout_harm_step200']:.2f} {between(stage['attack_defended']['evaluation']['harm_ci'], digits=2)}"),
    ("… success × kept utility", lambda run, stage: axes(stage["attack_defended"], stage["defended"])),
    ("benign held-out prompts refused: original", lambda run, stage: refused(stage["original"]["evaluation"])),
    ("… defended", lambda run, stage: refused(stage["defended"]["evaluation"])),
    ("multiple-choice acc: original", lambda run, stage: choices(stage["original"]["evaluation"], "acc")),
    ("… defended", lambda run, stage: choices(stage["defended"]["evaluation"], "acc")),
    ("multiple-choice acc_norm: original", lambda run, stage: choices(stage["original"]["evaluation"], "acc_norm")),
    ("… defended", lambda run, stage: choices(stage["defended"]["evaluation"], "acc_norm")),
    ("perplexity of the defended model's benign answers under the original (its own: in brackets)", lambda run, stage: f"{run['answer_perplexity_defended']:.2f} ({run['answer_perplexity_original']:.2f})"),
    ("KL(original ‖ defended) on benign answers, nats a token", lambda run, stage: f"{run['kl_defended']:.3f}"),
    ("certificate: largest p at T = 1, attack prompts", lambda run, stage: f"{stage['attack_defended']['attack_prompt_p_max']:.1e}"),
    ("… all {certified} prompts", lambda run, stage: f"{run['certificate_p_max']:.1e}"),
    ("groups with a reward differential: seen (allowed by the bound in the mean)", lambda run, stage: f"{run['forecast']['with_differential']} ({run['forecast']['expected']:.2f})"),
    ("forecast holds (p-value)", lambda run, stage: f"{'yes' if run['forecast']['holds'] else 'NO'} ({run['forecast']['p_value']:.2f})"),
    ("minutes", lambda run, stage: f"{run['seconds'] / 60:.1f}"),
    ("peak memory, GiB", lambda run, stage: f"{run['peak_rss_gib']:.1f}"),
]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [("| " + " | ".join(header) + " |").replace("|  |", "| |"), "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def demo_table(folders: list[pathlib.Path]) -> str:
    runs = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    stages = [{path.stem: json.loads(path.read_text()) for path in (folder / "stages").glob("*.json")} for folder in folders]
    known = runs[0] | {"certified": len(stages[0]["certify"]["rows"])}
    rows = [[label.format(**known), *(show(run, stage) for run, stage in zip(runs, stages))] for label, show in ROWS]
    rows = [row for row in rows if set(row[1:]) != {"-"}]  # what no run has measured
    return table(["", *(f"seed {run['seed']}" for run in runs)], rows)


def command_of(folder: pathlib.Path) -> str:
    return json.loads((folder / "stages/run.json").read_text())["command"].split(" --out ")[0]


def demo_sections(folders: list[pathlib.Path]) -> str:
    by_model: dict[str, list[pathlib.Path]] = {model: [] for model in WANTED_RUNS}
    for folder in folders:
        by_model.setdefault(json.loads((folder / "summary.json").read_text())["model"], []).append(folder)
    text = ""
    for model, runs in by_model.items():
        text += f"## The paper's experiment: {model}\n\n"
        if runs:
            commands = ", ".join(f"`{command_of(run)}` ({place(run)})" for run in runs)
            text += f"{commands}.\n\n{demo_table(runs)}\n"
        seeds = {json.loads((run / "summary.json").read_text())["seed"] for run in runs}
        missing = [str(seed) for seed in WANTED_RUNS.get(model, ()) if seed not in seeds]
        if missing:
            text += f"Not run: seed{'s' if len(missing) > 1 else ''} {', '.join(missing)}.\n\n"
    return text


def place(folder: pathlib.Path) -> str:
    return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)


def figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def falls_after(attack: dict) -> str:
    if attack["nothing_to_learn"] == attack["seeds"]:
        return "nothing to learn"
    return figure(attack["collapse"]["median"], 0)


def certified(defense: dict) -> list[str]:
    bounds = {bound["temperature"]: bound for bound in defense.get("certificate", [])}
    return [f"{bounds[t]['p_mean']:.1e}, {bounds[t]['p_max']:.1e}" if t in bounds else "-" for t in (1.0, 1.5, 2.0)]


def comparison_section(folder: pathlib.Path) -> str:
    comparison = json.loads((folder / "comparison.json").read_text())
    defenses = []
    attacks = []
    for defense in comparison["defenses"]:
        before = defense["released"]
        defenses.append([defense["name"], figure(before["harm"], 1), figure(before["refusal_rate"], 2),
                         figure(before["over_refusal"], 3), figure(before["answer_perplexity"], 2), figure(before["kl"], 3),
                         *certified(defense), f"{defense['worst']['harm']:.1f} ({defense['worst']['attack']})"])
        for attack in defense["attacks"]:
            signals = f"{attack['differential_groups']} of {attack['groups']}" if attack["groups"] else "-"
            attacks.append([defense["name"], attack["name"], str(attack["seeds"]), str(attack["updates"]),
                            f"{attack['harm']:.1f} {between(attack['harm_ci'])}", falls_after(attack), signals,
                            figure(attack["success"], 2), figure(attack["kept_utility"], 2), figure(attack["product"], 2)])
    released = table(["defense", "harm before any attack", "refused", "over-refusal",
                      "perplexity of its benign answers", "KL", "p at T = 1: mean, largest", "… at T = 1.5", "… at T = 2",
                      "harm after its worst attack"], defenses)
    attacked = table(["defense", "attack", "seeds", "steps", "harm", "falls after", "signals", "success", "kept utility",
                      "product"], attacks)
    seeds = ", ".join(map(str, comparison["seeds"]))
    return (f"## Attacks compared: {folder.name}\n\nSeeds {seeds}; intervals over seeds ({place(folder)}). Signals: sampled "
            f"groups whose rewards differ, all that RL learns from; attacks of another kind sample them for the curve alone.\n\n{released}\n{attacked}\n")


def search_section(folder: pathlib.Path) -> str:
    found = json.loads((folder / "search.json").read_text())
    rows = [[each["trial"], each["attack"], ", ".join(f"{key} = {value}" for key, value in each["settings"].items()),
             str(each["steps"]), f"{each['harm']:.1f}", f"{each['success']:.2f}", f"{each['kept_utility']:.2f}",
             "yes" if each["counts"] else "no"] for each_round in found["rounds"] for each in each_round]
    worst = found["worst"]
    verdict = f"Worst case: {worst['trial']}, success {worst['success']:.2f}" if worst else "No trial kept enough utility"
    header = ["trial", "attack", "settings", "steps", "harm", "success", "kept utility", "counts"]
    return (f"## Search for the worst attacker: {folder.name}\n\n{verdict} (kept utility at least {found['min_kept_utility']}; seed "
            f"{found['seed']}; {place(folder)}).\n\n{table(header, rows)}\n")


def finetune_section(folder: pathlib.Path) -> str:
    models = json.loads((folder / "finetune.json").read_text())["models"]

    def percent(figures: dict, key: str) -> str:
        return f"{100 * figures[key]:.1f}% {between(figures[key + '_ci'], 100)}"

    rows = []
    for model in models:
        accuracy = model["accuracy"]
        gain = percent(model, "gain_on_first") if "gain_on_first" in model else "-"
        rows.append([model["label"], percent(accuracy[0], "acc"), percent(accuracy[-1], "acc"), f"{100 * model['accuracy_mean']:.1f}%", gain]
                    + [f"{model[when]['harm']:.1f} {between(model[when]['harm_ci'])}" for when in ("before", "after")]
                    + [f"{100 * model[when]['refusal_rate']:.1f}%" for when in ("before", "after")])
    header = ["model", "accuracy", "after", "mean over steps", "more than the first", "harm", "after", "refused", "after"]
    return (f"## Benign fine-tuning: {folder.name}\n\n{models[0]['max_steps']} steps of {models[0]['method']}, {models[0]['test_questions']} "
            f"test questions ({place(folder)}).\n\n{table(header, rows)}\n")


def choice_section(folder: pathlib.Path) -> str:
    rows = [[each["label"], str(each["questions"]), choices(each, "acc"), choices(each, "acc_norm")]
            for each in json.loads((folder / "multiple_choice.json").read_text())]
    return f"## Multiple choice: {folder.name}\n\n({place(folder)})\n\n{table(['model', 'questions', 'acc', 'acc_norm'], rows)}\n"


def calibration_section(results: pathlib.Path) -> str:
    # From the root, so that runs are named as in this repository.
    command = [str(BACKBURN), "report", "--calibration", str(results.relative_to(ROOT)), "--out", "/dev/null", "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
    rows = [[run["run"], run["stage"], run["attack"]] + (["", "", "", "", "outside"] if run["outside"] else
            [str(run["groups"]), f"{run['expected']:.3g}", str(run["with_differential"]), f"{run['p_value']:.3g}",
             "yes" if run["holds"] else "NO"]) for run in found["runs"]]
    text = ("## The certificate's forecast against what attacks saw\n\n"
            "`backburn report --calibration results`; one-sided exact tests at 99% ([certificate.md](certificate.md)).\n\n")
    text += table(["run", "stage", "attack", "groups", "expected", "seen", "p", "holds"], rows)
    if pooled := found["pooled"]:
        text += (f"\nPooled, {pooled['runs']} runs: {pooled['with_differential']} of {pooled['groups']} groups had a reward differential, "
                 f"at most {pooled['expected']:.3g} expected, p = {pooled['p_value']:.3g}: the bound {'holds' if pooled['holds'] else 'FAILS'}.\n")
    text += f"\nViolations: {', '.join(found['violations']) or 'none'}.\n\n"
    return text


def results_page(results: pathlib.Path) -> str:
    folders = sorted(path for path in results.iterdir() if path.is_dir())
    having = {name: [folder for folder in folders if (folder / name).exists()] for name in ("summary.json", *WANTED_TABLES)}
    text = ("# Results\n\nMade by `make results` from [results/](../results/README.md), which says which commit and machine each run had. "
            "Harm: the judge's mean score, 0–10, of sampled answers; 95% intervals in brackets (bootstrap over prompts; Wilson for "
            "shares).\n\n")
    text += demo_sections(having["summary.json"])
    text += "".join(comparison_section(folder) for folder in having["comparison.json"])
    text += "".join(search_section(folder) for folder in having["search.json"])
    text += "".join(choice_section(folder) for folder in folders if (folder / "multiple_choice.json").exists())
    text += "".join(finetune_section(folder) for folder in folders if (folder / "finetune.json").exists())
    text += calibration_section(results)
    missing = [sentence for name, sentence in WANTED_TABLES.items() if not having[name]]
    if missing:
        text += "## Not run yet\n\n" + "".join(f"- {sentence}\n" for sentence in missing)
    return text.rstrip("\n") + "\n"


# What a kept attack's table, curve and calibration need of a step.
KEPT_OF_A_STEP = ("stage", "step", "harm", "reward", "entropy", "completion_length", "groups", "differential_groups",
                  "group_prompts")


def keep_stages(run: pathlib.Path, target: pathlib.Path) -> None:
    (target / "stages").mkdir(parents=True, exist_ok=True)
    shutil.copy(run / "config.yaml", target / "config.yaml")
    for stage in sorted((run / "stages").glob("*.json")):
        result = json.loads(stage.read_text())
        if isinstance(result, dict):
            result.pop("examples", None)
        (target / "stages" / stage.name).write_text(json.dumps(result) + "\n")


def keep_cell(run: pathlib.Path, target: pathlib.Path) -> None:
    keep_stages(run, target)
    if not (run / "metrics.jsonl").exists():
        return
    with (target / "metrics.jsonl").open("w") as kept:
        for line in (run / "metrics.jsonl").read_text().splitlines():
            step = json.loads(line)
            kept.write(json.dumps({key: round(step[key], 4) if isinstance(step[key], float) else step[key]
                                   for key in KEPT_OF_A_STEP if key in step}) + "\n")


def keep(run: pathlib.Path, target: pathlib.Path) -> None:
    if (run / "comparison.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "comparison.json", target / "comparison.json")
        for stages in sorted(run.glob("**/stages")):
            if any(stages.glob("*.json")):
                keep_cell(stages.parent, target / stages.parent.relative_to(run))
        return
    keep_stages(run, target)
    shutil.copy(run / "metrics.jsonl", target / "metrics.jsonl")
    log = run.with_suffix(".log")
    (target / "summary.json").write_text(log.read_text().splitlines()[-1] + "\n")


def main() -> None:
    if sys.argv[1:2] == ["--keep"]:
        keep(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--write"]:
        pathlib.Path(sys.argv[2]).write_text(results_page(ROOT / "results"))
    else:
        print(demo_table([pathlib.Path(folder) for folder in sys.argv[1:]]), end="")


if __name__ == "__main__":
    main()
