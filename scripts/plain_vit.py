"""Writes a vision transformer in few and old operators, for `bench_peers.py`: what wonnx 0.5.1 has.

Batch 1 and everything flattened to matrices, the shape of every value written down, operator set 13. Normalisations and
GELU (its tanh form) are spelt in arithmetic, linear layers are Gemm, attention is a product of two equal stacks; products need extents
that a common divisor of at least two divides, so there is no class token. Weights are random.
"""

import math
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


class Plain:
    def __init__(self):
        self.nodes, self.constants, self.shapes = [], [], {}
        self.random = numpy.random.default_rng(7)

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(numpy.asarray(values, "f4" if name[0] != "#" else "i8"), name))
        return name

    def weight(self, name, *shape, scale=None, mean=0.0):
        scale = shape[0] ** -0.5 if scale is None else scale
        return self.constant(name, mean + scale * self.random.standard_normal(shape))

    def node(self, kind, name, inputs, shape, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.shapes[name] = shape
        return name

    def reshape(self, name, x, shape):
        return self.node("Reshape", name, [x, self.constant(f"#{name}", shape)], shape)

    def linear(self, name, x, rows, inner, outer):
        weight, bias = self.weight(f"{name}.weight", inner, outer), self.weight(f"{name}.bias", outer, scale=0.1)
        return self.node("Gemm", name, [x, weight, bias], [rows, outer])

    def norm(self, name, x, rows, width):
        one, all = [rows, 1], [rows, width]
        mean = self.node("ReduceMean", f"{name}.mean", [x], one, axes=[1], keepdims=1)
        centred = self.node("Sub", f"{name}.centred", [x, mean], all)
        square = self.node("Mul", f"{name}.square", [centred, centred], all)
        variance = self.node("ReduceMean", f"{name}.variance", [square], one, axes=[1], keepdims=1)
        raised = self.node("Add", f"{name}.raised", [variance, "epsilon"], one)
        deviation = self.node("Sqrt", f"{name}.deviation", [raised], one)
        unit = self.node("Div", f"{name}.unit", [centred, deviation], all)
        gained = self.node("Mul", f"{name}.gained", [unit, self.weight(f"{name}.weight", 1, width, scale=0.1, mean=1)], all)
        return self.node("Add", name, [gained, self.weight(f"{name}.bias", 1, width, scale=0.1)], all)

    def gelu(self, name, x, rows, width):
        all = [rows, width]
        square = self.node("Mul", f"{name}.square", [x, x], all)
        cube = self.node("Mul", f"{name}.cube", [square, x], all)
        bent = self.node("Mul", f"{name}.bent", [cube, "gelu.cube"], all)
        inner = self.node("Add", f"{name}.inner", [x, bent], all)
        scaled = self.node("Mul", f"{name}.scaled", [inner, "gelu.scale"], all)
        tanh = self.node("Tanh", f"{name}.tanh", [scaled], all)
        raised = self.node("Add", f"{name}.raised", [tanh, "one"], all)
        product = self.node("Mul", f"{name}.product", [raised, x], all)
        return self.node("Mul", name, [product, "half"], all)

    def attention(self, name, x, tokens, width, heads):
        head = width // heads
        parts = {}
        for letter, turn, shape in (("q", [1, 0, 2], [heads, tokens, head]), ("k", [1, 2, 0], [heads, head, tokens]),
                                    ("v", [1, 0, 2], [heads, tokens, head])):
            flat = self.linear(f"{name}.{letter}", x, tokens, width, width)
            split = self.reshape(f"{name}.{letter}.split", flat, [tokens, heads, head])
            parts[letter] = self.node("Transpose", f"{name}.{letter}.heads", [split], shape, perm=turn)
        scores = self.node("MatMul", f"{name}.scores", [parts["q"], parts["k"]], [heads, tokens, tokens])
        scaled = self.node("Mul", f"{name}.scaled", [scores, "attention.scale"], [heads, tokens, tokens])
        shares = self.node("Softmax", f"{name}.shares", [scaled], [heads, tokens, tokens], axis=-1)
        mixed = self.node("MatMul", f"{name}.mixed", [shares, parts["v"]], [heads, tokens, head])
        turned = self.node("Transpose", f"{name}.turned", [mixed], [tokens, heads, head], perm=[1, 0, 2])
        joined = self.reshape(f"{name}.joined", turned, [tokens, width])
        return self.linear(f"{name}.out", joined, tokens, width, width)


def write(path: Path, side=32, patch=4, width=192, heads=3, depth=12):
    """A ViT-tiny of 4 x 4 patches, unless told otherwise; the input is `pixels`, the output `features`."""
    plain, grid = Plain(), side // patch
    tokens, inner = grid * grid, patch * patch * 3
    for name, value in (("epsilon", 1e-6), ("gelu.cube", 0.044715), ("gelu.scale", math.sqrt(2 / math.pi)), ("one", 1), ("half", 0.5)):
        plain.constant(name, [[value]])
    plain.constant("attention.scale", [[[(width // heads) ** -0.5]]])
    kernel = plain.weight("patches.weight", width, 3, patch, patch, scale=inner ** -0.5)
    bias = plain.weight("patches.bias", width, scale=0.1)
    maps = plain.node("Conv", "patches", ["pixels", kernel, bias], [1, width, grid, grid],
                      kernel_shape=[patch, patch], strides=[patch, patch], pads=[0, 0, 0, 0], dilations=[1, 1], group=1)
    columns = plain.reshape("columns", maps, [width, tokens])
    rows = plain.node("Transpose", "rows", [columns], [tokens, width], perm=[1, 0])
    x = plain.node("Add", "tokens", [rows, plain.weight("positions", tokens, width, scale=0.1)], [tokens, width])
    for index in range(depth):
        name = f"blocks.{index}"
        mixed = plain.attention(f"{name}.attention", plain.norm(f"{name}.norm1", x, tokens, width), tokens, width, heads)
        x = plain.node("Add", f"{name}.mixed", [x, mixed], [tokens, width])
        up = plain.linear(f"{name}.up", plain.norm(f"{name}.norm2", x, tokens, width), tokens, width, 4 * width)
        down = plain.linear(f"{name}.down", plain.gelu(f"{name}.gelu", up, tokens, 4 * width), tokens, 4 * width, width)
        x = plain.node("Add", f"{name}.sum", [x, down], [tokens, width])
    features = plain.node("ReduceMean", "features", [plain.norm("norm", x, tokens, width)], [1, width], axes=[0], keepdims=1)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    inner_values = [value(name, shape) for name, shape in plain.shapes.items() if name != features]
    graph = helper.make_graph(plain.nodes, "plain-vit", [value("pixels", [1, 3, side, side])],
                              [value(features, plain.shapes[features])], plain.constants, value_info=inner_values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
