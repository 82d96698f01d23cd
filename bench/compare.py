#!/usr/bin/env python3
"""backburn beside TRL and llama.cpp, by turns in one run: what `make bench` calls.

    python3 bench/compare.py [--rounds 3] [--only REGEX [--write]] [--models smollm2-135m-instruct,qwen2.5-coder-0.5b]

Writes bench/results.json (a key a ratio, its median over the rounds; `rows` has every figure) and the table
between the bench marks of README.md; with --only and --write, what the other cases gave before stays. A round runs ours and theirs once after the other, each in a process of its own that
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

def grpo_flags(prompts, generations, length, repeats, full):
    return ["--prompts", prompts, "--num-generations", generations, "--max-completion-length", length,
            "--repeats", repeats] + (["--full-length"] if full else [])


def our_steps(model_folder, *flags):
    return last_json([BACKBURN, "bench", model_folder, "--measure", "grpo-step", "--json", *flags])


def their_steps(model_folder, *flags):
    return last_json([PYTHON, "bench/trl_step.py", model_folder, *flags])


def best_peak():
    """What the machine can do just now; before and after a case, for it swings."""
    return last_json([BACKBURN, "bench", "--measure", "machine", "--json"])


def grpo_round(prefix, suffix, model_folder, flags):
    """The step as a user gets it, and the update with a forward pass of its own, as TRL's has."""
    before = best_peak()
    ours = our_steps(model_folder, *flags)
    alone = our_steps(model_folder, *flags, "--kept-activations-gib", 0)
    peak = max(before["gemm_gflops"], best_peak()["gemm_gflops"])
    theirs = their_steps(model_folder, *flags)
    rows = {f"{prefix}grpo_step{suffix}_vs_trl": ("s", median(ours["steps"], "seconds"), median(theirs["steps"], "seconds")),
            f"{prefix}update{suffix}_vs_trl": ("s", median(alone["steps"], "update"), median(theirs["steps"], "update")),
            f"{prefix}memory{suffix}_vs_trl": ("GiB", ours["peak_rss_gib"], theirs["peak_rss_gib"])}
    if suffix == "":
        reached = max(step["update_gflop"] / step["update"] for step in alone["steps"])
        rows[f"{prefix}update_gemm_share"] = ("GFLOP/s", reached, peak)
    return rows


def scaling_round(model):
    """Time a token where one size grows and the others stay; the peer is ourselves at the smallest size."""
    long_prompts = PEERS / "long4.txt"
    short = (PROMPTS / "benign4.txt").read_text(encoding="utf-8").splitlines()
    long_prompts.write_text("\n".join(" ".join([line] * 8) for line in short) + "\n", encoding="utf-8")

    def time_a_token(prompts, generations, length):
        steps = our_steps(folder(model), *grpo_flags(prompts, generations, length, 2, True))["steps"]
        return statistics.median(1000 * step["seconds"] / (step["tokens"] + step["prompt_tokens"]) for step in steps)

    four, eight = PROMPTS / "benign4.txt", PROMPTS / "benign8.txt"
    base = time_a_token(four, 8, 48)
    return {"scaling_prompt_length": ("ms/token", time_a_token(long_prompts, 8, 48), base),
            "scaling_completion_length": ("ms/token", time_a_token(four, 8, 192), base),
            "scaling_group_size": ("ms/token", time_a_token(four, 32, 48), base),
            "scaling_batch": ("ms/token", time_a_token(eight, 8, 48), base)}


def defended_round(prefix, model_folder, repeats):
    flags = grpo_flags(PROMPTS / "restricted4.txt", 8, 48, repeats, False)
    ours, theirs = our_steps(model_folder, *flags), their_steps(model_folder, *flags)
    return {f"{prefix}defended_attack_vs_trl": ("s", median(ours["steps"], "seconds"), median(theirs["steps"], "seconds"))}


def llama_speeds(gguf, threads):
    """Generated tokens a second by rows; the prompt is shared and its time counts, as in ours."""
    out, _ = run([LLAMA / "llama-batched-bench", "-m", gguf, "-npp", 32, "-ntg", 48, "-npl", "1,8,32,64", "-pps", "-c", 8192,
                  "-b", 2048, "-ub", 512, "-t", threads, "--output-format", "jsonl"])
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return {line["pl"]: line["pl"] * line["tg"] / line["t"] for line in lines}


def rollout_round(model):
    peak = best_peak()
    theirs = llama_speeds(bf16_gguf(model), peak["threads"])
    rows = {}
    for count in (1, 8, 32, 64):
        ours = last_json([BACKBURN, "bench", folder(model), "--measure", "rollout", "--json", "--rows", count, "--full-length",
                          "--repeats", 3])
        speed = statistics.median(step["tokens"] / step["seconds"] for step in ours["steps"])
        rows[f"rollout{count}_vs_llamacpp"] = ("tokens/s", speed, theirs[count])
        if count == 1:
            limit = max(peak["read_gb_per_s"], best_peak()["read_gb_per_s"])
            reads = statistics.median((step["tokens"] - 1) / (step["seconds"] - step["prefill_seconds"]) for step in ours["steps"])
            rows["decode_bandwidth_share"] = ("GB/s", reads * ours["weight_gb"], limit)
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

