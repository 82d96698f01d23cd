#!/usr/bin/env python3
"""Makes the goldens of tests/text/tokenizer_kinds_test.cc: small tokenizers of every kind, and what the references make of
the strings of tests/text/data/tokenizer_strings.jsonl (tools/make_tokenizer_goldens.py).

    python tools/make_tokenizer_kinds.py

Needs the packages `tokenizers` and `sentencepiece`. The tokenizers are trained here in the manner of published families
(Llama 2, Mistral, Gemma, Phi-3, Llama 3, GPT-4o, DeepSeek-V3, Falcon, RoBERTa, GPT, T5, ALBERT, BERT, …); none is a copy. Writes

    tests/text/data/kinds/*.json    a tokenizer.json each
    tests/text/data/kinds/*.model   SentencePiece models
    tests/text/data/kinds.json      ids and decoded texts, as hashes over blocks of 32 strings
    tests/text/data/normalizers.json  what each normalizer makes of all code points, as hashes
"""

import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from make_tokenizer_goldens import TEXTS, WORDS, fnv, fnv_text  # noqa: E402

DATA = Path(__file__).resolve().parent.parent / "tests/text/data"
BLOCK = 32
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
GPT_4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
          r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+")
RULES = [("\u00bc", "1/4"), ("\ufb01", "fi"), ("e\u0301", "\u00e9"), ("n\u0303", "\u00f1"), ("\u3000", " "), ("\u00a0", " "),
         ("\u2009", " "), ("\t", " "), ("\n", " "), ("\uff01", "!"), ("\u212b", "\u00c5"), ("A\u030a", "\u00c5"), ("\u200b", ""),
         ("\uff21", "A"), ("\u2026", "..."), ("\u0958", "\u0915\u093c"), ("\u1ed9", "o\u0323\u0302"), ("\u00ad", "")]
LINES = ([" ".join(WORDS)] * 3 + [" ".join(WORDS[i::7]) for i in range(7)] + ["caf\u00e9 na\u00efve, 12 3.45! (don't)"] * 6 +
         [text for text in TEXTS if len(text) < 200 and "<|" not in text])


def read_strings():
    texts = []
    for line in (DATA / "tokenizer_strings.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n"):
        value = json.loads(line)
        texts.append(value if isinstance(value, str) else bytes.fromhex(value["hex"]).decode("utf-8", errors="replace"))
    return texts


def blocks(items, digest):
    return [digest(items[i:i + BLOCK]) for i in range(0, len(items), BLOCK)]


def hash_ids(lists):
    return fnv([n for ids in lists for n in ids + [2**31 - 1]])[:8]


def hash_texts(texts):
    return fnv_text("\0".join(texts))[:8]


def some_ids(size):
    """Sequences of ids that no text gives; the test makes the same."""
    return [[(i * 7919 + j * 104729 + i * j * 31) % size for j in range(1 + i % 9)] for i in range(300)]


def byte_tokens():
    return [f"<0x{byte:02X}>" for byte in range(256)]


def trained(model, trainer, pre_tokenizer=None, normalizer=None):
    """Vocabulary, merges or scores, as the trainer makes them."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer(model)
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(LINES, trainer)
    return json.loads(tokenizer.to_str())["model"]


def add_tokens(tokenizer, rstrip=False):
    from tokenizers import AddedToken
    special = lambda text, **more: AddedToken(text, special=True, normalized=False, **more)
    tokenizer.add_special_tokens([special("<|im_start|>", rstrip=rstrip), special("<|im_end|>", rstrip=rstrip), special("<|im_"),
                                  special("[mask]", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken("hello-token", single_word=True, normalized=True), AddedToken("vi\u1ec7t", normalized=True),
                          AddedToken("file_sep", normalized=False), AddedToken("over", normalized=True, lstrip=True)])


def sentencepiece_bpe(**more):
    """A BPE of characters with byte fallback, as Llama 2's."""
    from tokenizers import models, pre_tokenizers, trainers
    model = trained(models.BPE(), trainers.BpeTrainer(vocab_size=330, limit_alphabet=110, show_progress=False),
                    pre_tokenizers.Metaspace(prepend_scheme="always"))
    tokens = ["<unk>", "<s>", "</s>"] + byte_tokens() + list(model["vocab"]) + [
        "\u2581" * n for n in (2, 3, 4) if "\u2581" * n not in model["vocab"]]
    merges = [tuple(merge) for merge in model["merges"]] + [("\u2581", "\u2581"), ("\u2581\u2581", "\u2581"),
                                                              ("\u2581\u2581", "\u2581\u2581")]
    options = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>", **more}
    return models.BPE({token: i for i, token in enumerate(tokens)}, merges, **options)


