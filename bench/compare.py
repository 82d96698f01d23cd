#!/usr/bin/env python3
"""backburn beside TRL and llama.cpp, by turns in one run: what `make bench` calls.

    python3 bench/compare.py [--rounds 3] [--only REGEX [--write]] [--models smollm2-135m-instruct,qwen2.5-coder-0.5b]

Writes bench/results.json (a key a ratio, its median over the rounds; `rows` has every figure) and the table
between the bench marks of README.md. A round runs ours and theirs once after the other, each in a process of its own that
warms up first, so a ratio's two halves saw the same machine. Peers: bench/setup.sh.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BACKBURN = ROOT / "build/release/backburn"
PEERS = ROOT / "build/peers"
LLAMA = PEERS / "llama.cpp/build/bin"
PYTHON = ROOT / ".venv-tools/bin/python"
PROMPTS = ROOT / "bench/prompts"
RESULTS = ROOT / "bench/results.json"
SMALL, VENDOR = "smollm2-135m-instruct", "qwen2.5-coder-0.5b"
DEFENSE = ["--set", "defend.rl_steps=0", "--set", "defend.sharpen_steps=12", "--set", "defend.learning_rate=7e-4",
           "--set", "data.anchor_prompts=64"]


def run(command):
    command = [str(part) for part in command]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                          env=os.environ | {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"})
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout, time.perf_counter() - begin


def last_json(command):
    return json.loads(run(command)[0].strip().splitlines()[-1])


def median(steps, key):
    return statistics.median(step[key] for step in steps)


# --- what the cases need on disk, made once ----------------------------------------------------------------------------------

def folder(model):
    """The model as a Hugging Face folder in bf16: what both sides load."""
    path = PEERS / model
    if not path.exists():
        run([BACKBURN, "export", model, "--out", path])
    return path


def bf16_gguf(model):
    path = PEERS / f"{model}-bf16.gguf"
    if not path.exists():
        cache = pathlib.Path(os.environ.get("BACKBURN_MODELS", pathlib.Path.home() / ".cache/backburn/models"))
        source = next(cache.glob(f"{model}*.gguf"))
        run([LLAMA / "llama-quantize", "--allow-requantize", source, f"{path}.part", "BF16"])
        os.replace(f"{path}.part", path)
    return path


def defended(model):
    """A model that refuses with one sentence, by a defense that is short but enough for uniform answers."""
    path = PEERS / f"{model}-defended"
    if not path.exists():
        work = PEERS / f"{model}-defend"
        run([BACKBURN, "defend", model, "--out", work, *DEFENSE])
        (work / "defended").rename(path)
        shutil.rmtree(work)
    return path


# --- cases: each gives ours and theirs of one round, and the figures that they hold ---------------------------------------------

def grpo(model_folder, prompts, length, repeats, full):
    flags = ["--prompts", PROMPTS / f"{prompts}.txt", "--num-generations", 8, "--max-completion-length", length,
             "--repeats", repeats] + (["--full-length"] if full else [])
    return ([BACKBURN, "bench", model_folder, "--measure", "grpo-step", "--json", *flags],
            [PYTHON, "bench/trl_step.py", model_folder, *flags])


def grpo_round(prefix, suffix, commands, peak):
    ours, theirs = (last_json(command) for command in commands)
    rows = {f"{prefix}grpo_step{suffix}_vs_trl": ("s", median(ours["steps"], "seconds"), median(theirs["steps"], "seconds")),
            f"{prefix}update{suffix}_vs_trl": ("s", median(ours["steps"], "update"), median(theirs["steps"], "update")),
            f"{prefix}memory{suffix}_vs_trl": ("GiB", ours["peak_rss_gib"], theirs["peak_rss_gib"])}
    if suffix == "":
        reached = max(step["update_gflop"] / step["update"] for step in ours["steps"])
        rows[f"{prefix}update_gemm_share"] = ("GFLOP/s", reached, peak["gemm_gflops"])
    return rows


def defended_round(prefix, commands):
    ours, theirs = (last_json(command) for command in commands)
    return {f"{prefix}defended_attack_vs_trl": ("s", median(ours["steps"], "seconds"), median(theirs["steps"], "seconds"))}


def llama_speeds(gguf, threads):
    """Generated tokens a second by rows; the prompt is shared and its time counts, as in ours."""
    out, _ = run([LLAMA / "llama-batched-bench", "-m", gguf, "-npp", 32, "-ntg", 48, "-npl", "1,8,32,64", "-pps", "-c", 8192,
                  "-b", 2048, "-ub", 512, "-t", threads, "--output-format", "jsonl"])
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {line["pl"]: line["pl"] * line["tg"] / line["t"] for line in lines}


def rollout_round(model, peak):
    theirs = llama_speeds(bf16_gguf(model), peak["threads"])
    rows = {}
    for count in (1, 8, 32, 64):
        ours = last_json([BACKBURN, "bench", folder(model), "--measure", "rollout", "--json", "--rows", count, "--full-length",
                          "--repeats", 3])
        speed = statistics.median(step["tokens"] / step["seconds"] for step in ours["steps"])
        rows[f"rollout{count}_vs_llamacpp"] = ("tokens/s", speed, theirs[count])
        if count == 1:
            rows["decode_bandwidth_share"] = ("GB/s", speed * ours["weight_gb"], peak["read_gb_per_s"])
    return rows


def tokenizer_round(model, text):
    ours = last_json([BACKBURN, "bench", folder(model), "--measure", "tokenizer", "--json", "--prompts", text])
    theirs = last_json([PYTHON, "bench/tokenizers_speed.py", folder(model), text])
    return {"tokenizer_vs_hugging_face": ("MB/s", *(max(step["mb"] / step["seconds"] for step in side["steps"])
                                                    for side in (ours, theirs)))}


def startup_round(model):
    """A whole process: from its start to the first token. Theirs loads the model with Transformers."""
    flags = ["--prompt", "Hi", "--max-completion-length", 1]
    _, ours = run([BACKBURN, "generate", folder(model), *flags])
    _, theirs = run([PYTHON, "bench/first_token.py", folder(model)])
    return {"startup_vs_transformers": ("s", ours, theirs)}


# --- the run ------------------------------------------------------------------------------------------------------------------

LOWER_IS_BETTER = {"s", "GiB"}


def ratio(unit, ours, theirs):
    return theirs / ours if unit in LOWER_IS_BETTER else ours / theirs


def cases(models, peak):
    if SMALL in models:
        yield "grpo", lambda: grpo_round("", "", grpo(folder(SMALL), "benign4", 48, 3, True), peak)
        yield "rollout", lambda: rollout_round(SMALL, peak)
        yield "defended", lambda: defended_round("", grpo(defended(SMALL), "restricted4", 48, 5, False))
        yield "grpo-long", lambda: grpo_round("", "_8x8x128", grpo(folder(SMALL), "benign8", 128, 1, True), peak)
        yield "startup", lambda: startup_round(SMALL)
        yield "tokenizer", lambda: tokenizer_round(SMALL, ROOT / "data/benign.jsonl")
    if VENDOR in models:
        yield "qwen-grpo", lambda: grpo_round("qwen_", "", grpo(folder(VENDOR), "benign4", 48, 1, True), peak)
        yield "qwen-defended", lambda: defended_round("qwen_", grpo(defended(VENDOR), "restricted4", 48, 2, False))


def measure(flags):
    peak = last_json([BACKBURN, "bench", "--measure", "machine", "--json"])
    rows = {}
    for number in range(flags.rounds):
        for name, one_round in cases(flags.models.split(","), peak):
            if not re.search(flags.only, name):
                continue
            for key, (unit, ours, theirs) in one_round().items():
                row = rows.setdefault(key, {"unit": unit, "ours": [], "theirs": [], "ratios": []})
                row["ours"].append(ours)
                row["theirs"].append(theirs)
                row["ratios"].append(ratio(unit, ours, theirs))
                print(f"round {number + 1}: {key}: ours {ours:.3g}, theirs {theirs:.3g} {unit}, ratio {row['ratios'][-1]:.2f}",
                      flush=True)
    return peak, rows


def cpu_name():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


WHAT = [("grpo_step", "GRPO step"), ("update", "update alone"), ("memory", "peak memory"),
        ("defended_attack", "attack step on a defended model"), ("startup", "start to first token"),
        ("decode_bandwidth_share", "decoding one row: share of the memory's bandwidth"), ("tokenizer", "tokenizer")]
PEER_NAMES = {"trl": "TRL", "llamacpp": "llama.cpp", "transformers": "Transformers", "face": "Hugging Face tokenizers"}


def title(key):
    model = "Qwen2.5-Coder-0.5B: " if key.startswith("qwen_") else ""
    key = key.removeprefix("qwen_")
    if match := re.match(r"rollout(\d+)_", key):
        return f"{model}rollout, {match[1]} row{'s' if match[1] != '1' else ''}"
    if key == "update_gemm_share":
        return f"{model}update: share of the machine's bf16 products"
    what = next(text for start, text in WHAT if key.startswith(start))
    if not key.startswith(("grpo_step", "update", "memory")):
        return model + what
    return f"{model}{what}, {'8 × 8 × 128' if '8x8x128' in key else '4 × 8 × 48'} tokens"


def figure(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows, peak):
    rounds = max(len(row["ratios"]) for row in rows.values())
    lines = [f"`make bench` on {cpu_name()}, {peak['threads']} threads: bf16 products at {peak['gemm_gflops']:.0f} GFLOP/s, memory read at "
             f"{peak['read_gb_per_s']:.0f} GB/s. Medians of {rounds} round{'s' if rounds > 1 else ''} by turns; LoRA r = 16, bf16.", "",
             "| | backburn | peer | ratio (min–max) |", "|---|---|---|---|"]
    for key, row in rows.items():
        peer = PEER_NAMES.get(key.rsplit("_", 1)[-1], "this machine's limit")
        ours, theirs, middle = (statistics.median(row[side]) for side in ("ours", "theirs", "ratios"))
        lines.append(f"| {title(key)} | {figure(ours)} {row['unit']} | {peer}: {figure(theirs)} {row['unit']} | "
                     f"**{middle:.2f}** ({min(row['ratios']):.2f}–{max(row['ratios']):.2f}) |")
    return "\n".join(lines)


def write_readme(text):
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = re.sub(r"(<!-- bench -->\n).*?(<!-- /bench -->)", lambda match: f"{match[1]}{text}\n{match[2]}", old, flags=re.S)
    readme.write_text(new, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name matches; nothing is written then, but for --write")
    parser.add_argument("--write", action="store_true", help="with --only: write, with these cases alone")
    parser.add_argument("--models", default=f"{SMALL},{VENDOR}")
    flags = parser.parse_args()
    peak, rows = measure(flags)
    if flags.only and not flags.write:
        return
    medians = {key: statistics.median(row["ratios"]) for key, row in rows.items()}
    RESULTS.write_text(json.dumps({**medians, "machine": {"cpu": cpu_name(), **peak}, "rows": rows}, indent=1) + "\n")
    write_readme(table(rows, peak))


if __name__ == "__main__":
    main()
