#!/usr/bin/env python3
"""Makes tests/train/data/policy_loss.json: what TRL's own trainers compute on fixed inputs.

    python tools/make_loss_goldens.py

Packages: tools/requirements-reference.txt. Loss and metrics come out of the trainers' _compute_loss (GRPOTrainer,
RLOOTrainer, DPOTrainer), run on a trainer object without a model, whose log-probabilities and entropies are the given
tensors. Advantages come out of the statements of _generate_and_score_completions that compute them, taken from TRL's
source and executed. What TRL hasn't (or has no more) is written out here in PyTorch, with its source: the KL estimators
k1 and k2, REINFORCE++, GAE and PPO's critic. Inputs are f32 values; all runs in f64, so that the goldens carry no rounding of their own.
"""

import ast
import collections
import importlib.metadata
import inspect
import itertools
import json
import math
import textwrap
import types
from pathlib import Path

import torch
from trl import DPOTrainer, GRPOTrainer, RLOOTrainer
from trl.rewards import get_soft_overlong_punishment
from trl.trainer import grpo_trainer, rloo_trainer

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


def without_model(trainer):
    """What a trainer's _compute_loss asks for beside its options."""
    trainer.current_gradient_accumulation_steps = 1
    trainer.model = types.SimpleNamespace(training=True)
    trainer.accelerator = types.SimpleNamespace(num_processes=1, device="cpu", gather=lambda x: x, reduce=lambda x, reduction: x,
                                                gather_for_metrics=lambda x: x, sync_gradients=True)
    trainer._metrics = {"train": collections.defaultdict(list)}


def importance_ratio(case, old, sampling):
    """What GRPOTrainer makes of vLLM's log-probabilities, [answers, longest]: its own statements, executed."""
    def wanted(tree):
        return [node for node in ast.walk(tree) if isinstance(node, ast.If)
                and ast.unparse(node.test) == "self.use_vllm and self.vllm_importance_sampling_correction"
                and "vllm_importance_sampling_ratio = torch.exp" in ast.unparse(node)][:1]

    table, mask = padded(old)
    names = {"torch": torch, "math": math, "old_per_token_logps": table, "sampling_per_token_logps": padded(sampling)[0],
             "completion_mask": mask, "tool_mask": None,
             "self": types.SimpleNamespace(use_vllm=True, vllm_importance_sampling_correction=True,
                                           vllm_importance_sampling_mode=case["importance_sampling_mode"],
                                           vllm_importance_sampling_clip_min=case["importance_sampling_clip_min"] or None,
                                           vllm_importance_sampling_clip_max=case["importance_sampling_clip_max"])}
    exec(statements(GRPOTrainer, wanted), names)
    ratio = names["vllm_importance_sampling_ratio"].expand_as(mask)
    return ratio, ((ratio * mask).sum() / mask.sum()).item()


def compute(case, logprobs, old, reference, entropies, sampling=None):
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
    trainer.entropy_coef = case.get("entropy_coef", 0.0)
    trainer.use_adaptive_entropy = False
    trainer._entropy_bonus_enabled = trainer.entropy_coef != 0
    without_model(trainer)

    flat, flat_entropies = logprobs.clone().requires_grad_(True), entropies.clone().requires_grad_(True)
    table, mask = padded(flat)
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (table, padded(flat_entropies)[0], None)
    ids = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    inputs = {"prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids, "completion_mask": mask,
              "advantages": f32(ADVANTAGES), "num_items_in_batch": mask.sum()}
    if case["old"] == "different":
        inputs["old_per_token_logps"] = padded(old)[0]
    if case["beta"]:
        inputs["ref_per_token_logps"] = padded(reference)[0]
    corrections = {}
    if sampling is not None:
        trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
        inputs["importance_sampling_ratio"], corrections["importance_mean"] = importance_ratio(
            case, old if case["old"] == "different" else logprobs, sampling)
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    found = {key: values[0] for key, values in trainer._metrics["train"].items()}
    result = {"loss": loss.item(), "gradient": flat.grad.tolist(), **corrections}
    if flat_entropies.grad is not None:
        result["entropy_gradient"] = flat_entropies.grad.tolist()
    for ours, theirs in (("kl_mean", "kl"), ("clip_low_mean", "clip_ratio/low_mean"),
                         ("clip_high_mean", "clip_ratio/high_mean"), ("cispo_clip_ratio", "cispo_clip_ratio")):
        if theirs in found:
            result[ours] = found[theirs]
    return {**case, **result}


