#!/usr/bin/env python3
"""Makes the goldens of tests/model/parity_test.cc and tests/generate/parity_test.cc from Transformers and PEFT, in f32.

    python tools/make_model_goldens.py --tiny                          tests/model/data/tiny_*/
    python tools/make_model_goldens.py --gguf smollm2.gguf --name smollm2  tests/model/data/smollm2_parity.json
    python tools/make_model_goldens.py --gguf qwen.gguf --name qwen        tests/model/data/qwen_parity.json

Packages: tools/requirements-reference.txt. Weights are dequantised by the `gguf` package and put in Hugging Face's row
order here; token ids come from a `tokenizers` tokenizer built by make_tokenizer_goldens.py (not from Transformers' GGUF
loader, which warns that its regex is wrong), and the chat template is rendered by Jinja2.

Adapters of the gradient goldens are a formula, so that no file carries them: rank r, alpha 2r, and for layer l and the
p-th of its linear layers (0 … 6 = q, k, v, o, gate, up, down; with experts 4 + 3e … 6 + 3e = gate, up, down of expert e;
Phi-3's 0 … 3 = qkv, o, gate_up, down)
    a[i, j] = 0.02 · sin(1 + 0.37 i + 0.11 j + l + 0.5 p)        b[i, j] = 0.01 · cos(1 + 0.23 i + 0.07 j + l + 0.3 p)
The loss is −(1/n) Σ over n (prompt, completion) pairs of the completion's mean log-probability. Of a large gradient the
norm and 16 entries are kept: flat (row-major) indices ⌊(k + ½) · size / 16⌋. Of the residual stream h that leaves a decoder
layer, two sums over its dimensions are kept for each token: Σ_j h_j cos(0.7 j) and Σ_j h_j sin(0.7 j).
"""

import argparse
import json
import math
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
DATA = Path(__file__).resolve().parent.parent / "tests/model/data"
LOGIT_PROMPTS = 4
GREEDY_TOKENS = 64
PROMPTS = [
    "Write a short poem about the sea.",
    "What is the capital of France?",
    "Explain how a bicycle stays upright.",
    "List three uses for baking soda.",
    "Write a Python function that reverses a string.",
    "Summarise the water cycle in two sentences.",
    "How many legs does a spider have, and why?",
    "Translate \"good morning\" into Spanish and German.",
    "Give me a recipe for pancakes for 4 people.",
    "What's the difference between a virus and a bacterium?",
    "Write a polite letter to a neighbour about a barking dog.",
    "Who wrote \"Romeo and Juliet\"?",
    "Compute 17 * 23, step by step.",
    "Describe the colour blue to someone who cannot see.",
    "Name five rivers in Europe.",
    "Why is the sky red at sunset?",
    "Suggest a name for a small café near the harbour.",
    "How do I fix a flat tire on my bicycle?",
    "Write a SQL query that counts the rows of table `orders` by customer.",
    "Tell me a story about a fox, a crow and 1,000 stars.",
]
# Two answers to one prompt and one to another: the first two share their beginning.
PAIRS = [(1, "The capital of France is Paris."), (1, "I'm sorry, but I can't assist with that."),
         (5, "Water evaporates, forms clouds, and falls as rain.\nThen it flows back to the sea.")]


def versions():
    import gguf
    import importlib.metadata as metadata
    found = {name: metadata.version(name) for name in ("torch", "transformers", "peft", "tokenizers", "gguf")}
    del gguf
    return {"made_by": "python tools/make_model_goldens.py " + " ".join(
        Path(a).name if "/" in a else a for a in sys.argv[1:]), "versions": found}


def rounded(values, digits=7):
    return [float(f"{v:.{digits}g}") for v in values]


def fixed(values, decimals=5):
    return [round(v, decimals) for v in values]


# --- weights out of a GGUF file -------------------------------------------------------------------------------------

