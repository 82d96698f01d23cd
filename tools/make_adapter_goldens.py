#!/usr/bin/env python3
"""Makes the goldens of tests/model/adapter_test.cc from PEFT and Transformers, in f32, on tiny models that
make_model_goldens.py has made (tests/model/data/tiny_*).

    python tools/make_adapter_goldens.py

TINY/peft_rslora and TINY/peft_dora are adapters as PEFT saves them: rank-stabilised LoRA on three kinds of matrices, and DoRA
(rank-stabilised too) on all of them; TINY/peft_patterns and TINY/peft_patterns_rslora have ranks and alphas by name. Beside each, golden.json: the completions' log-probabilities, the loss of
make_model_goldens.py, the gradients of A, B and magnitude, and the merged weights. TINY/full.json: the gradients of all weights
without an adapter. Of each tensor the norm and 16 entries are kept: flat indices ⌊(k + ½) · size / 16⌋.
Packages: tools/requirements-reference.txt.
"""

import json
import shutil
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from make_model_goldens import DATA, completion_logprobs, rounded, versions, write  # noqa: E402

ADAPTED = {"tiny_llama": ["q_proj", "v_proj", "down_proj"], "tiny_qwen2": ["q_proj", "v_proj", "down_proj"],
           "tiny_gemma2": ["o_proj", "gate_proj"], "tiny_phi3": ["qkv_proj", "down_proj"]}
# rank_pattern and alpha_pattern: names, ends of names, expressions; of two keys that match the first counts; "proj" matches nothing.
PATTERNS = {"tiny_llama": ({"v_proj": 7, r"^model\.layers\.1\.self_attn\.q_proj": 2, "layers.0.mlp.(up|down)_proj": 1, "proj": 9},
                           {r"0\.self_attn\..*": 9, "q_proj": 3, "down_proj": 2.5, "v_pro": 50}),
            "tiny_phi3": ({r"1\.self_attn\.qkv_proj": 7, r".*\.0\..*": 3, "qkv_proj": 5}, {"mlp.down_proj": 11, "model.layers.1.*": 2})}
FULL = [*ADAPTED, "tiny_qwen3_moe"]


def load(name):
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(DATA / name, dtype="float32", attn_implementation="eager").eval()


def kept(name, tensor):
    flat = tensor.detach().flatten()
    at = [int((k + 0.5) * flat.numel() / 16) for k in range(16)]
    return {"name": name, "norm": rounded([flat.double().norm().item()])[0], "sampled": rounded(flat[at].tolist(), 6)}


def loss_of(model, pairs):
    logprobs = [completion_logprobs(model, pair["prompt"], pair["completion"]) for pair in pairs]
    loss = -sum(each.mean() for each in logprobs) / len(pairs)
    loss.backward()
    return {"loss": rounded([loss.item()], 9)[0],
            "pairs": [{"prompt": pair["prompt"], "completion": pair["completion"], "logprobs": rounded(each.tolist())}
                      for pair, each in zip(pairs, logprobs)]}


def adapter(name, pairs, variant, **options):
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(20240209)
    model = get_peft_model(load(name), LoraConfig(r=4, lora_alpha=6, lora_dropout=0.0, task_type="CAUSAL_LM",
                                                  **{"use_rslora": True, **options})).eval()
    trained = [(each, tensor) for each, tensor in model.named_parameters() if tensor.requires_grad]
    with torch.no_grad():
        for each, tensor in trained:
            if "lora_B" in each:
                tensor.copy_(torch.randn(tensor.shape) * 0.1)
            if "magnitude" in each:  # away from the norm of W, where it starts
                tensor.mul_(1 + 0.1 * torch.sin(torch.arange(len(tensor))))
    folder = DATA / name / f"peft_{variant}"
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = name  # not a path of this machine
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    golden = {**versions(), "made_by": "python tools/make_adapter_goldens.py", **loss_of(model, pairs)}
    golden["gradients"] = [kept(each.removeprefix("base_model.model.").replace(".default", "").removesuffix(".weight"), tensor.grad)
                           for each, tensor in trained]
    targets = {each.split(".lora_")[0].removeprefix("base_model.model.") for each, _ in trained}
    merged = model.merge_and_unload().state_dict()
    golden["merged"] = [kept(f"{each}.weight", merged[f"{each}.weight"]) for each in sorted(targets)]
    write(folder / "golden.json", golden)


def by_published_names(name, gradient):
    """Transformers 5 holds all experts of a layer in one tensor; files hold them one by one."""
    if ".experts." not in name:
        return [(name, gradient)]
    layer, kind = name.rsplit(".", 1)
    found = []
    for expert, each in enumerate(gradient):
        parts = each.chunk(2) if kind == "gate_up_proj" else [each]
        kinds = ["gate_proj", "up_proj"] if kind == "gate_up_proj" else ["down_proj"]
        found += [(f"{layer}.{expert}.{part}.weight", values) for part, values in zip(kinds, parts)]
    return found


def full(name, pairs):
    model = load(name)
    golden = {**versions(), "made_by": "python tools/make_adapter_goldens.py", **loss_of(model, pairs)}
    golden["gradients"] = [kept(*each) for parameter, tensor in model.named_parameters()
                           for each in by_published_names(parameter, tensor.grad)]
    write(DATA / name / "full.json", golden)


def main():
    for name in FULL:
        pairs = json.loads((DATA / name / "golden.json").read_text())["gradient"]["pairs"]
        full(name, pairs)
        if name in ADAPTED:
            adapter(name, pairs, "rslora", target_modules=ADAPTED[name])
            adapter(name, pairs, "dora", target_modules="all-linear", use_dora=True)
        if name in PATTERNS:
            ranks, alphas = PATTERNS[name]
            for variant, stabilised in (("patterns", False), ("patterns_rslora", True)):
                adapter(name, pairs, variant, target_modules="all-linear", use_rslora=stabilised, rank_pattern=ranks,
                        alpha_pattern=alphas)


if __name__ == "__main__":
    main()
