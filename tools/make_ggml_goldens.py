#!/usr/bin/env python3
"""Makes tests/model/data/ggml_goldens.json: random blocks of every ggml type and the floats that they stand for.

The reference is gguf.quants of the `gguf` package, which llama.cpp keeps bit-equal to ggml's C code. Bytes are random;
scales are random finite halves, subnormal and negative ones among them. "written" holds floats and what `quantize`
makes of them.

Usage: python tools/make_ggml_goldens.py OUTPUT.json
"""
import json
import sys
from importlib.metadata import version

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize


BLOCKS = {"F32": 12, "F16": 40, "BF16": 40, "Q4_0": 6, "Q4_1": 6, "Q5_0": 6, "Q5_1": 6, "Q8_0": 6,
          "Q2_K": 4, "Q3_K": 4, "Q4_K": 4, "Q5_K": 4, "Q6_K": 4, "IQ4_NL": 6, "IQ4_XS": 4, "MXFP4": 10}
# Where a block's half-precision scales lie.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}


def finite_half(rng, index):
    """A finite half; every third one subnormal, every second one negative."""
    exponent = 0 if index % 3 == 0 else int(rng.integers(1, 31))
    return np.uint16((index % 2) << 15 | exponent << 10 | int(rng.integers(1, 1024)))


def main():
    rng = np.random.default_rng(20261124)
    cases = {}
    for name, count in BLOCKS.items():
        kind = GGMLQuantizationType[name]
        _, size = GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
        if name == "F32":
            blocks = rng.standard_normal((count, 1)).astype(np.float32).view(np.uint8)
        for index, block in enumerate(blocks):
            if name == "F16":
                block[:] = np.frombuffer(finite_half(rng, index).tobytes(), np.uint8)
            if name == "BF16":
                block[1] = (block[1] & 0x80) | (index % 0x7F)  # an exponent that is not all ones
            if name == "MXFP4":
                block[0] = index if index < 3 else block[0] % 250  # subnormal scales; the largest overflow
            for place, offset in enumerate(SCALES.get(name, [])):
                block[offset:offset + 2] = np.frombuffer(finite_half(rng, index + 3 * place + place // 2).tobytes(), np.uint8)
        flat = blocks.reshape(-1)
        values = flat.view(np.float32) if name == "F32" else dequantize(flat, kind)
        values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        assert np.isfinite(values).all(), name
        cases[name] = {"type": int(kind), "blocks": flat.tobytes().hex(), "values": values.tobytes().hex()}
    floats = (rng.standard_normal((5, 32)) * np.array([[1], [1e-3], [300], [1e-9], [0]])).astype(np.float32)
    floats[0, :3] = [0.5, -0.5, 1.5]
    written = {"values": floats.tobytes().hex()}
    for name in ("F16", "BF16", "Q8_0", "Q4_0"):
        written[name] = quantize(floats, GGMLQuantizationType[name]).tobytes().hex()
    golden = {"written": written, "made_by": f"tools/make_ggml_goldens.py, gguf {version('gguf')}, numpy {np.__version__}", "cases": cases}
    with open(sys.argv[1], "w") as out:
        json.dump(golden, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