LOWER_IS_BETTER = {"s", "GiB", "ms/token"}


def ratio(unit, ours, theirs):
    return theirs / ours if unit in LOWER_IS_BETTER else ours / theirs


def cases(models):
    short, long = (PROMPTS / "benign4.txt", 8, 48), (PROMPTS / "benign8.txt", 8, 128)
    if SMALL in models:
        yield "grpo", lambda: grpo_round("", "", folder(SMALL), grpo_flags(*short, 3, True))
        yield "rollout", lambda: rollout_round(SMALL)
        yield "defended", lambda: defended_round("", defended(SMALL), 5)
        yield "grpo-long", lambda: grpo_round("", "_8x8x128", folder(SMALL), grpo_flags(*long, 1, True))
        yield "startup", lambda: startup_round(SMALL)
        yield "tokenizer", lambda: tokenizer_round(SMALL, ROOT / "data/benign.jsonl")
        yield "scaling", lambda: scaling_round(SMALL)
    if VENDOR in models:
        yield "qwen-grpo", lambda: grpo_round("qwen_", "", folder(VENDOR), grpo_flags(*short, 1, True))
        yield "qwen-defended", lambda: defended_round("qwen_", defended(VENDOR), 2)


def measure(flags):
    peak = best_peak()
    rows = {}
    for number in range(flags.rounds):
        for name, one_round in cases(flags.models.split(",")):
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


WHAT = [("grpo_step", "GRPO step"), ("update", "update alone, its forward pass included"), ("memory", "peak memory"),
        ("defended_attack", "attack step on a defended model"), ("startup", "start to first token"),
        ("decode_bandwidth_share", "decoding one row: share of the memory's bandwidth"), ("tokenizer", "tokenizer")]
SCALING = {"scaling_prompt_length": "prompts 8 times as long", "scaling_completion_length": "192 tokens an answer instead of 48",
           "scaling_group_size": "32 answers a prompt instead of 8", "scaling_batch": "8 prompts instead of 4"}
PEER_NAMES = {"trl": "TRL", "llamacpp": "llama.cpp", "transformers": "Transformers", "face": "Hugging Face tokenizers"}


def title(key):
    model = "Qwen2.5-Coder-0.5B: " if key.startswith("qwen_") else ""
    key = key.removeprefix("qwen_")
    if match := re.match(r"rollout(\d+)_", key):
        return f"{model}rollout, {match[1]} row{'s' if match[1] != '1' else ''}"
    if key in SCALING:
        return f"GRPO step, time a token: {SCALING[key]}"
    if key == "update_gemm_share":
        return f"{model}update: share of the machine's bf16 products"
    what = next(text for start, text in WHAT if key.startswith(start))
    if not key.startswith(("grpo_step", "update", "memory")):
        return model + what
    return f"{model}{what}, {'8 × 8 × 128' if '8x8x128' in key else '4 × 8 × 48'} tokens"


def figure(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows, peak):
    lines = [f"`make bench` on {cpu_name()}, {peak['threads']} threads: bf16 products at {peak['gemm_gflops']:.0f} GFLOP/s, memory read at "
             f"{peak['read_gb_per_s']:.0f} GB/s. Medians of rounds by turns; LoRA r = 16, bf16.", "",
             "| | backburn | peer | ratio (min–max) | rounds |", "|---|---|---|---|---|"]
    for key, row in rows.items():
        peer = "backburn" if key in SCALING else PEER_NAMES.get(key.rsplit("_", 1)[-1], "this machine's limit")
        ours, theirs, middle = (statistics.median(row[side]) for side in ("ours", "theirs", "ratios"))
        lines.append(f"| {title(key)} | {figure(ours)} {row['unit']} | {peer}: {figure(theirs)} {row['unit']} | "
                     f"**{middle:.2f}** ({min(row['ratios']):.2f}–{max(row['ratios']):.2f}) | {len(row['ratios'])} |")
    return "\n".join(lines)


def write_readme(text):
    readme = ROOT / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = re.sub(r"(<!-- bench -->\n).*?(<!-- /bench -->)", lambda match: f"{match[1]}{text}\n{match[2]}", old, flags=re.S)
    readme.write_text(new, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name matches; written only with --write")
    parser.add_argument("--write", action="store_true", help="with --only: write, and keep the other cases of the last run")
    parser.add_argument("--models", default=f"{SMALL},{VENDOR}")
    flags = parser.parse_args()
    peak, rows = measure(flags)
    if flags.only and not flags.write:
        return
    if flags.only:
        rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] | rows
    medians = {key: statistics.median(row["ratios"]) for key, row in rows.items()}
    RESULTS.write_text(json.dumps({**medians, "machine": {"cpu": cpu_name(), **peak}, "rows": rows}, indent=1) + "\n")
    write_readme(table(rows, peak))


if __name__ == "__main__":
    main()
