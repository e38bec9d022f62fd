#!/usr/bin/env python3
"""Makes the models of the comparison.

models.py folder SOURCE.gguf OUT_DIR f32|bf16     a GGUF file of the llama kind -> a Hugging Face folder
models.py random-folder SHAPE OUT_DIR f32|bf16    random weights in a shape     -> a Hugging Face folder
models.py random-gguf SHAPE OUT.gguf f32|bf16     the same weights              -> a GGUF file
models.py random-gguf SHAPE OUT.gguf q4_0         random blocks of 4 bits, norms f32

Random weights serve for speed only. Files are written tensor by tensor, in little memory.
Needs `numpy` and `gguf`.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

# The decoder of InternLM2-1.8B under the llama names, which both peers read.
SHAPES = {
    "internlm2-1.8b": {
        "hidden_size": 2048,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 92544,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}
SHAPES["internlm2.5-7b"] = SHAPES["internlm2-1.8b"] | {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 14336,
}

GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    """`model.layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight`."""
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem = name.removesuffix(".weight")
    if stem in outer:
        return outer[stem] + ".weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest]}.weight"


def tensor_shapes(config):
    """Every tensor of the decoder by its checkpoint path, in the order of the file."""
    hidden = config["hidden_size"]
    head_dim = hidden // config["num_attention_heads"]
    q_rows = config["num_attention_heads"] * head_dim
    kv_rows = config["num_key_value_heads"] * head_dim
    inner = config["intermediate_size"]
    block = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (q_rows, hidden),
        "self_attn.k_proj": (kv_rows, hidden),
        "self_attn.v_proj": (kv_rows, hidden),
        "self_attn.o_proj": (hidden, q_rows),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        for name, shape in block.items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def to_bf16(values):
    """Round f32 to the nearest bf16, ties to even. Weights are finite, so NaN needs no care."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def encode(values, dtype):
    return to_bf16(values) if dtype == "bf16" else np.ascontiguousarray(values, np.float32)


class RandomWeights:
    """Normal values with a deviation of 0.02; norms are ones. They come from a pool of 4 Mi values
    that is read from a new place for every tensor: drawing all two billion would take minutes."""

    def __init__(self, dtype):
        self.rng = np.random.default_rng(1)
        pool = self.rng.standard_normal(1 << 22, np.float32) * np.float32(0.02)
        self.pool, self.dtype = encode(pool, dtype), dtype

    def tensor(self, shape):
        if len(shape) == 1:
            return encode(np.ones(shape, np.float32), self.dtype)
        start = int(self.rng.integers(len(self.pool)))
        return np.resize(np.roll(self.pool, -start), shape)


class RandomBlocks:
    """Q4_0 blocks of 32 weights: a scale as f16, then 16 bytes of codes. Values have a deviation of
    0.02 as well: that of a code is 4.6 steps."""

    def __init__(self):
        self.rng = np.random.default_rng(1)
        blocks = self.rng.integers(0, 256, (1 << 17, 18), np.uint8)
        blocks[:, :2] = np.full(len(blocks), 0.02 / 4.6, np.float16).view(np.uint8).reshape(-1, 2)
        self.pool = blocks.reshape(-1)

    def tensor(self, shape):
        start = int(self.rng.integers(1 << 17)) * 18
        return np.resize(np.roll(self.pool, -start), int(np.prod(shape)) // 32 * 18)


def write_folder(folder, config, dtype, tensor):
    """Write config.json and model.safetensors; `tensor(name, shape)` gives the encoded values."""
    folder.mkdir(parents=True, exist_ok=True)
    torch_dtype = {"f32": "float32", "bf16": "bfloat16"}[dtype]
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
              "torch_dtype": torch_dtype, **config}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shapes, header, at = tensor_shapes(config), {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * (2 if dtype == "bf16" else 4)
        header[name] = {"dtype": dtype.upper(), "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    part = folder / "model.safetensors.tmp"
    with open(part, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            tensor(name, shape).tofile(file)
    part.rename(folder / "model.safetensors")


def unpermute(rows, num_heads):
    """llama.cpp's converter interleaves the two halves of every rotated head; undo it."""
    out_features, in_features = rows.shape
    pairs = rows.reshape(num_heads, out_features // num_heads // 2, 2, in_features)
    return pairs.swapaxes(1, 2).reshape(out_features, in_features)


def folder(source, out, dtype):
    reader = gguf.GGUFReader(source)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def field(name, default=None):
        found = reader.get_field(name)
        return default if found is None else found.contents()

    heads = field("llama.attention.head_count")
    kv_heads = field("llama.attention.head_count_kv", heads)
    config = {
        "hidden_size": field("llama.embedding_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": field("llama.feed_forward_length"),
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(field("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
    }

    def tensor(name, shape):
        stored = tensors[gguf_name(name)]
        values = gguf.quants.dequantize(stored.data, stored.tensor_type).reshape(shape)
        if "q_proj" in name:
            values = unpermute(values, heads)
        elif "k_proj" in name:
            values = unpermute(values, kv_heads)
        return encode(values, dtype)

    write_folder(Path(out), config, dtype, tensor)


def random_folder(shape, out, dtype):
    weights = RandomWeights(dtype)
    write_folder(Path(out), SHAPES[shape], dtype, lambda _, shape: weights.tensor(shape))


def random_gguf(shape, out, dtype):
    config = SHAPES[shape]
    weights = RandomBlocks() if dtype == "q4_0" else RandomWeights(dtype)
    kinds, files = gguf.GGMLQuantizationType, gguf.LlamaFileType
    kind, file_type, block, block_bytes = {
        "f32": (kinds.F32, files.ALL_F32, 1, 4),
        "bf16": (kinds.BF16, files.MOSTLY_BF16, 1, 2),
        "q4_0": (kinds.Q4_0, files.MOSTLY_Q4_0, 32, 18),
    }[dtype]
    part = Path(out + ".tmp")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_name(f"random {shape}")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(file_type)

    # llama.cpp wants a vocabulary of the right size, though ids are all that the benchmark feeds.
    types = gguf.TokenType
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    token_types = [types.UNKNOWN, types.CONTROL, types.CONTROL] + [types.BYTE] * 256
    unused = config["vocab_size"] - len(tokens)
    tokens += [f"[UNUSED_{id}]" for id in range(unused)]
    token_types += [types.UNUSED] * unused
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(token_types)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])

    shapes = tensor_shapes(config)
    for name, shape in shapes.items():
        size = int(np.prod(shape))  # norms are f32 in every GGUF file
        is_norm = len(shape) == 1
        size = size * 4 if is_norm else size // block * block_bytes
        writer.add_tensor_info(gguf_name(name), shape, np.dtype(np.float32), size,
                               raw_dtype=kinds.F32 if is_norm else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape in shapes.items():
        writer.write_tensor_data(np.ones(shape, np.float32) if len(shape) == 1 else weights.tensor(shape))
    writer.close()
    part.rename(out)


def main():
    commands = {"folder": folder, "random-folder": random_folder, "random-gguf": random_gguf}
    if len(sys.argv) != 5 or sys.argv[1] not in commands or sys.argv[4] not in ("f32", "bf16", "q4_0"):
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
