#!/usr/bin/env python3
"""Makes tests/eval/data/multiple_choice.json: what lm-evaluation-harness itself finds on some questions, in f32.

    python tools/make_multiple_choice_goldens.py --gguf smollm2-135m-instruct.gguf

Packages: tools/requirements-reference.txt, lm_eval among them. The model is built from the GGUF file as
make_model_goldens.py does it; the task is a YAML-like config of output_type multiple_choice with ARC's prompt, and the harness
tokenizes, scores, and averages. Questions: every tenth of data/multiple_choice.jsonl and some that try the edges.
"""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
OUT = ROOT / "tests/eval/data/multiple_choice.json"
EDGES = [
    # Two and five choices; lengths that differ much, in characters and in bytes; the same beginning; a space at its end.
    {"question": "Is the sky above us usually blue?", "choices": ["no", "yes, on a clear day it is blue"], "answer": 1},
    {"question": "Comment dit-on \"summer\" en français ?", "choices": ["été", "l'hiver, quand il fait très froid", "à"], "answer": 0},
    {"question": "Which word is Japanese for \"dog\"?", "choices": ["犬", "chien", "Hund", "perro", "собака"], "answer": 0},
    {"question": "What is 12 + 13?", "choices": ["25", "25.5", "2", "250"], "answer": 0},
    {"question": "Fill the gap: a cup of ", "choices": ["tea", "teapot", " tea"], "answer": 0},
]


def main():
    import datasets
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from make_model_goldens import load_gguf
    from make_tokenizer_goldens import from_gguf
    from transformers import PreTrainedTokenizerFast

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True)
    arguments = parser.parse_args()

    lines = (ROOT / "data/multiple_choice.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines[::10]] + EDGES
    model, _, _ = load_gguf(arguments.gguf)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=from_gguf(arguments.gguf), eos_token="<|im_end|>")
    task = ConfigurableTask(config={
        "task": "backburn", "output_type": "multiple_choice", "test_split": "test",
        "custom_dataset": lambda **_: {"test": datasets.Dataset.from_list(questions)},
        "doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": lambda doc: doc["choices"], "doc_to_target": "answer",
        "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
    })
    found = lm_eval.simple_evaluate(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu"), tasks=[task],
                                    log_samples=True, bootstrap_iters=0)
    samples = sorted(found["samples"]["backburn"], key=lambda sample: sample["doc_id"])
    results = found["results"]["backburn"]
    value = {
        "made_by": "python tools/make_multiple_choice_goldens.py --gguf " + Path(arguments.gguf).name,
        "versions": {name: importlib.metadata.version(name) for name in ("lm_eval", "torch", "transformers")},
        "acc": results["acc,none"], "acc_norm": results["acc_norm,none"],
        "questions": [{**question, "logprobs": [round(float(each[0]), 5) for each in sample["filtered_resps"]],
                       "acc": sample["acc"], "acc_norm": sample["acc_norm"]}
                      for question, sample in zip(questions, samples, strict=True)],
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(questions)} questions, acc {value['acc']:.3f}, acc_norm {value['acc_norm']:.3f}")


if __name__ == "__main__":
    main()