def rloo(case, logprobs, old):
    """RLOOTrainer's loss, whose ratio is that of whole answers."""
    trainer = object.__new__(RLOOTrainer)
    trainer.epsilon_low, trainer.epsilon_high = case["epsilon"], case["epsilon_high"]
    trainer.aux_loss_enabled = False
    without_model(trainer)
    flat = logprobs.clone().requires_grad_(True)
    table, mask = padded(flat)
    trainer._get_per_token_logps_and_entropies = lambda *args, **kwargs: (table, torch.zeros_like(table), None)
    ids = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    before = logprobs if case["old"] == "equal" else old
    loss = trainer._compute_loss(trainer.model, {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids, "completion_mask": mask,
        "advantages": f32(ADVANTAGES), "old_logps": (padded(before)[0] * mask).sum(1)})
    loss.backward()
    found = trainer._metrics["train"]
    return {**case, "loss": loss.item(), "gradient": flat.grad.tolist(), "clip_low_mean": found["clip_ratio/low_mean"][0],
            "clip_high_mean": found["clip_ratio/high_mean"][0]}


def kl_estimates(logprobs, reference):
    """Per token, k1 and k2 of Schulman 2020 (joschu.net/blog/kl-approx.html) as a loss: mean over tokens, beta 1."""
    results = []
    for name, estimate in (("k1", lambda gap: -gap), ("k2", lambda gap: gap**2 / 2)):
        flat = logprobs.clone().requires_grad_(True)
        loss = estimate(reference - flat).mean()
        loss.backward()
        results.append({"kl_estimator": name, "loss": loss.item(), "gradient": flat.grad.tolist()})
    return results


def dpo(beta, chosen, rejected, reference_chosen, reference_rejected):
    """DPOTrainer's loss on answers of one token, whose log-probabilities are the given numbers."""
    trainer = object.__new__(DPOTrainer)
    trainer.aux_loss_enabled = False
    trainer.ld_alpha = None
    trainer.precompute_ref_logps = True
    trainer.f_divergence_type = "reverse_kl"
    trainer.loss_types, trainer.loss_weights = ["sigmoid"], [1.0]
    trainer.beta, trainer.label_smoothing = beta, 0.0
    trainer.use_weighting = False
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    without_model(trainer)
    flat = torch.cat([chosen, rejected]).clone().requires_grad_(True)
    rows = len(flat)
    ids = torch.zeros(rows, 2, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": ids + 1, "completion_mask": torch.tensor([[0, 1]] * rows),
              "ref_chosen_logps": reference_chosen, "ref_rejected_logps": reference_rejected}

    class Model:
        training = True

        def __call__(self, **kwargs):
            nothing = torch.zeros(rows, 1)
            return types.SimpleNamespace(log_probs=flat[:, None], entropy=nothing, mean_logits=nothing, is_top1=nothing > 0)

    trainer.model = Model()
    loss = trainer._compute_loss(trainer.model, inputs, return_outputs=False)
    loss.backward()
    return {"beta": beta, "loss": loss.item(), "slopes": flat.grad[:len(chosen)].tolist(),
            "accuracy": trainer._metrics["train"]["rewards/accuracies"][0]}


def reinforce_plus_plus(rewards, lengths, num_generations, baseline):
    """REINFORCE++ (Hu 2025, arXiv 2501.03262; its authors' OpenRLHF and verl's core_algos whiten so): each
    token has its answer's reward (gamma 1), and advantages are whitened over all tokens of the batch."""
    reward = torch.tensor(rewards, dtype=torch.float64)
    if baseline:
        reward = reward - reward.view(-1, num_generations).mean(1).repeat_interleave(num_generations)
    tokens = reward.repeat_interleave(torch.tensor(lengths))
    white = (tokens - tokens.mean()) * torch.rsqrt(tokens.var(unbiased=True) + 1e-8)
    ends = torch.tensor(lengths).cumsum(0) - 1
    return white[ends].tolist()


