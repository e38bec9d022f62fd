#!/usr/bin/env python3
"""Holds 4- and 8-bit folders against transformers: what we write as it reads it, and what GPTQModel writes as we do.

usage: readers.py [FOLDER ...]

Needs torch, transformers, accelerate, compressed-tensors and gptqmodel from PyPI (6 GB), and the release
builds of the examples `quantize` and `logits`. Without folders it makes random models of two families and
quantizes them in every way. Differences are the greatest between logits of `logits --act f32` and of the tool on
the CPU over 32 positions: with weights that the tool unpacked to f32, and as it runs: AWQ with weights in f16; 8
bits with activations of 8 bits, against `--act int8`, where the median of the positions is taken, as an activation
on the edge between two steps may fall to either side and move all that follows by as much as rounding does. Fails
where the first is over 1e-5 of the greatest logit, or the second over 1e-2 (8 bits: 1e-5).
"""
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # its own default is one too few where there are two cores

import torch
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig
from transformers import AutoModelForCausalLM, AwqConfig, CompressedTensorsConfig, LlamaConfig, Qwen2Config

TARGET = os.environ.get("CARGO_TARGET_DIR", pathlib.Path(__file__).resolve().parent.parent / "target")
PROGRAMS = pathlib.Path(TARGET, "release/examples").resolve()
TOOLS = ["torch", "transformers", "compressed-tensors", "gptqmodel"]
METHODS = {
    "rtn": ["--group-size", "64"],
    "awq": ["--group-size", "64"],
    "awq-gptq": ["--group-size", "64"],
    "smoothquant": [],
}
IDS = torch.randint(3, 256, (2, 16), generator=torch.Generator().manual_seed(1))


def byte_tokenizer():
    """`tokenizer.json` of 256 tokens, a byte each, in GPT-2's alphabet."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    alphabet = {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": alphabet, "merges": []}
    return {"added_tokens": [], "pre_tokenizer": level, "decoder": level, "model": model}


def random_model(family, folder):
    """A saved random model. Its weights are large enough for attention to have something to say."""
    config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[family](
        vocab_size=256, hidden_size=256, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 1.5 * parameter.shape[1] ** -0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.2)
    model.half().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(byte_tokenizer()))


def run(program, *arguments, stdin=None):
    """What one of our programs prints."""
    command = [PROGRAMS / program, *map(str, arguments)]
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, text=True, check=True).stdout


def ours(folder, act):
    requests = "".join(json.dumps({"ids": row}) + "\n" for row in IDS.tolist())
    lines = run("logits", "--json", "--model", folder, "--act", act, stdin=requests)
    return torch.tensor([json.loads(line)["logits"] for line in lines.splitlines()])


def in_f32(model):
    """The same model with each packed layer unpacked by GPTQModel's code, at its scales in f32: the layers
    themselves compute with weights in f16."""
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

    for name, module in list(model.named_modules()):
        if not hasattr(module, "qweight"):
            continue
        if type(module).__name__.startswith("Awq"):
            about = module.qweight, module.qzeros, module.scales.float(), module.bits, module.group_size
            weight = dequantize_gemm(*about)
        else:
            module.scales = module.scales.float()
            weight = module.dequantize_weight()
        linear = torch.nn.Linear(*weight.shape, bias=module.bias is not None)
        linear.weight.data = weight.T.float().contiguous()
        if module.bias is not None:
            linear.bias.data = module.bias.float()
        model.set_submodule(name, linear)
    return model


def round_input(_, inputs):
    """8 bits as vLLM's kernels round: by token, to steps of the greatest value / 127."""
    step = inputs[0].abs().amax(-1, keepdim=True) / 127
    return ((inputs[0] / step).round() * step,)


def theirs(folder, method):
    """Logits with the folder's weights in f32, and as the tool runs them. 8-bit folders as vLLM would: transformers
    itself rounds activations to steps of the greatest value / 127.5."""
    options = {"dtype": torch.float32, "device_map": "cpu"}
    if method == "compressed-tensors":
        dense = CompressedTensorsConfig(run_compressed=False)
        model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=dense, **options)
        exact = logits(model)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                module.register_forward_pre_hook(round_input)
        return exact, logits(model)
    if method == "awq":
        plain = AwqConfig(backend="torch_awq")
        model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=plain, **options)
    else:
        model = GPTQModel.load(str(folder), backend=BACKEND.GPTQ_TORCH, device="cpu", dtype=torch.float16).model.float()
    runs = logits(model)
    return logits(in_f32(model)), runs


def logits(model):
    with torch.no_grad():
        return model(IDS).logits.float()


def row(name, folder):
    """Prints a row; whether it is near enough."""
    method = json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"]
    exact, runs = theirs(folder, method)
    greatest = exact.abs().max()
    difference = (ours(folder, "f32") - exact).abs().max()
    eight_bits = method == "compressed-tensors"
    positions = (ours(folder, "int8" if eight_bits else "f32") - runs).abs().amax(-1)
    beside = positions.median() if eight_bits else positions.max()
    print(f"| {name} | {greatest:.1f} | {difference:.1e} | {beside:.1e} |", flush=True)
    return difference <= 1e-5 * greatest and beside <= (1e-5 if eight_bits else 1e-2) * greatest


def gptq(source, folder, desc_act):
    """A folder that GPTQModel makes."""
    config = QuantizeConfig(bits=4, group_size=64, desc_act=desc_act)
    model = GPTQModel.load(str(source), config, device="cpu")
    ids = torch.randint(3, 256, (16, 64), generator=torch.Generator().manual_seed(2))
    model.quantize([{"input_ids": line.tolist(), "attention_mask": [1] * 64} for line in ids], batch_size=1)
    model.save(str(folder))


def main(folders):
    print(", ".join(f"{tool} {importlib.metadata.version(tool)}" for tool in TOOLS) + "\n")
    print("| folder | greatest logit | difference, weights in f32 | difference to the tool as it runs |")
    print("| --- | --- | --- | --- |")
    if folders:
        return all([row(folder.name, folder) for folder in map(pathlib.Path, folders)])
    near = []
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)  # where GPTQModel leaves its logs
        for family in ["llama", "qwen2"]:
            source = pathlib.Path(place, family)
            random_model(family, source)
            for method, options in METHODS.items():
                out = pathlib.Path(place, f"{family}-{method}")
                blocks = ["--samples", 8, "--seq-len", 64]
                run("quantize", "--model", source, "--method", method, *options, *blocks, "--out", out)
                near.append(row(f"{family}, `{method}`", out))
            for desc_act in [False, True]:
                out = pathlib.Path(place, f"{family}-gptq-{desc_act}")
                gptq(source, out, desc_act)
                near.append(row(f"{family}, GPTQModel, `desc_act` {desc_act}".lower(), out))
    return all(near)


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
