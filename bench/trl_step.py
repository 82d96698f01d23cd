#!/usr/bin/env python3
"""Times GRPO steps of TRL's GRPOTrainer; prints one JSON object. A peer of `backburn bench --measure grpo-step`.

    python bench/trl_step.py MODEL_FOLDER --prompts FILE [--num-generations 8] [--max-completion-length 48]

bf16 weights, LoRA r = 16 on all linear layers, one update a step, no gradient checkpointing (its fastest way). `generate` is
sampling and scoring, `update` the rest of the step: forward, backward, optimizer.
"""
import argparse
import json
import resource
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def distinct_characters(completions, **_):
    return [float(len(set(completion[0]["content"].encode()))) for completion in completions]


class Trainer(GRPOTrainer):
    seconds_generate = 0.0

    def _generate_and_score_completions(self, inputs):
        begin = time.perf_counter()
        result = super()._generate_and_score_completions(inputs)
        self.seconds_generate = time.perf_counter() - begin
        self.answer_tokens = int(result["completion_mask"].sum())
        return result


class Watch(TrainerCallback):
    def __init__(self):
        self.trainer, self.steps, self.begin = None, [], 0.0

    def on_step_begin(self, *_, **__):
        self.begin = time.perf_counter()

    def on_step_end(self, *_, **__):
        seconds = time.perf_counter() - self.begin
        self.steps.append({"seconds": seconds, "generate": self.trainer.seconds_generate,
                           "update": seconds - self.trainer.seconds_generate, "tokens": self.trainer.answer_tokens})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--num-generations", type=int, default=8)
    parser.add_argument("--max-completion-length", type=int, default=48)
    parser.add_argument("--full-length", action="store_true")
    flags = parser.parse_args()

    prompts = [line for line in open(flags.prompts, encoding="utf-8").read().splitlines() if line]
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            per_device_train_batch_size=len(prompts) * flags.num_generations, num_generations=flags.num_generations,
            max_completion_length=flags.max_completion_length, max_steps=flags.repeats + 1, learning_rate=2e-4, beta=0.0,
            temperature=1.0, gradient_checkpointing=False, model_init_kwargs={"dtype": torch.bfloat16},
            generation_kwargs={"min_new_tokens": flags.max_completion_length} if flags.full_length else None)
        watch.trainer = Trainer(
            model=flags.model, args=config, reward_funcs=distinct_characters, callbacks=[watch],
            train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": p}] for p in prompts]}),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
        watch.trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"steps": watch.steps[1:], "peak_rss_gib": peak}))  # the first warms up


if __name__ == "__main__":
    main()
