#!/usr/bin/env python3
"""Holds backburn's GGUF exports against those of llama.cpp's own converter and of its llama-quantize, and their greedy answers against
each other's and Transformers'.

    tools/check_converter.py [--build build/release] [--only NAME]     (`make exports` sets up all that it needs)

1. SmolLM2 and tiny random models of other families with its tokenizer (those whose converter takes a byte-level BPE) are exported as
   Hugging Face folders, and these turned into GGUF by llama.cpp's convert_hf_to_gguf.py and by backburn, in f32, f16 and bf16: the same
   metadata and the same tensors to the byte, but for the keys that DESCRIPTION and OURS_ALONE list and RoPE factors (1e-6); f16 of
   SmolLM2 alone. (Families with other tokenizers are compared by tests/model/gguf_model_test.cc, whose files the converter's classes
   wrote.) A model that the converter itself fails on is said to be not compared.
2. llama-quantize makes Q8_0 of our f32 file, of SmolLM2 also of our bf16 file: the tensors of our own q8_0 exports, to the byte.
3. SmolLM2's greedy answers: of our f32 file and the converter's in llama.cpp, of the folder in Transformers, of the file in backburn: the
   same tokens. In bf16 our file's and the converter's in llama.cpp are; where backburn's part from them, the token is shown, and the
   distance of the two logits there, which must lie within NEAR (tools/check_exports.py).

llama.cpp's source and programs: build/peers/llama.cpp (bench/setup.sh). Packages: tools/requirements-reference.txt.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from check_exports import (NEAR, REAL_MODEL, REAL_PROMPTS, ROOT, answer, backburn, greedy, import_llama_cpp,  # noqa: E402
                           open_in_llama_cpp, tie)
from gguf import GGUFReader  # noqa: E402

PEER = ROOT / "build/peers/llama.cpp"
TINY = {"tiny_llama": {}, "tiny_llama3": {}, "tiny_linear": {}, "tiny_qwen2": {}, "tiny_qwen3": {}, "tiny_olmo2": {}, "tiny_granite": {},
        "tiny_yarn": {}, "tiny_smollm3": {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}, "tiny_qwen3_moe": {},
        "tiny_mixtral": {"sliding_window": None}, "tiny_mistral": {"sliding_window": None}}
# What describes a file and no program computes with: who made it, from what, how large it is.
DESCRIPTION = ("general.name", "general.size_label", "general.basename", "general.finetune", "general.version", "general.license",
               "general.sampling.", "general.quantization_version", "general.alignment")
# Ends of keys that we write and the converter does not: of several stop tokens it names one, ours the second too (llama.cpp knows
# SmolLM2's by its text), and sizes that it leaves to llama.cpp's defaults for some families.
OURS_ALONE = ("tokenizer.ggml.eot_token_id", ".rope.dimension_count", ".vocab_size", ".attention.key_length", ".attention.value_length")
TOKENS = 64


def convert(folder, path, dtype):
    made = subprocess.run([sys.executable, PEER / "convert_hf_to_gguf.py", folder, "--outfile", path, "--outtype", dtype],
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PEER / "gguf-py"), "NO_LOCAL_GGUF": ""})
    if made.returncode != 0:
        raise RuntimeError(made.stderr.strip().splitlines()[-1][:160])


def metadata(reader):
    return {key: ([int(each) for each in field.types], field.contents()) for key, field in reader.fields.items()
            if not key.startswith("GGUF.")}


def tensors(reader):
    return {each.name: (each.tensor_type.name, [int(size) for size in each.shape], each.data.tobytes()) for each in reader.tensors}


def brief(value):
    text = repr(value[1]) if value else "missing"
    return text if len(text) < 60 else text[:57] + "…"


def different_keys(ours, theirs):
    """(those that count, those that only describe), as "key: ours / theirs"."""
    counted, described = [], []
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            alone = key.endswith(OURS_ALONE) and key not in theirs
            kind = described if alone or key.startswith(DESCRIPTION) else counted
            kind.append(f"{key}: {brief(ours.get(key))} / {brief(theirs.get(key))}")
    return counted, described


def different_tensors(ours, theirs):
    found = []
    for name in sorted({*ours, *theirs}):
        left, right = ours.get(name), theirs.get(name)
        if left == right:
            continue
        if left is None or right is None or left[:2] != right[:2]:
            found.append(f"{name}: {left and left[:2]} / {right and right[:2]}")
        elif name == "rope_freqs.weight":  # computed by each in f32
            if not np.allclose(np.frombuffer(left[2], "<f4"), np.frombuffer(right[2], "<f4"), rtol=1e-6, atol=0):
                found.append(f"{name}: more than 1e-6")
        else:
            count = int((np.frombuffer(left[2], np.uint8) != np.frombuffer(right[2], np.uint8)).sum())
            found.append(f"{name}: {count} of {len(left[2])} bytes")
    return found


def listed(found):
    return "; ".join(found[:6]) + (f"; … {len(found)} in all" if len(found) > 6 else "")


class Report:
    def __init__(self):
        self.bad = 0

    def add(self, name, what, wrong, good):
        self.bad += bool(wrong)
        print(f"{name:16} {what:28} {'DIFFERENT: ' + listed(wrong) if wrong else good}", flush=True)


def compare_files(report, name, folder, work, build, dtype):
    ours_path, theirs_path = work / f"{name}-{dtype}-ours.gguf", work / f"{name}-{dtype}-theirs.gguf"
    convert(folder, theirs_path, dtype)
    backburn(build, "export", folder, "--out", ours_path, "--dtype", dtype)
    ours, theirs = GGUFReader(ours_path), GGUFReader(theirs_path)
    keys, described = different_keys(metadata(ours), metadata(theirs))
    left, right = tensors(ours), tensors(theirs)
    order = [] if list(left) == list(right) else ["(order of tensors)"]
    report.add(name, f"{dtype}, the converter's", keys + different_tensors(left, right),
               f"{len(left)} tensors and {len(ours.fields) - 3} keys equal; beside them: {'; '.join([*described, *order])}")
    return ours_path, theirs_path


def compare_quantized(report, name, source, work, build, dtype):
    theirs, ours = work / f"{name}-{dtype}-quantized.gguf", work / f"{name}-{dtype}-q8_0.gguf"
    made = subprocess.run([PEER / "build/bin/llama-quantize", source, theirs, "Q8_0", "2"], capture_output=True, text=True)
    if made.returncode != 0:
        report.add(name, f"q8_0 of {dtype}, llama-quantize", [made.stderr.strip()[-160:]], "")
        return
    backburn(build, "export", source, "--out", ours, "--dtype", "q8_0")
    left, right = tensors(GGUFReader(ours)), tensors(GGUFReader(theirs))
    report.add(name, f"q8_0 of {dtype}, llama-quantize", different_tensors(left, right),
               f"{sum(each[0] == 'Q8_0' for each in left.values())} tensors in Q8_0, {len(left)} in all, equal to the byte")
    theirs.unlink()
    ours.unlink()


def parted(tokens, logits, ours, decode):
    for place, (row, left, right) in enumerate(zip(logits, tokens, ours)):
        if left != right:
            spread = float(row.max() - row.min())
            return (f"token {place + 1}: {decode(left)!r} {row[left]:.4f}, backburn {decode(right)!r} {row[right]:.4f}, "
                    f"{float(row[left] - row[right]) / spread:.1e} of the spread of {spread:.1f}")
    return "lengths"


def compare_answers(report, folder, files, build):
    import torch
    import transformers
    llama_cpp = import_llama_cpp()
    for dtype, (ours_path, theirs_path) in files.items():
        in_llama = {}
        for whose, path in (("ours", ours_path), ("theirs", theirs_path)):
            llama = open_in_llama_cpp(llama_cpp, path)
            in_llama[whose] = [answer(llama, prompt, TOKENS) for prompt in REAL_PROMPTS]
            questions = [llama.question_of(prompt) for prompt in REAL_PROMPTS]
            stops, decode = llama.stops, lambda token, llama=llama: llama.detokenize([token], special=True).decode(errors="replace")
        same = [prompt for prompt, left, right in zip(REAL_PROMPTS, in_llama["ours"], in_llama["theirs"]) if left[0] != right[0]]
        gap = max(float(np.abs(np.array(left[1]) - np.array(right[1])).max()) for left, right in zip(*in_llama.values())
                  if len(left[1]) == len(right[1]))
        report.add(REAL_MODEL[:16], f"{dtype} answers, both files", same,
                   f"{len(REAL_PROMPTS)} answers of up to {TOKENS} tokens equal in llama.cpp, logits within {gap:.1e}")
        ours = [json.loads(backburn(build, "generate", ours_path, "--prompt", prompt, "--max-completion-length", TOKENS, "--dtype",
                                    "float32", "--json"))["ids"] for prompt in REAL_PROMPTS]
        equal, worst, wrong = 0, 0.0, []
        for prompt, (tokens, logits), found in zip(REAL_PROMPTS, in_llama["ours"], ours):
            equal += tokens == found
            worst = max(worst, tie(tokens, logits, found))
            if tokens != found:
                print(f"{'':16} {dtype} {prompt!r}: {parted(tokens, logits, found, decode)}", flush=True)
        if worst > NEAR[dtype]:
            wrong.append(f"{worst:.1e} of the spread")
        others = f", the others up to a tie of {worst:.1e} of the spread" if worst else ""
        report.add(REAL_MODEL[:16], f"{dtype} answers, backburn", wrong, f"{equal} of {len(REAL_PROMPTS)} equal to llama.cpp's{others}")
        if dtype != "f32":
            continue
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="eager").eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        wrong = []
        with torch.no_grad():
            for prompt, question, found in zip(REAL_PROMPTS, questions, ours):
                text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
                ids = tokenizer(text, add_special_tokens=False).input_ids
                tokens = greedy(model, ids, TOKENS)
                end = next((i + 1 for i, token in enumerate(tokens) if token in stops), TOKENS)
                if ids != question:
                    wrong.append(f"{prompt!r}: the question's tokens")
                if tokens[:end] != found:
                    wrong.append(f"{prompt!r}")
        report.add(REAL_MODEL[:16], f"{dtype} answers, Transformers", wrong,
                   f"{len(REAL_PROMPTS)} answers equal to backburn's and llama.cpp's")


def tiny_folder(name, changes, tokenizer, folder):
    from make_model_goldens import TINY as MODELS, tiny_model
    kind, extra, rope = MODELS[name]
    vocabulary = len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"])
    with contextlib.redirect_stdout(sys.stderr):
        tiny_model(folder, kind, {**extra, "vocab_size": vocabulary, **changes}, rope)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / file, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--only", help="one model")
    options = parser.parse_args()
    import transformers
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    report = Report()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        real = work / REAL_MODEL
        backburn(options.build, "export", REAL_MODEL, "--out", real, "--dtype", "f32")
        if options.only in (None, REAL_MODEL):
            files = {}
            for dtype in ("f32", "f16", "bf16"):
                files[dtype] = compare_files(report, REAL_MODEL[:16], real, work, options.build, dtype)
                if dtype != "f16":
                    compare_quantized(report, REAL_MODEL[:16], files[dtype][0], work, options.build, dtype)
            del files["f16"]
            compare_answers(report, real, files, options.build)
            for path in work.glob("*.gguf"):
                path.unlink()
        for name, changes in TINY.items():
            if options.only not in (None, name):
                continue
            made, folder = work / f"{name}-made", work / name
            made.mkdir()
            tiny_folder(name, changes, real, made)
            backburn(options.build, "export", made, "--out", folder, "--dtype", "f32")
            for dtype in ("f32", "bf16"):
                try:
                    ours, _ = compare_files(report, name, folder, work, options.build, dtype)
                except RuntimeError as error:
                    # A family or tokenizer that this version of it does not know says nothing about our file.
                    report.add(name, f"{dtype}, the converter's", [], f"not compared, the converter fails: {error}")
                    continue
                if dtype == "f32":
                    compare_quantized(report, name, ours, work, options.build, dtype)
            shutil.rmtree(made)
    sys.exit(f"{report.bad} comparisons differ" if report.bad else 0)


if __name__ == "__main__":
    main()
