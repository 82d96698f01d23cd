# mean.py OUT DIR DIR: a model folder with the mean of two models' weights (bf16), the other files of the first.
import json
import pathlib
import shutil
import struct
import sys

import numpy as np


def read(folder):
    data = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    assert all(of["dtype"] == "BF16" for name, of in json.loads(data[8:8 + size]).items() if name != "__metadata__")
    return data[:8 + size], (np.frombuffer(data[8 + size:], np.uint16).astype(np.uint32) << 16).view(np.float32)


out, first, second = map(pathlib.Path, sys.argv[1:])
head, one = read(first)
_, other = read(second)
shutil.copytree(first, out)
bits = (np.float32(0.5) * one + np.float32(0.5) * other).view(np.uint32)
rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
(out / "model.safetensors").write_bytes(head + rounded.tobytes())
