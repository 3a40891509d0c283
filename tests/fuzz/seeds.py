"""Writes what the fuzzers start from: seeds.py FOLDER. Made by code so that no binary is kept."""

import pathlib
import struct
import sys


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def array(key, kind, items):
    return value(key, 9, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def number(key, amount):
    return value(key, 4, struct.pack("<I", amount))


def gguf(architecture, values, tensors):
    values = [value("general.architecture", 8, text(architecture)), *values]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values)
    for place, (name, kind, shape) in enumerate(tensors):
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, place * 1024)
    return head + bytes(-len(head) % 32) + bytes(len(tensors) * 1024)


def shape(architecture, *extra):
    facts = {
        "block_count": 4, "context_length": 8192, "embedding_length": 256, "feed_forward_length": 512,
        "attention.head_count": 4, "attention.key_length": 64, "attention.value_length": 64,
    }
    return [number(f"{architecture}.{key}", amount) for key, amount in facts.items()] + list(extra)


def i32(*numbers):
    return [struct.pack("<i", it) for it in numbers]


VOCABULARY = [
    value("tokenizer.ggml.model", 8, text("gpt2")),
    array("tokenizer.ggml.tokens", 8, [text(it) for it in ("a", "Ġb", "<|e|>")]),
    array("tokenizer.ggml.token_type", 5, i32(1, 1, 3)),
    array("tokenizer.ggml.merges", 8, [text("Ġ b")]),
    value("tokenizer.chat_template", 8, text("{{ messages }}")),
]
TENSORS = [("token_embd.weight", 0, (8, 8)), ("blk.0.attn_q.weight", 2, (32, 8)), ("blk.3.ffn_up.weight", 12, (256, 1))]
HEADERS = {
    "llama": gguf("llama", shape("llama", *VOCABULARY, number("general.file_type", 15)), TENSORS),
    "gemma3": gguf("gemma3", shape("gemma3", number("gemma3.attention.sliding_window", 512)), TENSORS),
    "gemma4": gguf("gemma4", shape("gemma4", number("gemma4.attention.sliding_window", 512),
        number("gemma4.attention.shared_kv_layers", 1),
        array("gemma4.attention.sliding_window_pattern", 7, [b"\1", b"\1", b"\0", b"\1"])), []),
    "deepseek2": gguf("deepseek2", shape("deepseek2", number("deepseek2.attention.key_length_mla", 192),
        number("deepseek2.attention.value_length_mla", 128), number("deepseek2.expert_used_count", 6)), []),
    "lfm2": gguf("lfm2", shape("lfm2", array("lfm2.attention.head_count_kv", 5, i32(0, 2, 0, 2)),
        number("lfm2.shortconv.l_cache", 3)), []),
    "mamba": gguf("mamba", shape("mamba", number("mamba.ssm.conv_kernel", 4), number("mamba.ssm.inner_size", 512),
        number("mamba.ssm.state_size", 16)), []),
    "shard": gguf("llama", [value("split.no", 2, struct.pack("<H", 1)), value("split.count", 2, struct.pack("<H", 3)),
        value("split.tensors.count", 5, struct.pack("<i", 9)), number("general.alignment", 64)], []),
}
REFERENCES = [
    "acme/tiny", "hf:acme/tiny:Q4_K_M@v1.0", "huggingface.co/acme/tiny/sub/a.gguf", "file:///models/a.gguf",
    "https://huggingface.co/acme/tiny/blob/main/a.gguf?download=true", "acme/tiny/a@b.gguf@main", "sub/../x", ".cache/x",
]
LISTINGS = [
    ":Q4_K_M\nm-Q4_K_M.gguf\nm-UD-Q4_K_M.gguf\nmmproj-F16.gguf",
    "\na/m-Q8_0-00001-of-00002.gguf\na/m-Q8_0-00002-of-00002.gguf\nREADME.md",
    "/Q6_K/m-00002-of-00003.gguf\nQ6_K/m-00001-of-00003.gguf\nQ6_K/m-00002-of-00003.gguf",
    ":i1-IQ3_XXS\nm.i1-IQ3_XXS.gguf\nm.imatrix.gguf\nm.safetensors\nm.gguf-split-a",
]


def main():
    folder = pathlib.Path(sys.argv[1])
    texts = {"reference": REFERENCES, "listing_selection": LISTINGS}
    sets = {name: {str(place): it.encode() for place, it in enumerate(all)} for name, all in texts.items()}
    for target, seeds in {"gguf_header": HEADERS, **sets}.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / target / f"seed-{name}").write_bytes(data)


main()
