#!/usr/bin/env python3
"""Prepares the ONNX project's node tests for `make conformance`, and asks ONNX Runtime and tract each of them.

    conformance.py FOLDER

A case is a test model of one node whose operator a transformer or a small convolutional classifier uses (RELEVANT) and whose
values are tensors of numbers. For each case FOLDER gets NAME.onnx and NAME.json: the values that go in and must come out, as
type, shape and the elements' bytes in hexadecimal. `engines.json` says what the other two engines made of it: `pass`,
`not supported` (refused at load) or `fail` (another error, or other numbers).

Every engine gets the same file. Two things in it are changed. Operands that a shape or an axis follows from (STATIC) become
initialisers, because masktas and tract resolve shapes when they load a model; every other input stays an input of the graph.
And models of operator sets below 13 or above 23 are stamped with the nearest of these, where the operator did not change.
"""

import json
import multiprocessing
import sys
from pathlib import Path

import numpy
import onnx
from onnx import numpy_helper

OPSETS = (13, 23)
RTOL, ATOL = 1e-3, 1e-5  # as the ONNX project's own runner, but for the absolute part, which is 1e-7 there

RELEVANT = """
Abs Add And Ceil Celu Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity LeakyRelu
Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign
Sqrt Sub Sum Tanh ThresholdedRelu Where Xor
MatMul Gemm Conv MatMulInteger ConvInteger QLinearMatMul QLinearConv QuantizeLinear DequantizeLinear DynamicQuantizeLinear
LayerNormalization RMSNormalization BatchNormalization GroupNormalization InstanceNormalization LpNormalization
Softmax LogSoftmax Hardmax Attention RotaryEmbedding
AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
ArgMax ArgMin TopK CumSum
Cast Concat ConstantOfShape DepthToSpace Dropout Expand EyeLike Flatten Gather GatherElements GatherND OneHot Pad Range Reshape
Resize ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze
""".split()

# Inputs that shapes or axes follow from, by place.
STATIC = {
    "ConstantOfShape": [0], "CumSum": [1], "Dropout": [1, 2], "Expand": [1], "OneHot": [1], "Pad": [1, 3], "Range": [0, 1, 2],
    "Reshape": [1], "Resize": [1, 2, 3], "Slice": [1, 2, 3, 4], "Split": [1], "Squeeze": [1], "Tile": [1], "TopK": [1],
    "Unsqueeze": [1],
} | {f"Reduce{name}": [1] for name in "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()}


def load(path):
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def case(folder):
    """The model, its inputs and its outputs by name; `None` where it is no case."""
    model = onnx.load(folder / "model.onnx")
    if len(model.graph.node) != 1 or model.graph.node[0].domain:
        return None
    node = model.graph.node[0]
    numeric = lambda info: info.type.WhichOneof("value") == "tensor_type" and info.type.tensor_type.elem_type != 8
    if node.op_type not in RELEVANT or not all(map(numeric, [*model.graph.input, *model.graph.output])):
        return None
    data = folder / "test_data_set_0"
    inputs = [load(data / f"input_{i}.pb") for i in range(len(model.graph.input))]
    outputs = [load(data / f"output_{i}.pb") for i in range(len(model.graph.output))]
    own = model.opset_import[0].version
    nearest = min(max(own, OPSETS[0]), OPSETS[1])
    schema = onnx.defs.get_schema(node.op_type, own).since_version
    # Types that came in 24 and 25 are the only change of most operators; Attention and TopK also got other semantics.
    if nearest != own and (own < nearest and onnx.defs.get_schema(node.op_type, nearest).since_version == schema or own > nearest):
        model.opset_import[0].version = nearest
    static = {node.input[i] for i in STATIC.get(node.op_type, []) if i < len(node.input)}
    given = {}
    for info, value in zip(list(model.graph.input), inputs):
        if info.name in static:
            model.graph.initializer.append(numpy_helper.from_array(value, info.name))
            model.graph.input.remove(info)
        else:
            given[info.name] = value
    # The shapes of the test's own values, in place of symbols.
    for info, value in [*zip(model.graph.input, given.values()), *zip(model.graph.output, outputs)]:
        info.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto())
        for extent in value.shape:
            info.type.tensor_type.shape.dim.add().dim_value = extent
    return model, given, dict(zip([info.name for info in model.graph.output], outputs))


def agree(got, want):
    """Whether `got` is `want`: integers exactly, floats within the tolerance."""
    got = numpy.asarray(got)
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.dtype} {got.shape}, want {want.dtype} {want.shape}"
    if want.dtype.kind in "biu":
        return None if numpy.array_equal(got, want) else "other elements"
    close = numpy.allclose(got.astype("f8"), want.astype("f8"), rtol=RTOL, atol=ATOL, equal_nan=True)
    return None if close else "other elements"


def judge(results, outputs):
    for got, (name, want) in zip(results, outputs.items(), strict=True):
        why = agree(got, want)
        if why:
            return f"fail: '{name}': {why}"
    return "pass"


def first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def ask_ort(path, given, outputs):
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"not supported: {first_line(error)}"
    try:
        return judge(session.run(None, given), outputs)
    except Exception as error:
        return f"fail: {first_line(error)}"


def ask_tract(path, given, outputs):
    import tract

    try:
        runnable = tract.onnx().load(path).into_model().into_runnable()
    except BaseException as error:
        return f"not supported: {first_line(error)}"
    try:
        return judge([value.to_numpy() for value in runnable.run(list(given.values()))], outputs)
    except BaseException as error:
        return f"fail: {first_line(error)}"


def described(values):
    return [
        {
            "name": name,
            "type": onnx.helper.np_dtype_to_tensor_dtype(value.dtype),
            "shape": list(value.shape),
            "elements": numpy_helper.from_array(value).raw_data.hex(),
        }
        for name, value in values.items()
    ]


def one(arguments):
    source, folder = arguments
    prepared = case(source)
    if not prepared:
        return None
    model, given, outputs = prepared
    name, path = source.name.removeprefix("test_"), folder / f"{source.name.removeprefix('test_')}.onnx"
    path.write_bytes(model.SerializeToString())
    about = {"op": model.graph.node[0].op_type, "inputs": described(given), "outputs": described(outputs)}
    path.with_suffix(".json").write_text(json.dumps(about))
    return name, ask_ort(str(path), given, outputs), ask_tract(str(path), given, outputs)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.onnx"), *folder.glob("*.json")]:
        old.unlink()
    sources = sorted((Path(onnx.__file__).parent / "backend/test/data/node").iterdir())
    # A process of its own for every few cases: an engine that crashes takes few verdicts with it.
    with multiprocessing.Pool(1, maxtasksperchild=50) as pool:
        answers = [answer for answer in pool.imap(one, [(source, folder) for source in sources]) if answer]
    engines = {name: {"ort": ort, "tract": tract} for name, ort, tract in answers}
    (folder / "engines.json").write_text(json.dumps(engines, indent=1))
    print(f"{len(engines)} cases in {folder}", file=sys.stderr)


main()