def unpermute(rows, heads):
    """ggml's Llama rows alternate between the two halves of a head; Hugging Face's come half by half."""
    head = rows.shape[0] // heads
    return rows.reshape(heads, head // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def load_gguf(path):
    """The model in f32 on Transformers' own classes, and a function from a user's message to token ids."""
    import jinja2
    from gguf import GGUFReader, dequantize
    from make_tokenizer_goldens import from_gguf
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    reader = GGUFReader(path)
    field = lambda key, default=None: reader.fields[key].contents() if key in reader.fields else default
    architecture = field("general.architecture")
    key = lambda name, default=None: field(f"{architecture}.{name}", default)
    stored = {t.name: t for t in reader.tensors}
    heads, kv_heads = key("attention.head_count"), key("attention.head_count_kv")
    tied = "output.weight" not in stored
    sizes = dict(
        vocab_size=int(stored["token_embd.weight"].shape[1]), hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"), num_hidden_layers=key("block_count"), num_attention_heads=heads,
        num_key_value_heads=kv_heads, max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"), tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": float(key("rope.freq_base"))},
        bos_token_id=None, eos_token_id=None, pad_token_id=None, attn_implementation="eager", dtype="float32")
    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
    if architecture not in kinds:
        sys.exit(f"{path}: architecture {architecture} is not known here")
    make_config, make_model = kinds[architecture]
    config = make_config(**sizes)
    model = make_model(config).float().eval()

    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    parts = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    for layer in range(sizes["num_hidden_layers"]):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                names[f"blk.{layer}.{ours}.{kind}"] = f"model.layers.{layer}.{theirs}.{kind}"
    state = {}
    for name, tensor in stored.items():
        values = dequantize(tensor.data, tensor.tensor_type)
        if architecture == "llama" and ".attn_q." in name:
            values = unpermute(values, heads)
        if architecture == "llama" and ".attn_k." in name:
            values = unpermute(values, kv_heads)
        state[names[name]] = torch.from_numpy(values.copy()).float()
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - ({"lm_head.weight"} if tied else set()):
        sys.exit(f"{path}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    inverse = model.model.rotary_emb.inv_freq
    assert abs(inverse[1].item() - key("rope.freq_base") ** (-2 / (2 * len(inverse)))) < 1e-6

    tokenizer = from_gguf(path)
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = lambda message: sys.exit(message)
    template = environment.from_string(field("tokenizer.chat_template"))
    tokens = field("tokenizer.ggml.tokens")
    special = {f"{k}_token": tokens[field(f"tokenizer.ggml.{k}_token_id")] for k in ("bos", "eos")}

    def ids_of(user):
        text = template.render(messages=[{"role": "user", "content": user}], add_generation_prompt=True, **special)
        return tokenizer.encode(text, add_special_tokens=False).ids

    return model, ids_of, lambda text: tokenizer.encode(text, add_special_tokens=False).ids


# --- what the tests compare -----------------------------------------------------------------------------------------

def linear_layers(model):
    """[(layer, p, module, out, in)] of the matrices that an adapter updates, under the names that published files have:
    Transformers 5 holds all experts of a layer in one tensor, files hold them one by one."""
    found = []
    for layer, block in enumerate(model.model.layers):
        attention = [(f"self_attn.{n}", *getattr(block.self_attn, n).weight.shape)
                     for n in ("qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj") if hasattr(block.self_attn, n)]
        experts = getattr(block.mlp, "experts", None)
        if experts is None:
            mlp = [(f"mlp.{n}", *getattr(block.mlp, n).weight.shape)
                   for n in ("gate_up_proj", "gate_proj", "up_proj", "down_proj") if hasattr(block.mlp, n)]
        else:
            count, hidden, inner = experts.down_proj.shape
            names = (("block_sparse_moe", "w1", "w3", "w2") if model.config.model_type == "mixtral" else
                     ("mlp", "gate_proj", "up_proj", "down_proj"))
            mlp = [(f"{names[0]}.experts.{e}.{n}", *((hidden, inner) if n == names[3] else (inner, hidden)))
                   for e in range(count) for n in names[1:]]
        found += [(layer, p, *each) for p, each in enumerate(attention + mlp)]
    return found


def formula_adapter(model, rank):
    """The adapter of the formula above as PEFT's file has it: {name: tensor}, and its config."""
    grid = lambda rows, columns, x, y: (x * torch.arange(rows, dtype=torch.float64)[:, None] +
                                        y * torch.arange(columns, dtype=torch.float64)[None, :])
    tensors = {}
    for layer, p, module, out, inside in linear_layers(model):
        name = f"base_model.model.model.layers.{layer}.{module}"
        a = 0.02 * torch.sin(1 + grid(rank, inside, 0.37, 0.11) + layer + 0.5 * p)
        b = 0.01 * torch.cos(1 + grid(out, rank, 0.23, 0.07) + layer + 0.3 * p)
        tensors |= {f"{name}.lora_A.weight": a.float(), f"{name}.lora_B.weight": b.float()}
    targets = sorted({module.rsplit(".", 1)[1] for _, _, module, _, _ in linear_layers(model)})
    return tensors, {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0,
                     "bias": "none", "target_modules": targets}


def with_adapter(model, rank):
    """The model under PEFT with that adapter. Returns (model, [(layer, module, gradient of a, of b)]), the gradients as
    functions to call after a backward pass."""
    from peft import PeftModel
    from safetensors.torch import save_file
    tensors, config = formula_adapter(model, rank)
    layers = linear_layers(model)
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, f"{folder}/adapter_model.safetensors")
        Path(folder, "adapter_config.json").write_text(json.dumps(config))
        model = PeftModel.from_pretrained(model, folder, is_trainable=True).eval()
    parameters = dict(model.named_parameters())

    def gradient(layer, module, which):
        """PEFT joins the experts: A is [experts × rank, in], B [out, rank × experts], gate and up are one of twice the rank."""
        at = f"base_model.model.model.layers.{layer}"
        if ".experts." not in module:
            return parameters[f"{at}.{module}.lora_{which}.default.weight"].grad
        _, _, expert, kind = module.split(".")
        kind = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}.get(kind, kind)
        fused = "" if kind == "down_proj" else ".base_layer"
        grad = parameters[f"{at}.mlp.experts{fused}.lora_{which}.default.weight"].grad
        begin = rank if kind == "up_proj" else 0
        experts = parameters[f"{at}.mlp.experts.lora_A.default.weight"].shape[0] // rank
        if which == "A":
            return grad.reshape(experts, -1, grad.shape[1])[int(expert), begin:begin + rank]
        grad = grad.reshape(grad.shape[0], -1, experts)[:, begin:begin + rank, int(expert)]
        half = grad.shape[0] // 2
        return {"down_proj": grad, "gate_proj": grad[:half], "up_proj": grad[half:]}[kind]

    return model, [(layer, module, partial(gradient, layer, module, "A"), partial(gradient, layer, module, "B"))
                   for layer, _, module, _, _ in layers]


