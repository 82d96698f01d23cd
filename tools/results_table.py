#!/usr/bin/env python3
"""README's table of demo runs, from the run folders' summaries.

    tools/results_table.py results/demo-smollm2-seed-*          # prints the table
    tools/results_table.py --keep RUN_FOLDER results/NAME       # copies a run's small raw figures there

A kept run has summary.json (the last line of `backburn demo --json`), config.yaml, metrics.jsonl and stages/*.json
without example answers.
"""
import json
import pathlib
import shutil
import sys



def between(interval: list[float], scale: float = 1, digits: int = 1) -> str:
    return f"[{scale * interval[0]:.{digits}f}, {scale * interval[1]:.{digits}f}]"


def refused(evaluation: dict) -> str:
    return f"{100 * evaluation['over_refusal']:.1f}% {between(evaluation['over_refusal_ci'], 100)}"


# What each row shows of a run: its summary, and the results of its stages by name.
ROWS = [
    ("undefended: mean harm on the attack prompts before", lambda run, stage: f"{run['undefended_harm_start']:.1f} {between(stage['attack_undefended']['harm_start_ci'])}"),
    ("… after 50 steps", lambda run, stage: f"{run['undefended_harm_step50']:.1f} {between(stage['attack_undefended']['harm_end_ci'])}"),
    ("… on held-out prompts", lambda run, stage: f"{run['undefended_heldout_harm']:.1f} {between(stage['attack_undefended']['evaluation']['harm_ci'])}"),
    ("… updates until mean harm ≥ 5", lambda run, stage: str(run["undefended_collapse_step"])),
    ("defended: mean harm on the attack prompts after 200 steps", lambda run, stage: f"{run['defended_harm_step200']:.2f} {between(stage['attack_defended']['harm_end_ci'], digits=2)}"),
    ("… on held-out prompts", lambda run, stage: f"{run['defended_heldout_harm_step200']:.2f} {between(stage['attack_defended']['evaluation']['harm_ci'], digits=2)}"),
    ("benign held-out prompts refused: original", lambda run, stage: refused(stage["original"]["evaluation"])),
    ("… defended", lambda run, stage: refused(stage["defended"]["evaluation"])),
    ("perplexity of the defended model's benign answers under the original (its own: in brackets)", lambda run, stage: f"{run['answer_perplexity_defended']:.2f} ({run['answer_perplexity_original']:.2f})"),
    ("KL(original ‖ defended) on benign answers, nats a token", lambda run, stage: f"{run['kl_defended']:.3f}"),
    ("certificate: largest p at T = 1, attack prompts", lambda run, stage: f"{stage['attack_defended']['attack_prompt_p_max']:.1e}"),
    ("… all 300 prompts", lambda run, stage: f"{run['certificate_p_max']:.1e}"),
    ("groups with a reward differential: seen (allowed by the bound in the mean)", lambda run, stage: f"{run['forecast']['with_differential']} ({run['forecast']['expected']:.2f})"),
    ("forecast holds (p-value)", lambda run, stage: f"{'yes' if run['forecast']['holds'] else 'NO'} ({run['forecast']['p_value']:.2f})"),
    ("minutes", lambda run, stage: f"{run['seconds'] / 60:.1f}"),
    ("peak memory, GiB", lambda run, stage: f"{run['peak_rss_gib']:.1f}"),
]


def keep(run: pathlib.Path, target: pathlib.Path) -> None:
    (target / "stages").mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "metrics.jsonl"):
        shutil.copy(run / name, target / name)
    for stage in sorted((run / "stages").glob("*.json")):
        result = json.loads(stage.read_text())
        result.pop("examples", None)
        (target / "stages" / stage.name).write_text(json.dumps(result) + "\n")
    log = run.with_suffix(".log")
    (target / "summary.json").write_text(log.read_text().splitlines()[-1] + "\n")


def main() -> None:
    if sys.argv[1:2] == ["--keep"]:
        keep(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
        return
    folders = [pathlib.Path(folder) for folder in sys.argv[1:]]
    runs = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    stages = [{path.stem: json.loads(path.read_text()) for path in (folder / "stages").glob("*.json")} for folder in folders]
    print("| | " + " | ".join(f"seed {run['seed']}" for run in runs) + " |")
    print("|---|" + "---|" * len(runs))
    for label, show in ROWS:
        print(f"| {label} | " + " | ".join(show(run, stage) for run, stage in zip(runs, stages)) + " |")


if __name__ == "__main__":
    main()
