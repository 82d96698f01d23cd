#!/usr/bin/env python3
"""Opens in Transformers, PEFT and llama-cpp-python what backburn writes.

    tools/check_exports.py [--build build/release] [--only NAME] [--json FILE]     (`make exports` sets up all that it needs)

1. The Hugging Face folder and the adapter of every tiny model, of some of them also an rsLoRA adapter over three kinds of layers and a
   DoRA adapter, which tests/model/parity_test.cc and adapter_test.cc write in f32. Each folder must load without a missing or
   unexpected tensor; its logits, its greedy tokens, its tokenizer, and with each adapter under PEFT the log-probabilities must be those
   of the goldens, which Transformers and PEFT made of the original (tools/make_model_goldens.py, tools/make_adapter_goldens.py).
2. GGUF files of the tiny models in tests/model/data/gguf and of SmolLM2, in f32 (tiny models), bf16 and q8_0. llama-cpp-python must
   load each, put a question into its template and answer it greedily with the tokens of `backburn generate`.
   llama.cpp rounds what it multiplies with bf16 and q8_0 matrices to the same type, backburn in f32 does not: where such an answer
   differs, the first token that does must be a tie within that rounding (NEAR of the spread of llama.cpp's logits).

Packages: tools/requirements-reference.txt; llama-cpp-python as bench/setup.sh installs it.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/model/data"
LLAMA_LIBRARIES = ROOT / "build/peers/llama.cpp/build/bin"
REAL_MODEL = "smollm2-135m-instruct"
REAL_PROMPTS = ["What is the capital of France?", "Explain how a bicycle stays upright.", "Write a short poem about the sea.",
                "List three uses for baking soda."]
TINY_PROMPTS = ["ABBAHiQ", "HiZEBRA"]
# Of the logits' spread. q8_0 moved the first logits of SmolLM2 by up to 0.033 of it, and the lead of one over another may move by
# twice as much.
NEAR = {"f32": 0, "bf16": 0.02, "q8_0": 0.06}
# What llama.cpp leaves out: it computes Phi-3 without its window.
OTHERWISE_IN_LLAMA_CPP = {"phi3"}


def write_exports(build, folder):
    tests = "*Tiny.SavedAndLoadedAgainItIsTheSameModel*:*Tiny.AnAdapterSavedAndLoadedAgainIsTheSame*:"
    tests += "*PeftGolden.WhatPeftWroteIsWrittenAsPeftWroteIt*:*PeftPatterns.*"
    subprocess.run([build / "tests/test_model", f"--gtest_filter={tests}", "--gtest_brief=1"], check=True,
                   stdout=sys.stderr, env={**os.environ, "BACKBURN_KEEP_EXPORTS": str(folder)})


def greedy(model, ids, count):
    output, cache, state = [], None, torch.tensor([ids])
    for _ in range(count):
        step = model(state, past_key_values=cache, use_cache=True)
        cache, state = step.past_key_values, step.logits[:, -1:].argmax(-1)
        output.append(int(state))
    return output


def adapter_gap(model, folder, pairs):
    """The largest distance from the pairs' log-probabilities, and the adapter's tensors that the file lacks or PEFT does not know."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open
    adapted = PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        names = set(file.keys())
    # PEFT joins those of experts.
    unmatched = set() if any(".experts." in name for name in names) else names ^ set(get_peft_model_state_dict(adapted))
    worst = 0.0
    for pair in pairs:
        prompt, completion = pair["prompt"], pair["completion"]
        logits = adapted(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1:-1]
        logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None])[:, 0]
        worst = max(worst, (logprobs - torch.tensor(pair["logprobs"])).abs().max().item())
    return worst, unmatched


def check(folder, golden):
    """What was found, as columns; an exception where something does not load."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model, loading = AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32", attn_implementation="eager",
                                                          output_loading_info=True)
    model.eval()
    wrong = [f"{kind}: {sorted(loading[kind])}" for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if loading[kind]]
    sequence = golden["sequence"]
    gap = (model(torch.tensor([sequence])).logits[0] - torch.tensor(golden["logits"])).abs().max().item()
    if gap > 1e-5:
        wrong.append("logits")
    if greedy(model, sequence[:8], len(golden["greedy"])) != golden["greedy"]:
        wrong.append("greedy tokens")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    if tokenizer("ABBA", add_special_tokens=False).input_ids != [3, 4, 4, 3] or tokenizer.decode([3, 4, 4, 3]) != "ABBA":
        wrong.append("tokenizer")
    columns = [f"logits {gap:.1e}"]
    adapters = {"adapter": golden["gradient"]} if "gradient" in golden else {}
    for variant in ("rslora", "dora", "patterns", "patterns_rslora"):
        if (folder / f"adapter_{variant}").exists():
            adapters[f"adapter_{variant}"] = json.loads((DATA / folder.name / f"peft_{variant}/golden.json").read_text())
    for name, wanted in adapters.items():
        gap, unmatched = adapter_gap(model, folder / name, wanted["pairs"])
        columns.append(f"{name} {gap:.1e}")
        if gap > 1e-5 or unmatched:
            wrong.append(f"{name} {sorted(unmatched) or ''}")
    return columns, wrong


# --- GGUF -----------------------------------------------------------------------------------------------------------

def import_llama_cpp():
    os.environ["LLAMA_CPP_LIB_PATH"] = str(LLAMA_LIBRARIES)
    import ctypes
    import llama_cpp
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.kept_alive = silent
    return llama_cpp


def backburn(build, *arguments):
    return subprocess.run([build / "backburn", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def answer(llama, prompt, count):
    """llama.cpp's greedy answer: its tokens, a stop included, and for each the logits that it was taken from."""
    llama.reset()
    llama.eval(llama.question_of(prompt))
    tokens, logits = [], []
    while len(tokens) < count:
        row = llama.scores[llama.n_tokens - 1].copy()
        tokens.append(int(row.argmax()))
        logits.append(row)
        if tokens[-1] in llama.stops:
            break
        llama.eval(tokens[-1:])
    return tokens, logits


