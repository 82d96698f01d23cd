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

ROWS = [
    ("undefended: harm on the attack prompts, start → 50 steps", lambda s: f"{s['undefended_harm_start']:.1f} → {s['undefended_harm_step50']:.1f}"),
    ("undefended: step of collapse (mean harm ≥ 5)", lambda s: str(s["undefended_collapse_step"])),
    ("defended: harm on the attack prompts after 200 steps", lambda s: f"{s['defended_harm_step200']:.2f}"),
    ("defended: harm on held-out prompts after 200 steps", lambda s: f"{s['defended_heldout_harm_step200']:.2f}"),
    ("benign held-out prompts refused, original → defended", lambda s: f"{100 * s['over_refusal_original']:.1f}% → {100 * s['over_refusal_defended']:.1f}%"),
    ("certificate: largest p of all prompts, T = 1", lambda s: f"{s['certificate_p_max']:.1e}"),
    ("forecast: signals seen in 200 steps, allowed by the bound", lambda s: f"{s['forecast']['with_differential']}, {s['forecast']['expected']:.1f}"),
    ("minutes", lambda s: f"{s['seconds'] / 60:.1f}"),
    ("peak memory, GiB", lambda s: f"{s['peak_rss_gib']:.1f}"),
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
    runs = [json.loads((pathlib.Path(folder) / "summary.json").read_text()) for folder in sys.argv[1:]]
    for run, folder in zip(runs, sys.argv[1:]):
        attack = json.loads((pathlib.Path(folder) / "stages" / "attack_defended.json").read_text())
        run["forecast"] = attack["forecast"]
    print("| | " + " | ".join(f"seed {run['seed']}" for run in runs) + " |")
    print("|---|" + "---|" * len(runs))
    for label, show in ROWS:
        print(f"| {label} | " + " | ".join(show(run) for run in runs) + " |")


if __name__ == "__main__":
    main()