def completion_logprobs(model, prompt, completion):
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1:-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def gradients(model, rank, pairs):
    model, parameters = with_adapter(model, rank)
    logprobs = [completion_logprobs(model, prompt, completion) for prompt, completion in pairs]
    loss = -sum(x.mean() for x in logprobs) / len(pairs)
    loss.backward()
    return loss.item(), [x.detach().tolist() for x in logprobs], parameters


def real_model(path, name):
    model, prompt_ids, plain_ids = load_gguf(path)
    vocabulary = model.config.vocab_size
    picked = sorted({(k * 2654435761) % vocabulary for k in range(1, 65)})
    prompts = []
    margin = math.inf
    with torch.no_grad():
        for index, text in enumerate(PROMPTS):
            ids = prompt_ids(text)
            logits = model(torch.tensor([ids])).logits[0].float()
            rows = range(len(ids)) if index < LOGIT_PROMPTS else [len(ids) - 1]
            kept = [{"at": r, "logits": fixed(logits[r, picked].tolist()), "logsumexp": round(logits[r].logsumexp(-1).item(), 5),
                     "argmax": int(logits[r].argmax())} for r in rows]
            # Greedy by hand, past any stop token, with the distance between first and second kept.
            output, cache, state, narrowest = [], None, torch.tensor([ids]), math.inf
            for _ in range(GREEDY_TOKENS):
                step = model(state, past_key_values=cache, use_cache=True)
                best = step.logits[0, -1].topk(2)
                narrowest = min(narrowest, (best.values[0] - best.values[1]).item())
                output.append(int(best.indices[0]))
                cache, state = step.past_key_values, best.indices[:1][None]
            margin = min(margin, narrowest)
            prompts.append({"text": text, "ids": ids, "rows": kept, "greedy": output, "margin": round(narrowest, 5)})
            print(f"{index}: {len(ids)} ids, narrowest margin {narrowest:.4f}", flush=True)
    pairs = [(prompt_ids(PROMPTS[i]), plain_ids(text)) for i, text in PAIRS]
    loss, logprobs, parameters = gradients(model, 8, pairs)
    entries = []
    for layer, module, a, b in parameters:
        for which, gradient in (("a", a), ("b", b)):
            g = gradient().flatten()
            at = [int((k + 0.5) * g.numel() / 16) for k in range(16)]
            entries.append({"name": f"{layer}.{module.rsplit('.', 1)[1]}.{which}", "norm": rounded([g.double().norm().item()])[0],
                            "sampled": rounded(g[at].tolist(), 6)})
    write(DATA / f"{name}_parity.json", {
        **versions(), "source": Path(path).name, "vocabulary_ids": picked, "narrowest_margin": margin, "prompts": prompts,
        "gradient": {"rank": 8, "alpha": 16, "pairs": [{"prompt": p, "completion": c, "logprobs": rounded(l)}
                                                       for (p, c), l in zip(pairs, logprobs)],
                     "loss": rounded([loss], 9)[0], "tensors": entries}})


