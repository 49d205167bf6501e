"""Checks every NAME.onnx in a folder: onnx.checker in full, then ONNX Runtime and a float64 numpy
forward of the timm-named weights in NAME.weights.safetensors, on the input in NAME.input.safetensors.
Prints one line per model; exits 1 at the first that is not accepted or differs by more than 1e-5."""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

erf = np.vectorize(math.erf, otypes=[np.float64])


def load(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, info in header.items():
        if name != "__metadata__":
            begin, end = info["data_offsets"]
            raw = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4")
            tensors[name] = raw.reshape(info["shape"]).astype(np.float64)
    return tensors


def norm(x, w, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)
    return x * w[name + ".weight"] + w[name + ".bias"]


def linear(x, w, name):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def bucket(grid, clip):
    """Rows of the vertical and horizontal table for each pair (query, key)."""
    place = np.arange(grid * grid)
    rows, columns = place // grid, place % grid
    tables = []
    for axis in (rows, columns):
        offset = np.clip(axis[None, :] - axis[:, None], -clip, clip) + clip + 1
        tables.append(np.pad(offset, ((1, 0), (1, 0))))
    return tables


def forward(arch, w, x):
    p, d, width = arch["patch"], arch["embed"], arch["head_dim"]
    grid = arch["image"] // p
    batch = x.shape[0]
    patches = x.reshape(batch, 3, grid, p, grid, p).transpose(0, 2, 4, 1, 3, 5).reshape(batch, grid * grid, -1)
    patches = patches @ w["patch_embed.proj.weight"].reshape(d, -1).T + w["patch_embed.proj.bias"]
    x = np.concatenate([np.repeat(w["cls_token"], batch, 0), patches], 1) + w["pos_embed"]
    tokens = x.shape[1]
    for i, block in enumerate(arch["blocks"]):
        name, heads = f"blocks.{i}", block["heads"]
        qkv = linear(norm(x, w, name + ".norm1"), w, name + ".attn.qkv")
        q, k, v = qkv.reshape(batch, tokens, 3, heads, width).transpose(2, 0, 3, 1, 4)
        logits = np.einsum("bhid,bhjd->bhij", q, k)
        if "relative" in arch:
            vertical, horizontal = bucket(grid, arch["relative"])
            table = name + ".attn.rel_pos_embed_{}.embeddings_table_{}"
            pairs = {s: w[table.format(s, "v")][vertical] + w[table.format(s, "h")][horizontal] for s in "kv"}
            logits = logits + np.einsum("bhid,ijd->bhij", q, pairs["k"])
        logits = logits * width**-0.5
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        mixed = np.einsum("bhij,bhjd->bhid", weights, v)
        if "relative" in arch:
            mixed = mixed + np.einsum("bhij,ijd->bhid", weights, pairs["v"])
        mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, heads * width)
        x = x + linear(mixed, w, name + ".attn.proj")
        hidden = linear(norm(x, w, name + ".norm2"), w, name + ".mlp.fc1")
        hidden = hidden * 0.5 * (1 + erf(hidden / math.sqrt(2)))
        x = x + linear(hidden, w, name + ".mlp.fc2")
    x = norm(x, w, "norm")[:, 1:].mean(1)
    return linear(x, w, "head") if "head.weight" in w else x


def main():
    models = sorted(Path(sys.argv[1]).glob("*.onnx"))
    for path in models:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        arch = json.loads(metadata["masktas.arch"])
        weights = load(path.with_suffix(".weights.safetensors"))
        pixels = load(path.with_suffix(".input.safetensors"))["input"]
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"pixels": pixels.astype(np.float32)})
        want = forward(arch, weights, pixels)
        difference = np.abs(got - want).max() / np.abs(want).max()
        print(f"{path.name} {got.shape} {difference:.2e}")
        if got.shape != want.shape or not difference <= 1e-5:
            sys.exit(f"{path.name}: relative difference {difference} to the float64 forward")
    print(f"{len(models)} models accepted")


main()
