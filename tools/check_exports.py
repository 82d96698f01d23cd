#!/usr/bin/env python3
"""Opens in Transformers and PEFT what backburn writes: the Hugging Face folder and the adapter of every tiny model, of some of
them also an rsLoRA adapter over three kinds of layers and a DoRA adapter.

    tools/check_exports.py [BUILD_FOLDER]          (build/release)

tests/model/parity_test.cc and adapter_test.cc write them in f32. Each folder must load without a missing or unexpected tensor; its
logits, its greedy tokens, its tokenizer, and with each adapter under PEFT the log-probabilities must be those of the goldens, which
Transformers and PEFT made of the original (tools/make_model_goldens.py, tools/make_adapter_goldens.py). Packages: tools/requirements-reference.txt.
"""

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


def write_exports(build, folder):
    tests = "*Tiny.SavedAndLoadedAgainItIsTheSameModel*:*Tiny.AnAdapterSavedAndLoadedAgainIsTheSame*:"
    tests += "*PeftGolden.WhatPeftWroteIsWrittenAsPeftWroteIt*"
    subprocess.run([build / "tests/test_model", f"--gtest_filter={tests}", "--gtest_brief=1"], check=True,
                   env={**os.environ, "BACKBURN_KEEP_EXPORTS": str(folder)})


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
    for variant in ("rslora", "dora"):
        if (folder / f"adapter_{variant}").exists():
            adapters[f"adapter_{variant}"] = json.loads((DATA / folder.name / f"peft_{variant}/golden.json").read_text())
    for name, wanted in adapters.items():
        gap, unmatched = adapter_gap(model, folder / name, wanted["pairs"])
        columns.append(f"{name} {gap:.1e}")
        if gap > 1e-5 or unmatched:
            wrong.append(f"{name} {sorted(unmatched) or ''}")
    return columns, wrong


@torch.no_grad()
def main():
    import transformers
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    build = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release")
    bad = 0
    with tempfile.TemporaryDirectory() as temporary:
        write_exports(build, temporary)
        for folder in sorted(Path(temporary).iterdir()):
            columns, wrong = check(folder, json.loads((DATA / folder.name / "golden.json").read_text()))
            bad += bool(wrong)
            print(f"{folder.name:22} {', '.join(columns):36} {'WRONG: ' + '; '.join(wrong) if wrong else 'as the original'}", flush=True)
    sys.exit(f"{bad} exports differ" if bad else 0)


if __name__ == "__main__":
    main()