def byte_level_bpe(pre_tokenizer, **more):
    from tokenizers import models, pre_tokenizers, trainers
    model = trained(models.BPE(), trainers.BpeTrainer(vocab_size=330, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                                      show_progress=False), pre_tokenizer)
    tokens = list(model["vocab"]) + ["<s>", "</s>", "\u0120photosynthesiz"]
    return models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(m) for m in model["merges"]], **more)


def unigram(byte_fallback=False, pre_tokenizer=None, size=300):
    from tokenizers import models, pre_tokenizers, trainers
    trainer = trainers.UnigramTrainer(vocab_size=size, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    model = trained(models.Unigram(), trainer, pre_tokenizer or pre_tokenizers.Metaspace(prepend_scheme="always"))
    vocab = [tuple(entry) for entry in model["vocab"]] + [("<s>", 0.0), ("</s>", 0.0)]
    if byte_fallback:
        vocab += [(token, 0.0) for token in byte_tokens()]
    return models.Unigram(vocab, 0, byte_fallback)


def hugging_face_tokenizers(charsmap):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    made = {}

    def make(name, model, normalizer=None, pre_tokenizer=None, decoder=None, post_processor=None, rstrip=False):
        tokenizer = Tokenizer(model)
        if normalizer:
            tokenizer.normalizer = normalizer
        if pre_tokenizer:
            tokenizer.pre_tokenizer = pre_tokenizer
        if decoder:
            tokenizer.decoder = decoder
        if post_processor:
            tokenizer.post_processor = post_processor(tokenizer)
        add_tokens(tokenizer, rstrip)
        made[name] = tokenizer

    template = lambda single, *tokens: lambda t: processors.TemplateProcessing(
        single=single, special_tokens=[(token, t.token_to_id(token)) for token in tokens])
    split = lambda pattern, behavior="isolated", invert=False: pre_tokenizers.Split(
        Regex(pattern), behavior, invert=invert)
    byte_level = lambda use_regex=False, add_prefix_space=False: pre_tokenizers.ByteLevel(
        add_prefix_space=add_prefix_space, use_regex=use_regex)
    sequence = lambda *steps: pre_tokenizers.Sequence(list(steps))
    llama_decoder = lambda: decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                               decoders.Strip(" ", 1, 0)])
    llama_normalizer = lambda: normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])

    make("llama2", sentencepiece_bpe(), llama_normalizer(), None, llama_decoder(), template("<s> $A", "<s>"))
    make("mistral", sentencepiece_bpe(), None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), llama_decoder(),
         template("<s> $A </s>", "<s>", "</s>"))
    make("gemma", sentencepiece_bpe(), normalizers.Replace(" ", "\u2581"), pre_tokenizers.Split(" ", "merged_with_previous"),
         decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]), template("<s> $A", "<s>"))
    make("phi3", sentencepiece_bpe(ignore_merges=True), llama_normalizer(), None, llama_decoder(), None, rstrip=True)
    make("bpe_unknown", sentencepiece_bpe(byte_fallback=False, fuse_unk=False), None,
         pre_tokenizers.Metaspace(prepend_scheme="never"), decoders.Metaspace(prepend_scheme="never"))
    make("bpe_fused", sentencepiece_bpe(byte_fallback=False), normalizers.NFKC(), pre_tokenizers.Metaspace(), decoders.Metaspace())
    make("llama3", byte_level_bpe(sequence(split(LLAMA3), byte_level()), ignore_merges=True), None,
         sequence(split(LLAMA3), byte_level()), decoders.ByteLevel(),
         lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False), template("<s> $A", "<s>")(t)]))
    make("gpt_4o", byte_level_bpe(sequence(split(GPT_4O), byte_level())), None, sequence(split(GPT_4O), byte_level()),
         decoders.ByteLevel())
    deepseek = lambda: sequence(split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK),
                                byte_level())
    make("deepseek", byte_level_bpe(deepseek()), None, deepseek(), decoders.ByteLevel())
    falcon = lambda: sequence(pre_tokenizers.Punctuation("contiguous"), byte_level(True), pre_tokenizers.Digits(),
                              split("[0-9][0-9][0-9]"))
    make("falcon", byte_level_bpe(falcon()), None, falcon(), decoders.ByteLevel())
    make("roberta", byte_level_bpe(byte_level(True, True)), None, byte_level(True, True), decoders.ByteLevel(),
         lambda t: processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>"))))
    make("byte_normalizer", byte_level_bpe(None), normalizers.Sequence([normalizers.NFC(), normalizers.ByteLevel()]),
         split("\u0120", "merged_with_next"), decoders.ByteLevel())

    gpt = trained(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
                  trainers.BpeTrainer(vocab_size=330, special_tokens=["<unk>"], end_of_word_suffix="</w>", limit_alphabet=90,
                                      show_progress=False), pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer())
    make("gpt", models.BPE(gpt["vocab"], [tuple(m) for m in gpt["merges"]], unk_token="<unk>", end_of_word_suffix="</w>"),
         normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.BPEDecoder("</w>"))
    prefixed = trained(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"),
                       trainers.BpeTrainer(vocab_size=330, special_tokens=["<unk>"], continuing_subword_prefix="##",
                                           limit_alphabet=90, show_progress=False), pre_tokenizers.Whitespace())
    make("bpe_prefix", models.BPE(prefixed["vocab"], [tuple(m) for m in prefixed["merges"]], unk_token="<unk>", fuse_unk=True,
                                  continuing_subword_prefix="##"), normalizers.StripAccents(), pre_tokenizers.Whitespace(),
         decoders.WordPiece("##", cleanup=False))

    make("t5", unigram(), normalizers.Sequence([normalizers.Precompiled(charsmap), normalizers.Replace(Regex(" {2,}"), " ")]),
         pre_tokenizers.Metaspace(prepend_scheme="always"), decoders.Metaspace(prepend_scheme="always"),
         template("$A </s>", "</s>"))
    make("albert", unigram(), normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(),
        normalizers.Precompiled(charsmap)]), sequence(pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()),
         decoders.Metaspace(), template("<s> $A </s>", "<s>", "</s>"))
    make("unigram_bytes", unigram(True), normalizers.Sequence([normalizers.Nmt(), normalizers.Strip(left=False)]),
         pre_tokenizers.Metaspace(prepend_scheme="first"), llama_decoder())
    make("unigram_lines", unigram(False, split("\\n", "removed")), normalizers.NFD(), split("\\n", "removed"))

    bert = trained(models.WordPiece(unk_token="[UNK]"),
                   trainers.WordPieceTrainer(vocab_size=330, special_tokens=["[UNK]", "[CLS]", "[SEP]"], limit_alphabet=90,
                                             show_progress=False), pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer())
    word_piece = lambda **more: models.WordPiece(bert["vocab"], unk_token="[UNK]", **more)
    make("bert", word_piece(), normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece("##", True),
         lambda t: processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]"))))
    make("bert_cased", word_piece(max_input_chars_per_word=6), normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False),
        sequence(pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("removed")), decoders.WordPiece("##", False))
    words = {word: i for i, word in enumerate(["<unk>", *dict.fromkeys(" ".join(LINES).lower().split()), "|", "<pad>"])}
    make("word_level", models.WordLevel(words, unk_token="<unk>"),
         normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip()]), pre_tokenizers.WhitespaceSplit(),
         decoders.CTC(pad_token="a", word_delimiter_token="e"))
    make("word_level_cut", models.WordLevel({"<unk>": 0, " ": 1, "e": 2, "wate": 3, "abab": 4}, unk_token="<unk>"),
         normalizers.NFKD(), sequence(pre_tokenizers.CharDelimiterSplit("r"), pre_tokenizers.Digits(True),
                                      pre_tokenizers.Punctuation("merged_with_next"),
                                      split(r"\s+", "merged_with_previous"), pre_tokenizers.FixedLength(4)))
    return made


