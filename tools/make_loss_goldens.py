#!/usr/bin/env python3
"""Makes tests/train/data/policy_loss.json: what TRL's own GRPOTrainer computes on fixed inputs.

    python tools/make_loss_goldens.py

Packages: tools/requirements-reference.txt. Loss and metrics come out of GRPOTrainer._compute_loss, run on a trainer
object without a model, whose _get_per_token_logps_and_entropies returns the given tensors. Advantages come out of the
statement of GRPOTrainer._generate_and_score_completions that computes them, taken from TRL's source and executed.
Inputs are f32 values; TRL runs in f64, so that the goldens carry no rounding of their own.
"""

import ast
import collections
import importlib.metadata
import inspect
import itertools
import json
import textwrap
import types
from pathlib import Path

import torch
from trl import GRPOTrainer
from trl.trainer import grpo_trainer

OUT = Path(__file__).resolve().parent.parent / "tests/train/data/policy_loss.json"
LENGTHS = [5, 3, 1, 7, 4, 6]
MAX_COMPLETION_LENGTH = 10
ADVANTAGES = [1.25, -0.75, 0.5, -1.5, 0.0, 0.875]
LOSS_TYPES = ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo"]


def f32(values):
    return torch.tensor(values, dtype=torch.float32).double()


def draws(seed, scale, centre):
    generator = torch.Generator().manual_seed(seed)
    return (centre + scale * torch.randn(sum(LENGTHS), generator=generator, dtype=torch.float64)).float().double()


def padded(flat):
    """[tokens] end to end → [answers, longest], and the mask. Padding holds a value that would show in a sum."""
    out = torch.full((len(LENGTHS), max(LENGTHS)), -3.0, dtype=torch.float64)
    mask = torch.zeros_like(out)
    begin = 0
    for row, length in enumerate(LENGTHS):
        out[row, :length] = flat[begin:begin + length]
        mask[row, :length] = 1
        begin += length
    return out, mask


def compute(case, logprobs, old, reference):
    trainer = object.__new__(GRPOTrainer)
    trainer.loss_type = case["loss_type"]
    trainer.importance_sampling_level = case["importance_sampling_level"]
    trainer.beta = case["beta"]
    trainer.epsilon_low = case["epsilon"]
    trainer.epsilon_high = case["epsilon_high"]
    trainer.max_completion_length = MAX_COMPLETION_LENGTH
    trainer.args = types.SimpleNamespace(delta=case["delta"] or None, use_bias_correction_kl=False, steps_per_generation=1,
                                         sapo_temperature_pos=1.0, sapo_temperature_neg=1.05)
    trainer.aux_loss_enabled = False
    trainer.top_entropy_quantile = 1.0
    trainer.off_policy_mask_threshold = None
    trainer.use_vllm = False
    trainer.vllm_importance_sampling_correction = False
    trainer._entropy_bonus_enabled = False
    trainer.current_gradient_accumulation_steps = 1
    trainer.model = types.SimpleNamespace(training=True)
    trainer.accelerator = types.SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    trainer._metrics = {"train": collections.defaultdict(list)}

    flat = logprobs.clone().requires_grad_(True)
    table, mask = padded(flat)
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (table, torch.zeros_like(table), None)
    ids = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    inputs = {"prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids, "completion_mask": mask,
              "advantages": f32(ADVANTAGES), "num_items_in_batch": mask.sum()}
    if case["old"] == "different":
        inputs["old_per_token_logps"] = padded(old)[0]
    if case["beta"]:
        inputs["ref_per_token_logps"] = padded(reference)[0]
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    found = {key: values[0] for key, values in trainer._metrics["train"].items()}
    result = {"loss": loss.item(), "gradient": flat.grad.tolist()}
    for ours, theirs in (("kl_mean", "kl"), ("clip_low_mean", "clip_ratio/low_mean"),
                         ("clip_high_mean", "clip_ratio/high_mean"), ("cispo_clip_ratio", "cispo_clip_ratio")):
        if theirs in found:
            result[ours] = found[theirs]
    return {**case, **result}


def advantages(rewards, num_generations, scale_rewards):
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(GRPOTrainer._generate_and_score_completions)))
    wanted = [node for node in ast.walk(ast.parse(source))
              if isinstance(node, ast.If) and "self.multi_objective_aggregation" in ast.unparse(node.test)]
    per_func = torch.tensor(rewards, dtype=torch.float64)[:, None]
    names = {**vars(grpo_trainer), "rewards_per_func": per_func, "num_generations": num_generations,
             "unscorable_mask": torch.isnan(per_func).all(dim=1), "device": "cpu",
             "self": types.SimpleNamespace(multi_objective_aggregation="sum_then_normalize", scale_rewards=scale_rewards,
                                           reward_weights=torch.ones(1, dtype=torch.float64))}
    exec(compile(ast.Module([wanted[0]], type_ignores=[]), "trl", "exec"), names)
    return names["advantages"].tolist()


def cases():
    plain = {"epsilon": 0.2, "epsilon_high": 0.2, "delta": 0.0}
    for loss_type, level, beta, old in itertools.product(LOSS_TYPES, ["token", "sequence"], [0.0, 0.04], ["equal", "different"]):
        bounds = {**plain, "epsilon_high": 1.5} if loss_type == "cispo" else plain
        yield {"loss_type": loss_type, "importance_sampling_level": level, "beta": beta, "old": old, **bounds}
    for loss_type, level in itertools.product(["grpo", "dapo"], ["token", "sequence"]):
        common = {"loss_type": loss_type, "importance_sampling_level": level, "beta": 0.04, "old": "different"}
        yield {**common, "epsilon": 0.2, "epsilon_high": 0.28, "delta": 0.0}
        yield {**common, "epsilon": 0.1, "epsilon_high": 0.3, "delta": 1.5}
        yield {**common, "epsilon": 0.003, "epsilon_high": 0.004, "delta": 0.0}  # GSPO's own range


def main():
    logprobs, old, reference = draws(1, 0.8, -1.6), None, draws(3, 0.3, 0.0)
    old = (logprobs + draws(2, 0.35, 0.0)).float().double()
    reference = (logprobs + reference).float().double()
    rewards = [0.0, 3.5, 9.0, 1.25, 2.0, 2.0, 2.0, 2.0, 10.0, 0.0, 0.0, 0.5]
    value = {
        "made_by": "python tools/make_loss_goldens.py",
        "versions": {name: importlib.metadata.version(name) for name in ("trl", "torch", "transformers")},
        "lengths": LENGTHS, "max_completion_length": MAX_COMPLETION_LENGTH, "advantages": ADVANTAGES,
        "logprobs": logprobs.tolist(), "old_logprobs": old.tolist(), "reference_logprobs": reference.tolist(),
        "cases": [compute(case, logprobs, old, reference) for case in cases()],
        "rewards": rewards,
        "group_advantages": [{"num_generations": n, "scale_rewards": scale, "advantages": advantages(rewards, n, scale)}
                             for n, scale in itertools.product([2, 4, 6], ["group", "batch", "none"])],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(value['cases'])} cases, {OUT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