def ppo(rewards, values, now, lengths, gamma, lam, cliprange_value):
    """GAE and the critic's loss as TRL 0.9's PPOTrainer had them, padded batch and all (arXiv 1506.02438, 1707.06347);
    the loss is summed over tokens, not yet divided by their number."""
    rows, longest = len(lengths), max(lengths)
    table, mask = torch.zeros(rows, longest, dtype=torch.float64), torch.zeros(rows, longest, dtype=torch.float64)
    per_token = torch.zeros_like(table)
    for row, (length, part) in enumerate(zip(lengths, values.split(lengths))):
        table[row, :length], mask[row, :length], per_token[row, length - 1] = part, 1, rewards[row]
    last, reverse = 0, []
    for t in reversed(range(longest)):
        following = table[:, t + 1] if t < longest - 1 else 0.0
        delta = per_token[:, t] + gamma * following - table[:, t]
        last = delta + gamma * lam * last
        last = last * mask[:, t]
        reverse.append(last)
    advantages = torch.stack(reverse[::-1], axis=1)
    returns = advantages + table
    inside = mask.bool()
    flat = advantages[inside]
    white = (flat - flat.mean()) * torch.rsqrt(flat.var(unbiased=True) + 1e-8)
    now = now.clone().requires_grad_(True)
    clipped = torch.clamp(now, values - cliprange_value, values + cliprange_value)
    loss = 0.5 * torch.max(torch.square(now - returns[inside]), torch.square(clipped - returns[inside])).sum()
    loss.backward()
    return {"gamma": gamma, "lam": lam, "cliprange_value": cliprange_value, "advantages": flat.tolist(),
            "whitened": white.tolist(), "returns": returns[inside].tolist(), "loss": loss.item(),
            "gradient": now.grad.tolist()}


