#!/usr/bin/env python3
"""Writes model files as other people's programs write them, for `make exporters`.

    exporters.py FOLDER [NAME...]

The networks of `exported_nets.py`, exported by PyTorch's two exporters at several operator sets, in 32 and 16 bits, and quantised by
ONNX Runtime: dynamically, statically with QDQ nodes and statically with operators of their own (QOperator). With NAMEs only those
networks. Beside each NAME.onnx lie NAME.json and, as raw 32-bit floats, one answer of ONNX Runtime after another in NAME.bin,
for the images in images-SIDE.bin. It answers node by node: where it joins nodes to kernels of its own it rounds otherwise;
NAME.json says for how many images it then names the same class, and for how many it does where the images have noise of 1e-6. A file that an exporter cannot write is named and left out.
"""

import contextlib
import copy
import io
import json
import logging
import sys
import warnings
from pathlib import Path

import numpy
import onnx
import onnxruntime
import torch
from onnxconverter_common import float16
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from timm.layers import set_fused_attn

from exported_nets import CLASSES, OWN, PUBLISHED, network, side

IMAGES = 200
FEW = 8  # images for networks of 32-bit floats, whose every number is compared
CALIBRATION = 20
SHAKE = 1e-6  # relative noise of images, under which ONNX Runtime's own classes are counted
SPREAD = 64  # images over which scores are spread
ALL_VERSIONS = [(False, 13), (False, 17), (False, 20), (True, 18), (True, 20), (True, 23)]
PUBLISHED_VERSIONS = [(False, 13), (False, 17), (True, 20), (True, 23)]
# Networks that are given in 16 bits as well, and quantised.
HALVED = ["vit", "cct", "deit96", "mobilevit", "swin", "convnext"]
QUANTISED = ["vit", "residual", "deit96", "resnet18", "mobilevit", "swin", "convnext", "efficientnet"]


def pictures(side):
    """Random images that differ in more than noise: colour, large forms, small forms."""
    random = numpy.random.default_rng(side)

    def forms(cells):
        coarse = random.normal(size=(IMAGES, 3, cells, cells))
        places = numpy.arange(side) * cells // side
        return coarse[:, :, places][:, :, :, places]

    parts = 0.7 * forms(1) + 0.8 * forms(3) + 0.5 * forms(8) + 0.2 * forms(side)
    return parts.astype("f4")[:, None]


class Half(torch.nn.Module):
    """A network in 16 bits that takes and gives 32."""

    def __init__(self, net):
        super().__init__()
        self.net = net.half()

    def forward(self, x):
        return self.net(x.half()).float()


class Images(CalibrationDataReader):
    def __init__(self, images):
        self.left = iter([{"image": image} for image in images])

    def get_next(self):
        return next(self.left, None)


