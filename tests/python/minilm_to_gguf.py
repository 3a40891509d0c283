"""Writes all-MiniLM-L6-v2 as a GGUF of llama.cpp's architecture `bert`, without torch.

minilm_to_gguf.py FOLDER FILE    FOLDER holds config.json, vocab.txt and model.safetensors, as sentence-transformers has them

The vectors of a text's tokens become one by their mean, and matrices are stored as 16-bit numbers.
"""

import json
import struct
import sys
from pathlib import Path

import gguf
import numpy

CONTROL, NORMAL, UNUSED = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.UNUSED

# Our names of a layer's parts by BERT's.
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def safetensors(path: Path) -> dict[str, numpy.ndarray]:
    """All tensors of a file: eight bytes of length, as much JSON that says what lies where, and the numbers."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    start = 8 + length
    tensors = {}
    for name, entry in json.loads(content[8:start]).items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        numbers = numpy.frombuffer(content[start + begin : start + end], numpy.float32)
        tensors[name.removeprefix("bert.")] = numbers.reshape(entry["shape"])
    return tensors


def token(text: str) -> tuple[str, int]:
    """A token as llama.cpp has it: it marks where a word begins, not where one goes on."""
    if text.startswith("[") and text.endswith("]"):
        return text, UNUSED if text.startswith("[unused") else CONTROL
    return (text[2:], NORMAL) if text.startswith("##") else ("\u2581" + text, NORMAL)


def convert(folder: Path, file: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    tensors = safetensors(folder / "model.safetensors")
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    place = {word: number for number, word in enumerate(words)}
    assert len(words) == config["vocab_size"], "the vocabulary is another model's"

    writer = gguf.GGUFWriter(file, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    # Longer inputs have positions, but the model was trained on inputs of 256 tokens at most.
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)

    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_type_count(config["type_vocab_size"])
    texts, kinds = zip(*map(token, words))
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(place["[CLS]"])
    writer.add_eos_token_id(place["[SEP]"])
    writer.add_sep_token_id(place["[SEP]"])
    writer.add_unk_token_id(place["[UNK]"])
    writer.add_pad_token_id(place["[PAD]"])
    writer.add_mask_token_id(place["[MASK]"])

    def add(name: str, source: str, kind: type = numpy.float32) -> None:
        writer.add_tensor(name, tensors[source].astype(kind))

    def add_both(name: str, source: str) -> None:
        is_norm = name.endswith("_norm")
        add(f"{name}.weight", f"{source}.weight", numpy.float32 if is_norm else numpy.float16)
        add(f"{name}.bias", f"{source}.bias")

    add("token_embd.weight", "embeddings.word_embeddings.weight", numpy.float16)
    add("position_embd.weight", "embeddings.position_embeddings.weight")
    add("token_types.weight", "embeddings.token_type_embeddings.weight")
    add_both("token_embd_norm", "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        for source, name in LAYER.items():
            add_both(f"blk.{layer}.{name}", f"encoder.layer.{layer}.{source}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
