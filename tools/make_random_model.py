#!/usr/bin/env python3
"""Writes a randomly initialised GGUF file of LLaMA3-8B's exact shape, its matrices in Q4_0 (4.5 GB), tensor by tensor.

    python tools/make_random_model.py TOKENIZER.gguf OUT.gguf [--layers N]

Tokenizer and chat template are those of TOKENIZER.gguf (`backburn pull smollm2-135m-instruct` fetches one), so that the
file opens; the vocabulary that has no token there is named after its numbers. For showing what fits into memory
(tools/show_8b.sh): what it says means nothing. Package: gguf.
"""

import argparse
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, TokenType

HIDDEN, LAYERS, HEADS, KEY_VALUE_HEADS, INTERMEDIATE, VOCABULARY = 4096, 32, 32, 8, 14336, 128256
DEVIATION = 0.02  # Llama's initializer_range
BLOCK = np.dtype([("d", "<f2"), ("q", "u1", 16)])


def blocks(rng, rows, columns):
    """Q4_0 blocks whose values are uniform on 16 steps, of that deviation: −8 … 7 deviate by 4.61."""
    result = np.empty((rows, columns // 32), BLOCK)
    result["d"] = DEVIATION / 4.61
    result["q"] = np.frombuffer(rng.bytes(rows * columns // 2), "u1").reshape(rows, columns // 32, 16)
    return result.view("u1").reshape(rows, -1)


def tensors(layers):
    keys = KEY_VALUE_HEADS * (HIDDEN // HEADS)
    yield "token_embd.weight", (VOCABULARY, HIDDEN)
    for layer in range(layers):
        for name, shape in [("attn_norm", (HIDDEN,)), ("attn_q", (HIDDEN, HIDDEN)), ("attn_k", (keys, HIDDEN)),
                            ("attn_v", (keys, HIDDEN)), ("attn_output", (HIDDEN, HIDDEN)), ("ffn_norm", (HIDDEN,)),
                            ("ffn_gate", (INTERMEDIATE, HIDDEN)), ("ffn_up", (INTERMEDIATE, HIDDEN)),
                            ("ffn_down", (HIDDEN, INTERMEDIATE))]:
            yield f"blk.{layer}.{name}.weight", shape
    yield "output_norm.weight", (HIDDEN,)
    yield "output.weight", (VOCABULARY, HIDDEN)


def copy_tokenizer(reader, writer):
    for key, field in reader.fields.items():
        if not key.startswith("tokenizer."):
            continue
        value = field.contents()
        if key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
            missing = range(len(value), VOCABULARY)
            value = value + ([f"<unused{i}>" for i in missing] if key.endswith("tokens") else
                             [int(TokenType.NORMAL)] * len(missing))
        if field.types[0] == GGUFValueType.ARRAY:
            writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=field.types[-1])
        else:
            writer.add_key_value(key, value, field.types[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer")
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer, to try things out")
    arguments = parser.parse_args()
    writer = GGUFWriter(arguments.out, "llama")
    writer.add_name("random-llama3-8b")
    writer.add_context_length(8192)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(arguments.layers)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    copy_tokenizer(GGUFReader(arguments.tokenizer), writer)
    for name, shape in tensors(arguments.layers):
        if len(shape) == 1:
            writer.add_tensor_info(name, shape, np.dtype("f4"), shape[0] * 4)
        else:
            stored = (shape[0], shape[1] // 32 * 18)
            writer.add_tensor_info(name, stored, np.dtype("u1"), stored[0] * stored[1], GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(1)
    for _, shape in tensors(arguments.layers):
        writer.write_tensor_data(np.ones(shape, "f4") if len(shape) == 1 else blocks(rng, *shape))
    writer.close()


if __name__ == "__main__":
    main()
