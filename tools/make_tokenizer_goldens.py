#!/usr/bin/env python3
"""Makes the goldens of tests/text/tokenizer_test.cc and tests/model/tokenizer_parity_test.cc.

    python tools/make_tokenizer_goldens.py --smollm2 smollm2.gguf --qwen qwen.gguf [--tiktoken] [--llama-cpp]

Needs the packages `tokenizers` and `gguf`. Vocabulary and merges come out of the GGUF files; the pre-tokenizers are those
of the models' own tokenizer.json (not of Transformers' GGUF conversion, which warns of a wrong regex). Writes

    tests/text/data/tokenizer_strings.jsonl   the strings, one a line: "text" or {"hex": bytes that are not UTF-8}
    tests/text/data/tiny_{smollm,qwen2}.json  two tokenizers of a few hundred tokens, trained here
    tests/text/data/tiny_{smollm,qwen2}_ids.json  what they make of the strings
    tests/text/data/unicode_classes.json      how the reference sorts all code points
    tests/model/data/tokenizer_{smollm2,qwen}.json  what the real ones make of the strings

Ids are stored as such for the first strings, else as FNV-1a (64 bits) over the ids as little-endian int32.
--tiktoken and --llama-cpp compare the reference with a second one (packages tiktoken, llama-cpp-python) and write nothing.
"""

import argparse
import json
import random
import sys
import unicodedata
from pathlib import Path

IN_FULL = 150
GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
QWEN2 = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2000",
          "\u2003", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff"]
WORDS = """the of and to in is you that it he was for on are as with his they I at be this have from or one had by word
but not what all were we when your can said there use an each which she do how their if will up other about out many then
them these so some her would make like him into time has look two more write go see number no way could people my than
first water been call who oil its now find long down day did get come made may part Internationalization photosynthesis
Donaudampfschifffahrt antidisestablishmentarianism""".split()
TEXTS = [
    "I don't know; you've said they'll come, I'm sure he'd've. WE'RE HERE, IT'S 'TIS O'CLOCK, y'all'd",
    "It\u2019s curly: don\u2019t, \u2018quoted\u2019 \u201cdouble\u201d \u2014 dash \u2026",
    "'\u017f long s, '\u017fs, \u212a Kelvin, '\u017ft",
    "def f(x):\n    return x**2 + 1  # comment\n\n\nclass A(object):\n\tpass\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 0x1F; }\r\n// done\r\n",
    "SELECT * FROM t WHERE a != 'b' AND c >= 3.14e-10;",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org C:\\Temp\\x.txt",
    "1234567890 1,234.56 \u00bd \u2167 \u0663\u0664 \u0969 \u4e00\u4e8c\u4e09 \u3007 \U0001d7d8 3\u00b2 10\u207b\u00b3",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01 \u3053\u3093\u306b\u3061\u306f \uc548\ub155\ud558\uc138\uc694 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u0645\u0631\u062d\u0628\u0627 \u202babc\u202c \u200f\u200e \u0628\u0650\u0633\u0652\u0645\u0650",
    "cafe\u0301 Ame\u0301lie n\u0303 o\u0302\u0323 \u1ed9 A\u030a \u212b \u1100\u1161\u11a8 \u0958 \u2126 \ufb01 \ud55c",
    "\U0001f600\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea 1\ufe0f\u20e3 \u2764\ufe0f",
    "a\u0300\u0301\u0302\u0303\u0304 z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349",
    "    indented\n\n\n\n  \n \t \n end   ", "   ", "\n\n\n", " \n \n ", "\t\tx", "a  b   c    d", "x \n", " \u3000 \u3000a",
    "!!!???...---===", " !!", "!\n\n", "?!\r\n\r\n x", "(a)[b]{c}<d>", "$100 \u20ac5 \u00a33 \u00a57 #1 @me", "",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|", "<|im_end|><|im_end|>", "<|endoftext|>x",
    " <|im_end|> ", "<|im_<|im_end|>end|>", "<tool_call>{\"a\": 1}</tool_call>", "<repo_name>a/b<file_sep>c<|fim_prefix|>d",
    "[PAD151670]", "<|IM_END|>", "[mask] a[mask]b  [mask]  c", "say hello-token and ohello-tokeno or _hello-token!",
    "\u212bngstr\u00f6m A\u030angstr\u00f6m", "vi\u1ec7t vie\u0323\u0302t xvie\u0302\u0323tx VI\u1ec6T", "\0null\x01\x7f", "a\u0000b", "\ufffd\ufffe\uffff\U0010ffff",
    "a" * 300, "ab" * 200, " " * 200, "\n" * 130, "1" * 120, "!" * 150, "\u4e2d" * 90, "\U0001f600" * 60, "na\u00efve " * 30,
    "\u0301" * 70, " \n" * 60, "\u00e9e\u0301" * 50,
]
BAD_BYTES = [b"\xff", b"abc\x80def", b"\xc3", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x98", b"\xf0\x9f\x98\x80\xf0\x9f", b"\xc0\xaf",
             b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe0\x80\xaf", b"caf\xe9 au lait", b"\xfe\xff\x00a",
             b"\xf0\x80\x80\x80", b"\xed\xb0\x80\xed\xa0\xbd", b"ok \xc3\xa9 \xc3 \xa9", b"<|im_end|>\x80<|im_start|>"]