def hugging_face_goldens(tokenizer, strings):
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    ids = [encode(text) for text in strings]
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    tokenizer.encode_special_tokens = True
    plain = hash_ids([encode(text) for text in strings])
    tokenizer.encode_special_tokens = False
    decode = lambda some: tokenizer.decode(some, skip_special_tokens=True)
    with_special = [tokenizer.decode(some, skip_special_tokens=False) for some in some_ids(size)]
    return {"ids": blocks(ids, hash_ids), "plain": plain, "decoded": blocks([decode(some) for some in ids], hash_texts),
            "size": size, "some": blocks([decode(some) for some in some_ids(size)], hash_texts),
            "some_with_special": hash_texts(with_special), "wrapped": tokenizer.encode("hello a 1", add_special_tokens=True).ids}


def train_sentencepiece(folder, **options):
    import sentencepiece
    model = io.BytesIO()
    rules = folder / "rules.tsv"
    rules.write_text("".join(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n"
                             for source, target in RULES), encoding="utf-8")
    if options.pop("rules", False):
        options["normalization_rule_tsv"] = str(rules)
    else:
        options["normalization_rule_name"] = "identity"
    lines = [line.replace("\n", " ").replace("\0", "") for line in LINES]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([line for line in lines if line.strip()]), model_writer=model,
                                             num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    return model.getvalue()


