#!/usr/bin/env python3
"""One token with Transformers: the peer of a whole `backburn generate` process. python bench/first_token.py MODEL_FOLDER"""
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_tensors="pt",
                                    return_dict=True)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=1, do_sample=False)[0, -1]))
