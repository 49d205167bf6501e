"""Writes the single-operator test models of the `onnx` package to a folder, with `expected.json`: for each
model the types, shapes and (for small integers) elements of its outputs.

Integer and boolean inputs become initialisers, so that shapes and elements follow from them."""

import json
import sys
from pathlib import Path

import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

OPSET = 23
folder = Path(sys.argv[1])
expected = {}
for case in collect_testcases():
    model = case.model
    if len(model.graph.node) != 1 or not case.data_sets:
        continue
    node = model.graph.node[0]
    if node.domain not in ("", "ai.onnx"):
        continue
    newest = onnx.defs.get_schema(node.op_type).since_version
    if newest > OPSET or any(kind.type.WhichOneof("value") != "tensor_type" for kind in model.graph.input):
        continue
    model.opset_import[0].version = OPSET
    inputs, outputs = case.data_sets[0]
    if not all(hasattr(value, "dtype") and hasattr(value, "shape") for value in [*inputs, *outputs]):
        continue
    kept = []
    for info, value in zip(list(model.graph.input), inputs):
        if value.dtype.name in ("int64", "int32", "bool"):
            model.graph.initializer.append(numpy_helper.from_array(value, info.name))
        else:
            kept.append(info)
    del model.graph.input[:]
    model.graph.input.extend(kept)
    results = []
    for info, value in zip(model.graph.output, outputs):
        whole = value.dtype.name in ("int64", "int32", "bool") and value.size <= 64
        elements = [int(x) for x in value.reshape(-1)] if whole else None
        results.append({"name": info.name, "dtype": value.dtype.name, "shape": list(value.shape), "elements": elements})
    expected[case.name] = {"op": node.op_type, "outputs": results}
    (folder / f"{case.name}.onnx").write_bytes(model.SerializeToString())
(folder / "expected.json").write_text(json.dumps(expected))
print(len(expected))