def make_strings():
    """About 5,300 strings, the same on every run."""
    draw = random.Random(20241104)
    strings = list(TEXTS)
    # Every block of 256 code points that Python's Unicode knows: a few of its characters, alone, after a letter, a space.
    for start in range(0, 0x110000, 256):
        block = [chr(c) for c in range(start, start + 256)
                 if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) not in ("Cn", "Co")]
        if not block:
            continue
        picked = draw.sample(block, min(6, len(block)))
        strings.append("".join(picked[:3]) + " " + "a".join(picked[3:]) + "\n" + picked[0] + "1")
    for plane in range(17):  # unassigned and private ones too
        for _ in range(12):
            strings.append("".join(chr(c) for c in (draw.randrange(plane << 16, (plane + 1) << 16) for _ in range(4))
                                   if not 0xD800 <= c <= 0xDFFF))
    for c in sorted({0x180E, 0x1C89, 0xA7CB, 0x10D40, 0x10D4A, 0x10D50, 0x11DE0, 0x16FF4, 0x2EBF0, 0x31350, 0x1E4D0, 0x897}):
        strings += [f"a{chr(c)}b {chr(c)} 1{chr(c)}2", f" {chr(c)}\n{chr(c)}{chr(c)} x"]
    for first in SPACES:
        for second in SPACES:
            strings.append(draw.choice(["a", "", "1", "!"]) + first + second + draw.choice(["b", "", "2", "?", "\n", " c"]))
    for letters in "eaounscyzAEO":
        for _ in range(12):
            marks = "".join(chr(draw.randrange(0x300, 0x370)) for _ in range(draw.randrange(1, 4)))
            strings.append("x" + letters + marks + draw.choice(["", " ", "y", "1"]))
    for _ in range(60):  # Hangul, by its parts and whole
        strings.append("".join(chr(draw.randrange(0x1100, 0x1113)) + chr(draw.randrange(0x1161, 0x1176)) +
                               draw.choice(["", chr(draw.randrange(0x11A8, 0x11C3))]) for _ in range(3)))
    emoji = [0x1F600, 0x1F44D, 0x1F468, 0x1F469, 0x1F467, 0x1F4BB, 0x2764, 0x2708, 0x1F525, 0x1F9D1]
    joints = ["", "\u200d", "\ufe0f", "\ufe0f\u200d", "\U0001f3fd", "\U0001f3ff\u200d", " "]
    for _ in range(250):
        strings.append("".join(chr(draw.choice(emoji)) + draw.choice(joints) for _ in range(draw.randrange(1, 6))))
    contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "'", "''", "'x", "\u2019s"]
    for _ in range(500):
        strings.append(" ".join(draw.choice(WORDS).title() * draw.randrange(2) + draw.choice(WORDS) +
                                draw.choice(contractions + [""] * 6) for _ in range(draw.randrange(1, 6))))
    for _ in range(400):
        strings.append("".join(draw.choice([str(draw.randrange(10 ** draw.randrange(1, 12))), ".", ",", " ", "-", "e", "x"])
                               for _ in range(draw.randrange(1, 8))))
    code = ["if", "(", ")", "{", "}", "\n", "    ", "\t", "==", "!=", "+=", "->", "::", ";", "x", "foo_bar", "CamelCase", "0xFF",
            "//", "/*", "*/", "#", "\"str\"", "'c'", "\\n", "<T>", "&&", "||", "return", "\r\n", "  "]
    for _ in range(700):
        strings.append("".join(draw.choice(code) + draw.choice(["", " "]) for _ in range(draw.randrange(2, 12))))
    scripts = [(0x41, 26), (0x61, 26), (0xC0, 64), (0x370, 100), (0x400, 200), (0x5D0, 27), (0x621, 40), (0x905, 50), (0xE01, 50),
               (0x3041, 80), (0x30A1, 80), (0x4E00, 20000), (0xAC00, 11000), (0x10A0, 60), (0x1200, 100), (0x20000, 40000)]
    for _ in range(900):
        text = ""
        for _ in range(draw.randrange(1, 6)):
            start, count = draw.choice(scripts)
            text += "".join(chr(start + draw.randrange(count)) for _ in range(draw.randrange(1, 6)))
            text += draw.choice(["", " ", ", ", "\n", "1", "!"])
        strings.append(text)
    specials = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "<file_sep>", "<repo_name>", "[mask]", "hello-token"]
    for _ in range(300):
        strings.append("".join(draw.choice(specials + WORDS[:20] + [" ", "  ", "\n", "<", "|", ">"])
                               for _ in range(draw.randrange(1, 7))))
    raw = list(BAD_BYTES)
    for _ in range(250):
        text = bytearray(draw.choice(strings[:60] or ["x"])[:30].encode("utf-8"))
        for _ in range(draw.randrange(1, 4)):
            text.insert(draw.randrange(len(text) + 1), draw.randrange(256))
        raw.append(bytes(text))
    return strings, raw