def tie(tokens, logits, ours):
    """How far, where the answers part, our token is behind llama.cpp's, as a share of its logits' spread."""
    for row, left, right in zip(logits, tokens, ours):
        if left != right:
            return float((row[left] - row[right]) / (row.max() - row.min()))
    return 0.0 if len(tokens) == len(ours) else 1.0


def open_in_llama_cpp(llama_cpp, path):
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter
    llama = llama_cpp.Llama(str(path), n_ctx=256, type_k=0, type_v=0, flash_attn=False, logits_all=True, verbose=False, n_threads=2)
    special = {name: llama.detokenize([token], special=True).decode() if token >= 0 else ""
               for name, token in (("bos_token", llama.token_bos()), ("eos_token", llama.token_eos()))}
    formatter = Jinja2ChatFormatter(llama.metadata["tokenizer.chat_template"], **special)
    vocabulary = llama_cpp.llama_model_get_vocab(llama.model)
    llama.stops = {token for token in range(llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, token)}
    llama.question_of = lambda prompt: llama.tokenize(
        formatter(messages=[{"role": "user", "content": prompt}]).prompt.encode(), add_bos=False, special=True)
    return llama


def check_gguf(llama_cpp, build, source, dtype, prompts, count, folder):
    path = folder / "exported.gguf"
    if isinstance(source, Path):  # llama.cpp expects Phi-3's own tokens where a model is named so
        (folder / "tiny.gguf").unlink(missing_ok=True)
        (folder / "tiny.gguf").symlink_to(source)
        source = folder / "tiny.gguf"
    backburn(build, "export", source, "--out", path, "--dtype", dtype)
    llama = open_in_llama_cpp(llama_cpp, path)
    equal, worst = 0, 0.0
    for prompt in prompts:
        ours = json.loads(backburn(build, "generate", path, "--prompt", prompt, "--max-completion-length", count, "--dtype",
                                   "float32", "--json"))["ids"]
        tokens, logits = answer(llama, prompt, count)
        equal += tokens == ours
        worst = max(worst, tie(tokens, logits, ours))
    columns = [f"{dtype} {equal} of {len(prompts)} answers equal" + (f", the others tie within {worst:.1e}" if worst else "")]
    path.unlink()
    return columns, [f"{dtype} answer"] if worst > NEAR[dtype] else []


def gguf_exports(build, only):
    """(name, architecture, columns, wrong) of each model."""
    llama_cpp = import_llama_cpp()
    tiny = [(path.stem, json.loads(path.read_text())["model_type"], path.with_suffix(".gguf"), ("f32", "bf16", "q8_0"),
             TINY_PROMPTS, 16) for path in sorted((DATA / "gguf").glob("*.json"))]
    real = (REAL_MODEL, "llama", REAL_MODEL, ("bf16", "q8_0"), REAL_PROMPTS, 64)
    with tempfile.TemporaryDirectory() as temporary:
        for name, architecture, source, dtypes, prompts, count in [*tiny, real]:
            if only not in (None, name):
                continue
            columns, wrong = [], []
            for dtype in dtypes:
                found, bad = check_gguf(llama_cpp, build, source, dtype, prompts, count, Path(temporary))
                columns += found
                wrong += bad
            if name in OTHERWISE_IN_LLAMA_CPP:
                columns.append("loads; llama.cpp leaves out its window")
                wrong = []
            yield name, architecture, columns, wrong


def exports(build, only=None):
    """[{"name", "architecture", "in", "columns", "wrong"}]: "in" is Transformers and PEFT, or llama-cpp-python."""
    import transformers
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        write_exports(build, temporary)
        for folder in sorted(Path(temporary).iterdir()):
            if only not in (None, folder.name):
                continue
            columns, wrong = check(folder, json.loads((DATA / folder.name / "golden.json").read_text()))
            architecture = json.loads((folder / "model/config.json").read_text())["model_type"]
            yield {"name": folder.name, "architecture": architecture, "in": "Transformers", "columns": columns, "wrong": wrong}
    for name, architecture, columns, wrong in gguf_exports(build, only):
        yield {"name": name, "architecture": architecture, "in": "llama-cpp-python", "columns": columns, "wrong": wrong}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--only", help="one model")
    parser.add_argument("--json", type=Path, help="what was found, for tools/parity_table.py")
    options = parser.parse_args()
    found = []
    for each in exports(options.build, options.only):
        found.append(each)
        verdict = "WRONG: " + "; ".join(each["wrong"]) if each["wrong"] else "as the original"
        print(f"{each['name']:22} {each['in']:16} {verdict}: {'; '.join(each['columns'])}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    bad = sum(bool(each["wrong"]) for each in found)
    sys.exit(f"{bad} exports differ" if bad else 0)


if __name__ == "__main__":
    main()
