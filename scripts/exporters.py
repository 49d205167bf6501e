#!/usr/bin/env python3
"""Writes model files as other people's programs write them, for `make exporters`.

    exporters.py FOLDER

Small networks of four kinds (a vision transformer, a convolutional transformer, a mobile one that mixes both, a residual
network), with random weights, exported by PyTorch's two exporters at several operator sets, and two of them quantised by
ONNX Runtime, dynamically and with QDQ nodes. Beside each NAME.onnx lie NAME.json and, as raw 32-bit floats, one answer of ONNX
Runtime after another in NAME.bin, for the images in images.bin. It answers node by node: where it joins Q and DQ nodes to
kernels of its own it rounds otherwise; NAME.json says for how many images it then names the same class. A file that an exporter cannot write is named and left out.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from torch import nn

SIDE, CLASSES, IMAGES = 64, 10, 200
FEW = 8  # images for networks of floats, whose every number is compared


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(x.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, width, heads, activation=nn.GELU):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), activation(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, width=96, heads=3, depth=3, patch=16):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.positions = nn.Parameter(torch.randn(1, (SIDE // patch) ** 2 + 1, width) * 0.1)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Cct(nn.Module):
    """Convolutions make the tokens, a weighted mean joins them (Hassani et al., 2021)."""

    def __init__(self, width=64, heads=2, depth=2):
        super().__init__()
        convolution = lambda a, b: [nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        self.tokens = nn.Sequential(*convolution(3, 32), *convolution(32, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm, self.pool, self.head = nn.LayerNorm(width), nn.Linear(width, 1), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.norm(self.blocks(self.tokens(x).flatten(2).transpose(1, 2)))
        share = torch.softmax(self.pool(x), 1)
        return self.head((share.transpose(-1, -2) @ x).squeeze(-2))


class Mobile(nn.Module):
    """Depthwise convolutions and attention across patches of a feature map (Mehta and Rastegari, 2021)."""

    def __init__(self, width=32, heads=2):
        super().__init__()
        def inverted(a, b, stride):
            return nn.Sequential(
                nn.Conv2d(a, 2 * a, 1, bias=False), nn.BatchNorm2d(2 * a), nn.SiLU(),
                nn.Conv2d(2 * a, 2 * a, 3, stride, 1, groups=2 * a, bias=False), nn.BatchNorm2d(2 * a), nn.Hardswish(),
                nn.Conv2d(2 * a, b, 1, bias=False), nn.BatchNorm2d(b))
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.SiLU())
        self.stages = nn.Sequential(inverted(16, 24, 2), inverted(24, width, 2))
        self.blocks, self.norm = nn.Sequential(Block(width, heads, nn.SiLU)), nn.LayerNorm(width)
        self.join, self.head = nn.Conv2d(2 * width, width, 3, padding=1), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.stages(self.stem(x))
        batch, width, height, columns = x.shape
        parts = x.reshape(batch * width * height // 2, 2, columns // 2, 2).transpose(1, 2)
        parts = parts.reshape(batch, width, height * columns // 4, 4).permute(0, 3, 2, 1)
        parts = self.norm(self.blocks(parts.reshape(batch * 4, height * columns // 4, width)))
        parts = parts.reshape(batch, 4, height * columns // 4, width).permute(0, 3, 2, 1)
        parts = parts.reshape(batch * width * height // 2, columns // 2, 2, 2).transpose(1, 2)
        x = self.join(torch.cat([x, parts.reshape(batch, width, height, columns)], 1))
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(nn.Module):
    def __init__(self, widths=(16, 32, 64)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.paths, self.shortcuts, before = nn.ModuleList(), nn.ModuleList(), 16
        for width in widths:
            stride = 1 if width == before else 2
            self.paths.append(nn.Sequential(
                nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)))
            same = nn.Identity() if stride == 1 else nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            self.shortcuts.append(same)
            before = width
        self.head = nn.Linear(before, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for path, shortcut in zip(self.paths, self.shortcuts):
            x = torch.relu(path(x) + shortcut(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def network(make):
    torch.manual_seed(7)
    net = make()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


class Images(CalibrationDataReader):
    def __init__(self, images):
        self.left = iter([{"image": image} for image in images])

    def get_next(self):
        return next(self.left, None)


def main():
    warnings.filterwarnings("ignore")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.onnx"), *folder.glob("*.json"), *folder.glob("*.bin")]:
        old.unlink()
    images = numpy.random.default_rng(1).normal(size=(IMAGES, 1, 3, SIDE, SIDE)).astype("f4")
    (folder / "images.bin").write_bytes(images.tobytes())
    left_out = []

    def answer(path, kind, count):
        def ask(level):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = level
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            return [session.run(None, {session.get_inputs()[0].name: image})[0] for image in images[:count]]

        levels = onnxruntime.GraphOptimizationLevel
        outputs, joined = ask(levels.ORT_DISABLE_ALL), ask(levels.ORT_ENABLE_ALL)
        own = sum(int(a.argmax() == b.argmax()) for a, b in zip(outputs, joined))
        path.with_suffix(".bin").write_bytes(numpy.stack(outputs).astype("f4").tobytes())
        about = {"kind": kind, "images": count, "side": SIDE, "classes": CLASSES, "own": own}
        path.with_suffix(".json").write_text(json.dumps(about))

    nets = {"vit": Vit, "cct": Cct, "mobile": Mobile, "residual": Residual}
    versions = [(False, 13), (False, 17), (False, 20), (True, 18), (True, 20), (True, 23)]
    for name, make in nets.items():
        for dynamo, opset in versions:
            path = folder / f"{name}-{'dynamo' if dynamo else 'torchscript'}-{opset}.onnx"
            more = {"external_data": False} if dynamo else {}
            try:
                torch.onnx.export(network(make), (torch.from_numpy(images[0]),), str(path), input_names=["image"],
                                  output_names=["scores"], opset_version=opset, dynamo=dynamo, verbose=False, **more)
                answer(path, "f32", FEW)
            except Exception as error:
                path.unlink(missing_ok=True)
                left_out.append(f"{path.stem}: {(str(error).splitlines() or [type(error).__name__])[0][:160]}")
    for name in ["vit", "residual"]:
        source = folder / f"{name}-torchscript-17.onnx"
        for kind in ["dynamic", "qdq"]:
            path = folder / f"{name}-int8-{kind}.onnx"
            try:
                if kind == "dynamic":
                    quantize_dynamic(source, path)
                else:
                    quantize_static(source, path, Images(images[:20]), quant_format=QuantFormat.QDQ, per_channel=True)
                answer(path, "int8", IMAGES)
            except Exception as error:
                path.unlink(missing_ok=True)
                left_out.append(f"{path.stem}: {(str(error).splitlines() or [type(error).__name__])[0][:160]}")
    print(f"{len(list(folder.glob('*.onnx')))} files in {folder}", file=sys.stderr)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)


main()