def fnv(numbers):
    value = 0xCBF29CE484222325
    for number in numbers:
        for byte in int(number).to_bytes(4, "little"):
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def fnv_text(text):
    value = 0xCBF29CE484222325
    for byte in text.encode("utf-8"):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def set_pre_tokenizer(tokenizer, pre):
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers
    if pre == "smollm":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    elif pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        sys.exit(f"pre-tokenizer {pre} is not known here")
    tokenizer.decoder = decoders.ByteLevel()


def read_gguf(path):
    from gguf import GGUFReader
    reader = GGUFReader(path)
    value = lambda key: reader.fields[key].contents()
    return (value("tokenizer.ggml.pre"), value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type"),
            [tuple(merge.split(" ")) for merge in value("tokenizer.ggml.merges")])


def from_gguf(path):
    from tokenizers import AddedToken, Tokenizer, models
    pre, tokens, types, merges = read_gguf(path)
    # Converters fill a matrix's unused rows up with "[PADn]" (type 5); the model's own tokenizer.json has no such tokens.
    tokenizer = Tokenizer(models.BPE({token: i for i, (token, kind) in enumerate(zip(tokens, types)) if kind != 5}, merges))
    set_pre_tokenizer(tokenizer, pre)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k in (2, 3)])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types) if k == 4])
    return tokenizer


def make_tiny(pre, strings):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    set_pre_tokenizer(tokenizer, pre)
    trainer = trainers.BpeTrainer(vocab_size=296, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS)] * 4 + TEXTS + ["naïve café"] * 9, trainer)
    tokenizer.add_special_tokens([
        AddedToken("<|im_start|>", special=True, normalized=False), AddedToken("<|im_end|>", special=True, normalized=False),
        AddedToken("<|im_", special=True, normalized=False),
        AddedToken("[mask]", special=True, normalized=False, lstrip=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken("hello-token", single_word=True, normalized=True),
                          AddedToken("vi\u1ec7t", normalized=True)])
    return tokenizer


def goldens_of(tokenizer, strings, raw, source):
    import tokenizers
    texts = strings + [data.decode("utf-8", errors="replace") for data in raw]
    draw = random.Random(7)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    ids = [encode(text) for text in texts]
    tokenizer.encode_special_tokens = True
    plain = [encode(text) for text in texts]
    tokenizer.encode_special_tokens = False
    known = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    decodes = []
    for i in range(120):
        some = [draw.choice(known) for _ in range(draw.randrange(1, 12))] if i % 2 else draw.choice(ids)[:12]
        if i % 3 == 0:
            some = some + [known[-1], known[0]]
        decodes.append({"ids": some, "text": tokenizer.decode(some, skip_special_tokens=True),
                        "with_special": fnv_text(tokenizer.decode(some, skip_special_tokens=False))})
    return {"made_by": "tools/make_tokenizer_goldens.py", "tokenizers": tokenizers.__version__, "source": source,
            "ids": ids[:IN_FULL], "hashes": [fnv(x) for x in ids],
            "hash_of_all_without_special": fnv([n for x in plain for n in x + [2**31 - 1]]), "decodes": decodes}


def classes():
    """The code points of each class, from the engines inside `tokenizers`."""
    import tokenizers
    from tokenizers import Regex, pre_tokenizers
    points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    result = {}
    for name in (r"\p{L}", r"\p{N}", r"\s", r"\p{M}", r"[\p{Lu}\p{Lt}]", r"\p{Ll}"):
        split = pre_tokenizers.Split(Regex(name), "removed", invert=True)
        found = set()
        for i in range(0, len(points), 8192):
            for piece, _ in split.pre_tokenize_str("".join(map(chr, points[i:i + 8192]))):
                found.update(map(ord, piece))
        result[name] = found
    digits = pre_tokenizers.Digits(individual_digits=True)
    result["Digits"] = {ord(piece) for i in range(0, len(points), 8192)
                        for piece, _ in digits.pre_tokenize_str("".join("a" + chr(c) for c in points[i:i + 8192]) + "a")
                        if len(piece) == 1 and piece != "a"}
    return {"made_by": "tools/make_tokenizer_goldens.py", "tokenizers": tokenizers.__version__,
            "classes": {name: {"count": len(found), "hash": fnv(sorted(found))} for name, found in result.items()}}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def byte_alphabet():
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b]
    table, moved = {chr(b): b for b in printable}, 256
    for b in range(256):
        if b not in printable:
            table[chr(moved)] = b
            moved += 1
    return table


