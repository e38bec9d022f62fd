#!/usr/bin/env python3
"""Reads an AWQ folder by the rules of the format, with nothing of ours, and holds it against its source.

awq_reader.py SOURCE OUT

SOURCE is a dense folder, OUT what `quantize --method rtn` made of it. Every weight must lie within half
a step of the source's, and be what rounding to nearest gives, computed here in plain numpy; names, shapes
and dtypes must be those that AutoAWQ, LMDeploy, transformers and vLLM read.

The format (AutoAWQ: awq/modules/linear/gemm.py, awq/utils/packing_utils.py): bits 4i to 4i+3 of a word
are output 8c + [0, 2, 4, 6, 1, 3, 5, 7][i] of input row r; weight = (code - zero) * scale.
"""

import json
import sys
from pathlib import Path

import numpy as np

ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
DTYPES = {"F32": np.float32, "F16": np.float16, "I32": np.int32}


def tensors(folder):
    """Every tensor of a folder's safetensors files."""
    found = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        for name, about in json.loads(data[8:start]).items():
            if name == "__metadata__":
                continue
            begin, end = (start + at for at in about["data_offsets"])
            if about["dtype"] == "BF16":
                wide = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16
                found[name] = wide.view(np.float32).reshape(about["shape"])
            else:
                found[name] = np.frombuffer(data[begin:end], DTYPES[about["dtype"]]).reshape(about["shape"])
    return found


def unpack(words):
    """(rows, n / 8) words -> (rows, n) codes."""
    words = words.view(np.uint32)
    codes = np.empty((words.shape[0], words.shape[1], 8), np.int32)
    for nibble, output in enumerate(ORDER):
        codes[:, :, output] = words >> np.uint32(4 * nibble) & np.uint32(15)
    return codes.reshape(words.shape[0], -1)


def check(path, source, out, group_size):
    weight = source[f"{path}.weight"].astype(np.float32).T  # (in, out)
    codes, zeros = unpack(out[f"{path}.qweight"]), unpack(out[f"{path}.qzeros"])
    stored = out[f"{path}.scales"]
    assert stored.dtype == np.float16, f"{path}.scales is {stored.dtype}"
    assert codes.shape == weight.shape, f"{path}: {codes.shape}, the source has {weight.shape}"
    groups = weight.shape[0] // group_size
    assert zeros.shape == stored.shape == (groups, weight.shape[1]), f"{path}: zeros {zeros.shape}"
    assert f"{path}.weight" not in out, f"{path} is there twice"

    grouped = weight.reshape(groups, group_size, -1)
    low, high = grouped.min(1), grouped.max(1)
    step = np.maximum(high - low, np.float32(1e-5)) / np.float32(15)
    assert np.abs(stored - step).max() <= np.abs(step).max() * 2**-10, f"{path}: other scales"
    scales = stored.astype(np.float32)
    read = ((codes.reshape(grouped.shape) - zeros[:, None]) * scales[:, None])
    # All weights but those that a group of one sign can't reach are within half a step, and a little
    # for the scale that f16 holds.
    reach = (low <= 0) & (high >= 0)
    error = np.where(reach[:, None], np.abs(read - grouped), 0) / scales[:, None]
    assert error.max() < 0.53, f"{path}: a weight is {error.max():.3f} steps off"
    return error.max()


def main():
    source, out = tensors(sys.argv[1]), tensors(sys.argv[2])
    about = json.loads((Path(sys.argv[2]) / "config.json").read_text())["quantization_config"]
    want = {"quant_method": "awq", "version": "gemm", "bits": 4, "zero_point": True}
    assert want.items() <= about.items(), about
    packed = sorted(name.removesuffix(".qweight") for name in out if name.endswith(".qweight"))
    assert packed, "no packed weights"
    worst = max(check(path, source, out, about["group_size"]) for path in packed)
    kept = [name for name in source if f"{name.removesuffix('.weight')}.qweight" not in out]
    for name in kept:
        assert np.array_equal(source[name], out[name]), f"{name} was changed"
    print(f"{len(packed)} packed matrices within {worst:.3f} steps, {len(kept)} other tensors equal")


if __name__ == "__main__":
    main()