def statements(trainer, wanted):
    """The statements of a trainer's _generate_and_score_completions that `wanted` picks, ready to run."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(trainer._generate_and_score_completions)))
    return compile(ast.Module(wanted(ast.parse(source)), type_ignores=[]), "trl", "exec")


def advantages(rewards, num_generations, scale_rewards, weights=None):
    def wanted(tree):
        return [node for node in ast.walk(tree)
                if isinstance(node, ast.If) and "self.multi_objective_aggregation" in ast.unparse(node.test)][:1]

    per_func = torch.tensor(rewards, dtype=torch.float64)
    if weights is None:
        per_func, weights = per_func[:, None], [1.0]
    names = {**vars(grpo_trainer), "rewards_per_func": per_func, "num_generations": num_generations,
             "unscorable_mask": torch.isnan(per_func).all(dim=1), "device": "cpu",
             "self": types.SimpleNamespace(multi_objective_aggregation="sum_then_normalize", scale_rewards=scale_rewards,
                                           reward_weights=torch.tensor(weights, dtype=torch.float64))}
    exec(statements(GRPOTrainer, wanted), names)
    return names["advantages"].tolist()


def leave_one_out(rewards, num_generations, normalize):
    def wanted(tree):
        body = tree.body[0].body
        texts = [ast.unparse(node) for node in body]
        first = next(i for i, text in enumerate(texts) if text.startswith("grouped_rewards ="))
        last = next(i for i, text in enumerate(texts) if text.startswith("advantages = torch.nan_to_num"))
        return body[first:last + 1]

    names = {**vars(rloo_trainer), "rewards": torch.tensor(rewards, dtype=torch.float64),
             "num_generations": num_generations, "self": types.SimpleNamespace(normalize_advantages=normalize)}
    exec(statements(RLOOTrainer, wanted), names)
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
    for loss_type in ["grpo", "dr_grpo", "dapo"]:
        yield {"loss_type": loss_type, "importance_sampling_level": "token", "beta": 0.0, "old": "different",
               "entropy_coef": 0.3, **plain}


def importance_cases():
    plain = {"epsilon": 0.2, "epsilon_high": 0.2, "delta": 0.0, "importance_sampling_level": "token"}
    bounds = [(0.0, 3.0), (0.8, 1.2)]
    modes = ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
    for loss_type, mode, (low, high), old in itertools.product(["grpo", "dapo"], modes, bounds, ["equal", "different"]):
        yield {**plain, "loss_type": loss_type, "beta": 0.04, "old": old, "importance_sampling_mode": mode,
               "importance_sampling_clip_min": low, "importance_sampling_clip_max": high}


def rloo_cases():
    for old, (low, high) in itertools.product(["equal", "different"], [(0.2, 0.2), (0.5, 1.5)]):
        yield {"loss_type": "grpo", "importance_sampling_level": "trajectory", "beta": 0.0, "old": old, "epsilon": low,
               "epsilon_high": high, "delta": 0.0}


def main():
    logprobs, old, reference = draws(1, 0.8, -1.6), None, draws(3, 0.3, 0.0)
    old = (logprobs + draws(2, 0.35, 0.0)).float().double()
    reference = (logprobs + reference).float().double()
    entropies = draws(4, 0.4, 2.0)
    sampling = (old + draws(6, 0.3, 0.0)).float().double()
    pairs = draws(5, 1.5, -20.0)[:20].chunk(4)
    several = [[r, 0.1 * i] for i, r in enumerate([0.0, 3.5, 9.0, 1.25, 2.0, 2.0, 2.0, 2.0, 10.0, 0.0, 0.0, 0.5])]
    lengths = [5, 9, 2, 7, 4, 4, 1, 8, 3, 6, 6, 10]
    rewards = [0.0, 3.5, 9.0, 1.25, 2.0, 2.0, 2.0, 2.0, 10.0, 0.0, 0.0, 0.5]
    value = {
        "made_by": "python tools/make_loss_goldens.py",
        "versions": {name: importlib.metadata.version(name) for name in ("trl", "torch", "transformers")},
        "lengths": LENGTHS, "max_completion_length": MAX_COMPLETION_LENGTH, "advantages": ADVANTAGES,
        "logprobs": logprobs.tolist(), "old_logprobs": old.tolist(), "reference_logprobs": reference.tolist(),
        "entropies": entropies.tolist(), "sampling_logprobs": sampling.tolist(),
        "cases": [compute(case, logprobs, old, reference, entropies) for case in cases()]
        + [compute(case, logprobs, old, reference, entropies, sampling) for case in importance_cases()]
        + [rloo(case, logprobs, old) for case in rloo_cases()],
        "kl_estimates": kl_estimates(logprobs, reference),
        "rewards": rewards,
        "group_advantages": [{"num_generations": n, "scale_rewards": scale, "advantages": advantages(rewards, n, scale)}
                             for n, scale in itertools.product([2, 4, 6], ["group", "batch", "none"])],
        "weighted": {"rewards": several, "weights": [0.5, 3.0], "num_generations": 4,
                     "advantages": advantages(several, 4, "group", [0.5, 3.0])},
        "leave_one_out_advantages": [{"num_generations": n, "normalize": normalize,
                                      "advantages": leave_one_out(rewards, n, normalize)}
                                     for n, normalize in itertools.product([2, 4, 6], [False, True])],
        "reinforce_lengths": lengths,
        "reinforce_advantages": [{"num_generations": n, "baseline": baseline,
                                  "advantages": reinforce_plus_plus(rewards, lengths, n, baseline)}
                                 for n, baseline in itertools.product([2, 4], [False, True])],
        "soft_overlong": {"max_completion_length": 20, "soft_punish_cache": 8,
                          "punishment": get_soft_overlong_punishment(20, 8)([[0] * n for n in range(24)])},
        "ppo": {"rewards": ADVANTAGES, "values": entropies.tolist(), "new_values": logprobs.tolist(),
                "cases": [ppo(ADVANTAGES, entropies, logprobs, LENGTHS, *case)
                          for case in ((1.0, 0.95, 0.2), (0.9, 0.7, 3.0), (1.0, 1.0, 0.5), (1.0, 0.0, 4.0))]},
        "dpo": {"chosen": pairs[0].tolist(), "rejected": pairs[1].tolist(), "reference_chosen": pairs[2].tolist(),
                "reference_rejected": pairs[3].tolist(), "cases": [dpo(beta, *pairs) for beta in (0.1, 0.5, 2.0)]},
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(value, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(value['cases'])} cases, {OUT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
