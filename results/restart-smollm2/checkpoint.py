# checkpoint.py ADAPTER.safetensors OTHER_CHECKPOINT OUT STEP: a checkpoint of `defend` with a PEFT adapter's weights and an empty optimizer, shaped
# as another checkpoint of the same model. How these runs went on from defenses that had ended.
import json
import struct
import sys

import numpy as np


def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + size])
    head.pop("__metadata__", None)
    return {name: np.frombuffer(data[8 + size:][slice(*of["data_offsets"])], np.float32).reshape(of["shape"]) for name, of in head.items()}


adapter, other, out, step = sys.argv[1:]
weights, shapes = read(adapter), read(other)
state = {}
for i, value in enumerate(weights.values()):
    assert value.shape == shapes[f"parameter.{i}"].shape
    state |= {f"parameter.{i}": value, f"first_moment.{i}": np.zeros_like(value), f"second_moment.{i}": np.zeros_like(value),
              f"updates.{i}": np.zeros(shapes[f"updates.{i}"].shape, np.float32)}
state["step"] = np.full(1, float(step), np.float32)
head, at = {}, 0
for name, value in state.items():
    head[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
    at += value.nbytes
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
with open(out, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(np.ascontiguousarray(value).tobytes() for value in state.values()))