def sentencepiece_models(folder):
    return {
        "sp_llama": train_sentencepiece(folder, model_type="bpe", vocab_size=560, byte_fallback=True, split_digits=True,
                                        allow_whitespace_only_pieces=True, remove_extra_whitespaces=False,
                                        character_coverage=0.98),
        "sp_bpe_rules": train_sentencepiece(folder, model_type="bpe", vocab_size=420, rules=True,
                                            user_defined_symbols=["<table>", "hello", "\n\n"], character_coverage=0.98),
        "sp_unigram": train_sentencepiece(folder, model_type="unigram", vocab_size=360, rules=True,
                                          user_defined_symbols=["<table>", "wat", "e\u0301"], character_coverage=0.98),
        "sp_unigram_bytes": train_sentencepiece(folder, model_type="unigram", vocab_size=560, byte_fallback=True,
                                                add_dummy_prefix=False, remove_extra_whitespaces=False,
                                                character_coverage=0.98),
    }


def all_code_points():
    """Every character between two letters, in lines of 256."""
    for start in range(0, 0x110000, 256):
        line = "".join("x" + chr(c) + "y" for c in range(start, start + 256) if not 0xD800 <= c <= 0xDFFF)
        if line:
            yield line


def normalizer_goldens():
    from tokenizers import Regex, normalizers
    kinds = [normalizers.NFC(), normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD(), normalizers.Nmt(),
             normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Strip(), normalizers.ByteLevel(),
             normalizers.BertNormalizer(), normalizers.BertNormalizer(True, False, False, False),
             normalizers.BertNormalizer(False, True, False, False), normalizers.BertNormalizer(False, False, True, False),
             normalizers.Replace(Regex(r"\p{L}x"), "_")]
    from tokenizers import Tokenizer, models
    result = []
    for kind in kinds:
        tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        tokenizer.normalizer = kind
        hashes = [fnv_text(kind.normalize_str(line))[:8] for line in all_code_points()]
        lines = [fnv_text("".join(hashes[i:i + 256]))[:8] for i in range(0, len(hashes), 256)]
        result.append({"normalizer": json.loads(tokenizer.to_str())["normalizer"], "planes": lines, "hash": fnv_text("".join(hashes))})
    return result


def main():
    import sentencepiece
    import tempfile
    import tokenizers
    strings = read_strings()
    folder = DATA / "kinds"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pieces = sentencepiece_models(Path(scratch))
    processors = {name: sentencepiece.SentencePieceProcessor(model_proto=model) for name, model in pieces.items()}
    sys.path.insert(0, str(Path(sentencepiece.__file__).parent))
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(pieces["sp_unigram"])
    goldens = {"made_by": "tools/make_tokenizer_kinds.py", "tokenizers": tokenizers.__version__,
               "sentencepiece": sentencepiece.__version__, "block": BLOCK, "tokenizers_json": {}, "models": {}}
    for name, tokenizer in hugging_face_tokenizers(proto.normalizer_spec.precompiled_charsmap).items():
        goldens["tokenizers_json"][name] = hugging_face_goldens(tokenizer, strings)
        text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    for name, processor in processors.items():
        (folder / f"{name}.model").write_bytes(pieces[name])
        goldens["models"][name] = {"ids": blocks([processor.encode(text) for text in strings], hash_ids)}
        if name == "sp_llama":
            count = processor.get_piece_size()
            kind = lambda i: (2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1)
            goldens["models"][name]["gguf"] = {
                "tokens": [processor.id_to_piece(i) for i in range(count)], "scores": [processor.get_score(i) for i in range(count)],
                "types": [kind(i) for i in range(count)]}
    write = lambda path, value: path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    write(DATA / "kinds.json", goldens)
    write(DATA / "normalizers.json", normalizer_goldens())
    sizes = {path.name: path.stat().st_size for path in [*folder.iterdir(), DATA / "kinds.json", DATA / "normalizers.json"]}
    print(sizes, sum(sizes.values()))


if __name__ == "__main__":
    main()