class Folder:
    def __init__(self, path):
        self.path, self.left_out, self.images, self.nets = path, [], {}, {}

    def pictures(self, name):
        if side(name) not in self.images:
            self.images[side(name)] = pictures(side(name))
        return self.images[side(name)]

    def network(self, name):
        if name not in self.nets:
            self.nets = {name: network(name, self.pictures(name)[:SPREAD])}
        return copy.deepcopy(self.nets[name])

    def file(self, net, kind, count, label, make):
        """One file by `make(path)`, with ONNX Runtime's answers; what goes wrong is kept."""
        path, heard = self.path / f"{net}-{label}.onnx", io.StringIO()
        try:
            # Exporters print whole graphs where they fail.
            with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                make(path)
                self.answer(path, net, kind, count)
        except Exception as error:
            path.unlink(missing_ok=True)
            self.left_out.append(f"{path.stem}: {(str(error).splitlines() or [type(error).__name__])[0][:160]}")

    def answer(self, path, net, kind, count):
        images = self.pictures(net)[:count]

        def ask(level, images=images):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.graph_optimization_level = level
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            port = session.get_inputs()[0]
            wanted = "f2" if port.type == "tensor(float16)" else "f4"
            return numpy.stack([session.run(None, {port.name: image.astype(wanted)})[0] for image in images]).astype("f4")

        levels = onnxruntime.GraphOptimizationLevel
        outputs, joined = ask(levels.ORT_DISABLE_ALL), ask(levels.ORT_ENABLE_ALL)
        if not numpy.isfinite(outputs).all():
            raise ValueError("ONNX Runtime's answers are not finite")
        classes = outputs.reshape(count, CLASSES).argmax(1)
        same = lambda other: int((classes == other.reshape(count, CLASSES).argmax(1)).sum())
        own = same(joined)
        # A deep network of 8-bit integers and random weights may turn a last bit of its input into another class: no runtime that sums
        # in another order can then name the same ones.
        noise = numpy.random.default_rng(1).standard_normal(numpy.shape(images)) if kind != "f32" else 0.0
        steady = same(ask(levels.ORT_DISABLE_ALL, (numpy.asarray(images) * (1 + SHAKE * noise)).astype("f4"))) if kind != "f32" else count
        path.with_suffix(".bin").write_bytes(outputs.tobytes())
        about = {"kind": kind, "images": count, "side": side(net), "classes": CLASSES, "own": own, "steady": steady,
                 "named": len(set(classes.tolist()))}
        path.with_suffix(".json").write_text(json.dumps(about))

    def export(self, net, path, module, dynamo, opset):
        # Attention as one call has no form before operator set 14.
        set_fused_attn(opset >= 14)
        more = {"external_data": False} if dynamo else {}
        with torch.no_grad():
            torch.onnx.export(module, (torch.from_numpy(self.pictures(net)[0]),), str(path), input_names=["image"],
                              output_names=["scores"], opset_version=opset, dynamo=dynamo, verbose=False, **more)

    def floats(self, net):
        for dynamo, opset in ALL_VERSIONS if net in OWN else PUBLISHED_VERSIONS:
            made = lambda path: self.export(net, path, self.network(net), dynamo, opset)
            self.file(net, "f32", FEW, f"{'dynamo' if dynamo else 'torchscript'}-{opset}", made)

    def halves(self, net):
        def converted(path):
            """All in 16 bits, input and output too, by the ONNX project's converter."""
            model = float16.convert_float_to_float16(onnx.load(self.path / f"{net}-torchscript-17.onnx"), keep_io_types=False)
            onnx.save(model, path)

        exported = lambda path: self.export(net, path, Half(self.network(net)).eval(), False, 17)
        self.file(net, "f16", IMAGES, "f16-torchscript-17", exported)
        exported = lambda path: self.export(net, path, Half(self.network(net)).eval(), True, 20)
        self.file(net, "f16", IMAGES, "f16-dynamo-20", exported)
        self.file(net, "f16", IMAGES, "f16-converted", converted)

    def quantised(self, net):
        source, some = self.path / f"{net}-torchscript-17.onnx", self.pictures(net)[:CALIBRATION]
        self.file(net, "int8", IMAGES, "int8-dynamic", lambda path: quantize_dynamic(source, path))
        static = lambda path, style, **more: quantize_static(source, path, Images(some), quant_format=style, **more)
        self.file(net, "int8", IMAGES, "int8-qdq", lambda path: static(path, QuantFormat.QDQ, per_channel=True))
        # With more than these it writes operators of its own domain (com.microsoft.QLinearAdd, QGemm), which the runtime refuses by name.
        standard = ["Conv", "MatMul"]
        self.file(net, "int8", IMAGES, "int8-qoperator", lambda path: static(path, QuantFormat.QOperator, op_types_to_quantize=standard))


def main():
    # On a busy machine threads wait for each other longer than they work.
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    path = Path(sys.argv[1])
    path.mkdir(parents=True, exist_ok=True)
    for old in [file for end in ("onnx", "json", "bin") for file in path.glob(f"*.{end}")]:
        old.unlink()
    folder = Folder(path)
    for net in sys.argv[2:] or [*OWN, *PUBLISHED]:
        print(f"exporters: {net}", file=sys.stderr)
        folder.floats(net)
        if net in HALVED:
            folder.halves(net)
        if net in QUANTISED:
            folder.quantised(net)
    for extent, images in folder.images.items():
        (path / f"images-{extent}.bin").write_bytes(images.tobytes())
    print(f"{len(list(path.glob('*.onnx')))} files in {path}", file=sys.stderr)
    for line in folder.left_out:
        print(f"left out: {line}", file=sys.stderr)


main()
