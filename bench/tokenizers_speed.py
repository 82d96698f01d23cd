#!/usr/bin/env python3
"""Text to ids with Hugging Face `tokenizers`, one thread. python bench/tokenizers_speed.py MODEL_FOLDER TEXT_FILE"""
import json
import sys
import time

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(f"{sys.argv[1]}/tokenizer.json")
text = open(sys.argv[2], encoding="utf-8").read()
steps = []
for _ in range(5):
    begin = time.perf_counter()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    steps.append({"seconds": time.perf_counter() - begin, "tokens": len(ids), "mb": 1e-6 * len(text.encode())})
print(json.dumps({"steps": steps}))