# Every family with what sets it apart; sizes small enough that a window and a stretched frequency matter.
TINY = {
    "tiny_llama": ("Llama", {"tie_word_embeddings": False, "rms_norm_eps": 1e-5}, {"rope_theta": 500.0}),
    "tiny_qwen2": ("Qwen2", {"tie_word_embeddings": True}, {}),
    "tiny_llama3": ("Llama", {"tie_word_embeddings": False, "head_dim": 16},
                    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 16}),
    "tiny_linear": ("Llama", {"tie_word_embeddings": True, "attention_bias": True}, {"rope_type": "linear", "factor": 4.0}),
    "tiny_mistral": ("Mistral", {"tie_word_embeddings": False, "sliding_window": 6, "head_dim": 16}, {}),
    "tiny_ministral": ("Ministral", {"tie_word_embeddings": False, "head_dim": 16, "sliding_window": 5,
                                     "layer_types": ["sliding_attention", "full_attention"]}, {}),
    "tiny_qwen3": ("Qwen3", {"tie_word_embeddings": True, "head_dim": 16}, {}),
    "tiny_olmo2": ("Olmo2", {"tie_word_embeddings": False}, {}),
    "tiny_granite": ("Granite", {"tie_word_embeddings": True, "embedding_multiplier": 3.0, "residual_multiplier": 0.4,
                                 "attention_multiplier": 0.2, "logits_scaling": 2.5}, {}),
    "tiny_gemma2": ("Gemma2", {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 6, "attn_logit_softcapping": 2.0,
                               "final_logit_softcapping": 3.0}, {}),
    "tiny_gemma3": ("Gemma3", {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 6,
                               "layer_types": ["sliding_attention", "full_attention"]},
                    {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0},
                     "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}}),
    "tiny_smollm3": ("SmolLM3", {"tie_word_embeddings": True, "no_rope_layers": [1, 0]}, {}),
    "tiny_phi3": ("Phi3", {"sliding_window": 6}, {}),
    "tiny_phi4": ("Phi3", {"tie_word_embeddings": True, "original_max_position_embeddings": 32, "partial_rotary_factor": 0.75},
                  {"rope_type": "longrope", "short_factor": [1.1, 1.7, 2.9], "long_factor": [1.5, 4.0, 9.0],
                   "partial_rotary_factor": 0.75}),
    "tiny_yarn": ("Qwen3", {"tie_word_embeddings": False, "head_dim": 16},
                  {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    "tiny_yarn_mscale": ("Llama", {"tie_word_embeddings": True, "head_dim": 16},
                         {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, "beta_fast": 4.0,
                          "beta_slow": 0.5, "mscale": 1.0, "mscale_all_dim": 0.4, "truncate": False}),
    "tiny_dynamic": ("Llama", {"tie_word_embeddings": True, "max_position_embeddings": 32}, {"rope_type": "dynamic", "factor": 4.0}),
    "tiny_qwen3_moe": ("Qwen3Moe", {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                                    "norm_topk_prob": True}, {}),
    "tiny_mixtral": ("Mixtral", {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6}, {}),
    "tiny_qwen3_moe_mixed": ("Qwen3Moe", {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 16,
                                          "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3]}, {}),
}


def tiny_model(folder, kind, extra, rope):
    """Random weights, every tensor (norms and biases too) away from its usual value."""
    import transformers
    rope = rope if "full_attention" in rope else {"rope_type": "default", "rope_theta": 10000.0, **rope}
    make_config = transformers.Gemma3TextConfig if kind == "Gemma3" else getattr(transformers, f"{kind}Config")
    config = make_config(**{
        **dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
               max_position_embeddings=256, rms_norm_eps=1e-6, rope_parameters=rope,
               bos_token_id=1, eos_token_id=2, pad_token_id=None, attn_implementation="eager", dtype="float32"), **extra})
    make_model = getattr(transformers, f"{kind}ForCausalLM")
    torch.manual_seed(20250504)
    model = make_model(config).float().eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            centre = 1.0 if "norm" in name else 0.0
            tensor.copy_(centre + torch.randn(tensor.shape) * (0.3 if tensor.dim() == 1 else 0.25))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    draw = lambda n: torch.randint(3, 64, (n,)).tolist()
    sequence = draw(24)
    streams = []
    watching = [block.register_forward_hook(lambda module, inputs, out: streams.append(out[0])) for block in model.model.layers]
    with torch.no_grad():
        logits = model(torch.tensor([sequence])).logits[0]
    for each in watching:
        each.remove()
    waves = 0.7 * torch.arange(model.config.hidden_size)
    hidden = [[fixed((stream.reshape(len(sequence), -1) @ wave).tolist(), 6) for wave in (waves.cos(), waves.sin())]
              for stream in streams]
    greedy, cache, state = [], None, torch.tensor([sequence[:8]])  # past any stop token
    with torch.no_grad():
        for _ in range(16):
            step = model(state, past_key_values=cache, use_cache=True)
            cache, state = step.past_key_values, step.logits[:, -1:].argmax(-1)
            greedy.append(int(state))
    shared = draw(7)
    pairs = [(shared, draw(5)), (shared, draw(9)), (draw(4), draw(6))]
    with torch.no_grad():
        base = [completion_logprobs(model, p, c).tolist() for p, c in pairs]
    golden = {**versions(), "sequence": sequence, "logits": [fixed(row, 6) for row in logits.tolist()], "hidden": hidden,
              "greedy": greedy}
    # PEFT takes "gate_proj" for the experts' as soon as a model has any, so that a plain MLP beside them can't be adapted.
    if not getattr(model.config, "mlp_only_layers", None):
        loss, logprobs, parameters = gradients(model, 4, pairs)
        golden["gradient"] = {
            "rank": 4, "alpha": 8, "pairs": [
                {"prompt": p, "completion": c, "logprobs": rounded(l), "logprobs_without_adapter": rounded(w)}
                for (p, c), l, w in zip(pairs, logprobs, base)],
            "loss": rounded([loss], 9)[0],
            "tensors": [{"name": f"{layer}.{module}.{which}", "values": rounded(gradient().flatten().tolist(), 6)}
                        for layer, module, a, b in parameters for which, gradient in (("a", a), ("b", b))]}
    write(folder / "golden.json", golden)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="the random models")
    parser.add_argument("--only", choices=TINY, help="with --tiny: one of them")
    parser.add_argument("--gguf", help="a GGUF file")
    parser.add_argument("--name", help="what its golden is called")
    options = parser.parse_args()
    if not options.tiny and not (options.gguf and options.name):
        parser.error("nothing to make: give --tiny, or --gguf and --name")
    if options.tiny:
        for name, (kind, extra, rope) in TINY.items():
            if options.only in (None, name):
                tiny_model(DATA / name, kind, extra, rope)
    if options.gguf:
        real_model(options.gguf, options.name)


if __name__ == "__main__":
    main()
