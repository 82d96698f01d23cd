#!/usr/bin/env python3
"""Makes tests/model/data/gguf/: tiny random models of each family as llama.cpp's own converter writes them, and the logits
that Transformers gives for the checkpoint they were made from.

    python tools/make_gguf_goldens.py build/peers/llama.cpp [NAME ...]

The models are those of make_model_goldens.py, with what GGUF files can't say set to what llama.cpp takes for granted. The
first argument is llama.cpp's source (bench/setup.sh fetches it); its converter does all but the vocabulary, which is one
letter a token. Packages: tools/requirements-reference.txt.
"""

import json
import sys
import tempfile
from pathlib import Path

LLAMA_CPP = Path(sys.argv[1]).resolve()
sys.path[:0] = [str(LLAMA_CPP), str(LLAMA_CPP / "gguf-py"), str(Path(__file__).resolve().parent)]

import gguf  # noqa: E402
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class  # noqa: E402
from make_model_goldens import DATA, TINY, tiny_model  # noqa: E402
from safetensors import safe_open  # noqa: E402

OUT = DATA / "gguf"
# Which of TINY, and what is different here.
MODELS = {
    "llama": ("tiny_llama", {}),
    "llama3": ("tiny_llama3", {}),
    "linear": ("tiny_linear", {}),
    "mistral": ("tiny_mistral", {"sliding_window": None}),
    "qwen2": ("tiny_qwen2", {}),
    "qwen3": ("tiny_qwen3", {}),
    "olmo2": ("tiny_olmo2", {}),
    "granite": ("tiny_granite", {}),
    "smollm3": ("tiny_smollm3", {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}),
    "gemma2": ("tiny_gemma2", {"query_pre_attn_scalar": 16}),
    "gemma3": ("tiny_gemma3", {"query_pre_attn_scalar": 16, "num_hidden_layers": 6,
                               "layer_types": ["sliding_attention"] * 5 + ["full_attention"]}),
    "yarn": ("tiny_yarn", {}),
    # llama.cpp goes over to the long factors with the context it was opened for, which is 256 or more.
    "phi3": ("tiny_phi3", {"original_max_position_embeddings": 256}),
    "phi4": ("tiny_phi4", {"original_max_position_embeddings": 256, "max_position_embeddings": 1024}),
    "mixtral": ("tiny_mixtral", {"sliding_window": None}),
    "qwen3moe": ("tiny_qwen3_moe", {}),
}
SPLIT_IN = 3  # "llama" once more, in so many files
STORED = {"f16": gguf.LlamaFileType.MOSTLY_F16, "bf16": gguf.LlamaFileType.MOSTLY_BF16,
          "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
TOKENS = ["<unk>", "<s>", "</s>"] + [chr(ord("A") + i) for i in range(60)] + ["Hi"]


def set_letters(converter):
    writer = converter.gguf_writer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * 61)
    writer.add_token_merges(["H i"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ bos_token }}{{ messages[0]['content'] }}")


def convert(folder, path, stored, files=1):
    # Gemma 3's converter counts the tokens.
    tokenizer = {"model": {"vocab": {token: i for i, token in enumerate(TOKENS)}}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    architecture = get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT)
    known = get_model_class(architecture)
    converter = type(known.__name__, (known,), {"set_vocab": set_letters, "model_arch": known.model_arch})
    with safe_open(folder / "model.safetensors", "np") as checkpoint:
        split = {"split_max_tensors": -(-len(checkpoint.keys()) // files) if files > 1 else 0}
    converter(folder, stored, path, eager=True, model_name="tiny", **split).write()
    print(f"{path}: {sum(each.stat().st_size for each in path.parent.glob(path.stem + '*')) / 1024:.0f} KiB")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (tiny, changes) in MODELS.items():
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        kind, extra, rope = TINY[tiny]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            tiny_model(folder, kind, {**extra, **changes}, rope)
            golden = json.loads((folder / "golden.json").read_text())
            (folder / "golden.json").unlink()
            model_type = json.loads((folder / "config.json").read_text())["model_type"]
            convert(folder, OUT / f"{name}.gguf", gguf.LlamaFileType.ALL_F32)
            if name == "llama":
                for dtype, stored in STORED.items():
                    convert(folder, OUT / f"llama_{dtype}.gguf", stored)
                convert(folder, OUT / "llama_split.gguf", gguf.LlamaFileType.ALL_F32, SPLIT_IN)
            if name == "mixtral":
                convert(folder, OUT / "mixtral_q8_0.gguf", STORED["q8_0"])
        kept = {"made_by": "python tools/make_gguf_goldens.py build/peers/llama.cpp", "versions": golden["versions"],
                "model_type": model_type, "sequence": golden["sequence"], "logits": golden["logits"]}
        (OUT / f"{name}.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