def second_reference_tiktoken(path, texts):
    """tiktoken splits by its own regex engine and merges by its own code."""
    import tiktoken
    pre, tokens, types, merges = read_gguf(path)
    alphabet = byte_alphabet()
    to_bytes = lambda token: bytes(alphabet[c] for c in token)
    ids = {token: i for i, token in enumerate(tokens)}
    # tiktoken ranks tokens where a merge list ranks pairs: the first merge that makes a token decides.
    rank_of, id_of_rank, rank = {}, {}, 0
    for b, c in sorted((b, c) for c, b in alphabet.items()):
        if c in ids:
            rank_of[bytes([b])], id_of_rank[rank] = rank, ids[c]
        else:
            rank_of[bytes([b])], id_of_rank[rank] = rank, None
        rank += 1
    for left, right in merges:
        made = to_bytes(left + right)
        if made not in rank_of:
            rank_of[made], id_of_rank[rank] = rank, ids[left + right]
            rank += 1
    special = {t: 10**6 + i for i, (t, k) in enumerate(zip(tokens, types)) if k in (2, 3, 4)}
    # Digits cut the text first: white space before a digit stands at the end of its part.
    pattern = QWEN2 if pre == "qwen2" else GPT2.replace(r"| ?\p{N}+", r"|\p{N}").replace(r"|\s+(?!\S)", r"|\s+(?=\p{N})|\s+(?!\S)")
    encoding = tiktoken.Encoding("gguf", pat_str=pattern, mergeable_ranks=rank_of, special_tokens=special)
    normal = (lambda t: unicodedata.normalize("NFC", t)) if pre == "qwen2" else (lambda t: t)
    out = []
    for text in texts:
        found = encoding.encode(normal(text), allowed_special="all")
        found = [i - 10**6 if i >= 10**6 else id_of_rank[i] for i in found]
        out.append([i for i in found if i is not None])
    return out


def second_reference_llama(path, texts):
    from llama_cpp import Llama
    llama = Llama(path, vocab_only=True, verbose=False)
    return [llama.tokenize(text.encode("utf-8"), add_bos=False, special=True) for text in texts]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", required=True)
    parser.add_argument("--qwen", required=True)
    parser.add_argument("--out", default=str(Path(__file__).resolve().parent.parent / "tests"))
    parser.add_argument("--tiktoken", action="store_true")
    parser.add_argument("--llama-cpp", action="store_true")
    options = parser.parse_args()
    strings, raw = make_strings()
    texts = strings + [data.decode("utf-8", errors="replace") for data in raw]
    print(f"{len(texts)} strings, {len(raw)} of them from invalid UTF-8")
    if options.tiktoken or options.llama_cpp:
        for path in (options.smollm2, options.qwen):
            reference = from_gguf(path)
            second = (second_reference_tiktoken if options.tiktoken else second_reference_llama)(path, texts)
            first = [reference.encode(text, add_special_tokens=False).ids for text in texts]
            differ = [i for i in range(len(texts)) if first[i] != second[i]]
            print(f"{path}: {len(texts) - len(differ)} of {len(texts)} equal")
            for i in differ[:10]:
                print("   ", ascii(texts[i])[:100], first[i][:12], second[i][:12])
        return
    out = Path(options.out)
    lines = [json.dumps(text, ensure_ascii=False) for text in strings] + [json.dumps({"hex": data.hex()}) for data in raw]
    (out / "text/data").mkdir(parents=True, exist_ok=True)
    (out / "text/data/tokenizer_strings.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write(out / "text/data/unicode_classes.json", classes())
    for pre in ("smollm", "qwen2"):
        tokenizer = make_tiny(pre, strings)
        write(out / f"text/data/tiny_{pre}.json", json.loads(tokenizer.to_str()))
        write(out / f"text/data/tiny_{pre}_ids.json", goldens_of(tokenizer, strings, raw, f"trained here, pre-tokenizer {pre}"))
    for name, path in (("smollm2", options.smollm2), ("qwen", options.qwen)):
        write(out / f"model/data/tokenizer_{name}.json", goldens_of(from_gguf(path), strings, raw, Path(path).name))


if __name__ == "__main__":
    main()
