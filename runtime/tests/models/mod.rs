//! Small sane models of many operators, as graphs and as bytes, to be changed.

use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::onnx::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type,
};
use masktas_runtime::{Attribute, Data, Dim, Dtype, Graph, Tensor, ValueInfo};
use prost::Message;

fn ramp(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::f32(shape, (0..count).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>()).unwrap()
}

/// A model of one node. Inputs are `x` of shape `shape`, then constants.
fn one<const N: usize>(
    op: &str,
    dtype: Dtype,
    shape: &[usize],
    constants: Vec<Tensor>,
    attributes: [(&str, Attribute); N],
) -> Graph {
    let mut b = GraphBuilder::new(op, 21);
    let mut names = vec![b.input("x", dtype, shape.iter().map(|e| Dim::Fixed(*e)).collect::<Vec<_>>())];
    for (i, tensor) in constants.into_iter().enumerate() {
        names.push(b.constant(&format!("c{i}"), tensor));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    b.node(op, "y", &names, attributes);
    b.output("y", Dtype::F32, []);
    let mut graph = b.finish().unwrap();
    graph.outputs.clear();
    let (dtype, shape) =
        graph.shapes(&Default::default()).unwrap_or_else(|e| panic!("{op}: {e}"))["y"].clone();
    // Symbols fit any extent, so that a change of shape is not refused for the output's sake alone.
    let shape = (0..shape.len()).map(|axis| Dim::Symbol(format!("out{axis}"))).collect();
    graph.outputs = vec![ValueInfo { name: "y".into(), dtype, shape }];
    graph
}

pub fn all() -> Vec<Graph> {
    let image: &[usize] = &[1, 4, 6, 5];
    let f = Dtype::F32;
    let ints = |v: &[i64]| Tensor::i64([v.len()], v.to_vec()).unwrap();
    let list = |v: &[i64]| Attribute::Ints(v.to_vec());
    let int = |v: i64| Attribute::Int(v);
    let text = |v: &str| Attribute::Text(v.into());
    let real = |v: &[f32]| Tensor::f32([v.len()], v.to_vec()).unwrap();
    let none = || Tensor::f32([0], vec![]).unwrap();
    let bytes = |v: u8| Tensor::new(vec![], Data::U8([v].into())).unwrap();
    vec![
        one("Add", f, image, vec![ramp(&[5])], []),
        one("Pow", f, image, vec![ramp(&[1])], []),
        one("Selu", f, image, vec![], [("alpha", Attribute::Float(1.0))]),
        one("Clip", f, image, vec![ramp(&[]), ramp(&[])], []),
        one("Cast", f, image, vec![], [("to", int(10))]),
        one("MatMul", f, &[2, 3, 4], vec![ramp(&[4, 5])], []),
        one("Gemm", f, &[3, 4], vec![ramp(&[5, 4])], [("transB", int(1))]),
        one(
            "Conv",
            f,
            image,
            vec![ramp(&[4, 2, 3, 3])],
            [
                ("group", int(2)),
                ("pads", list(&[1, 1, 1, 1])),
                ("strides", list(&[2, 1])),
                ("dilations", list(&[1, 1])),
            ],
        ),
        one("MaxPool", f, image, vec![], [("kernel_shape", list(&[2, 3])), ("ceil_mode", int(1))]),
        one(
            "AveragePool",
            f,
            image,
            vec![],
            [("kernel_shape", list(&[3, 3])), ("pads", list(&[1, 1, 1, 1])), ("count_include_pad", int(1))],
        ),
        one("LayerNormalization", f, image, vec![ramp(&[5])], [("axis", int(-1))]),
        one("RMSNormalization", f, image, vec![ramp(&[5])], [("epsilon", Attribute::Float(1e-5))]),
        one(
            "BatchNormalization",
            f,
            image,
            vec![ramp(&[4]), ramp(&[4]), ramp(&[4]), real(&[1., 1., 1., 1.])],
            [],
        ),
        one("GroupNormalization", f, image, vec![ramp(&[4]), ramp(&[4])], [("num_groups", int(2))]),
        one("LpNormalization", f, image, vec![], [("p", int(2)), ("axis", int(1))]),
        one("Softmax", f, image, vec![], [("axis", int(2))]),
        one("Hardmax", f, image, vec![], [("axis", int(1))]),
        one("ReduceLogSumExp", f, image, vec![ints(&[1, 2])], [("keepdims", int(0))]),
        one("ReduceProd", f, image, vec![ints(&[0])], []),
        one("ArgMax", f, image, vec![], [("axis", int(1)), ("keepdims", int(0))]),
        one("TopK", f, image, vec![ints(&[2])], [("axis", int(2))]),
        one("CumSum", f, image, vec![Tensor::i64([], vec![1]).unwrap()], [("reverse", int(1))]),
        one("Transpose", f, image, vec![], [("perm", list(&[0, 2, 3, 1]))]),
        one("Reshape", f, image, vec![ints(&[0, -1])], []),
        one("Slice", f, image, vec![ints(&[1, 0]), ints(&[4, 3]), ints(&[1, 2]), ints(&[1, 2])], []),
        one("Split", f, image, vec![ints(&[4])], [("axis", int(1))]),
        one("Concat", f, image, vec![ramp(&[1, 1, 6, 5])], [("axis", int(1))]),
        one("Expand", f, image, vec![ints(&[2, 4, 6, 5])], []),
        one("Tile", f, image, vec![ints(&[2, 1, 3, 1])], []),
        one("Pad", f, image, vec![ints(&[0, 0, 1, 2, 0, 0, 3, -1])], [("mode", text("reflect"))]),
        one(
            "Resize",
            f,
            image,
            vec![none(), real(&[1., 1., 2., 0.6])],
            [("mode", text("cubic")), ("antialias", int(1))],
        ),
        one(
            "Resize",
            f,
            image,
            vec![none(), none(), ints(&[1, 4, 9, 2])],
            [("mode", text("nearest")), ("coordinate_transformation_mode", text("align_corners"))],
        ),
        one("Gather", f, image, vec![ints(&[1, -1])], [("axis", int(2))]),
        one(
            "GatherElements",
            f,
            &[3, 4],
            vec![Tensor::i64([2, 4], vec![0, 1, 2, 0, -1, 1, 0, 2]).unwrap()],
            [],
        ),
        one("GatherND", f, &[3, 4, 2], vec![Tensor::i64([2, 2], vec![0, 1, 2, -1]).unwrap()], []),
        one(
            "ScatterND",
            f,
            &[3, 4],
            vec![Tensor::i64([2, 1], vec![0, 2]).unwrap(), ramp(&[2, 4])],
            [("reduction", text("add"))],
        ),
        one("ScatterElements", f, &[3, 4], vec![Tensor::i64([1, 2], vec![0, 2]).unwrap(), ramp(&[1, 2])], []),
        one("OneHot", Dtype::I64, &[3], vec![ints(&[4]), real(&[0., 1.])], [("axis", int(0))]),
        one("Trilu", f, image, vec![Tensor::i64([], vec![1]).unwrap()], [("upper", int(0))]),
        one("DepthToSpace", f, image, vec![], [("blocksize", int(2)), ("mode", text("CRD"))]),
        one("QuantizeLinear", f, image, vec![real(&[0.5, 1., 1., 2.])], [("axis", int(1))]),
        one("DequantizeLinear", Dtype::U8, image, vec![real(&[0.5]), bytes(3)], []),
        one(
            "MatMulInteger",
            Dtype::U8,
            &[3, 4],
            vec![Tensor::new(vec![4, 2], Data::I8([1; 8].into())).unwrap()],
            [],
        ),
        one(
            "Attention",
            f,
            &[1, 2, 3, 4],
            vec![ramp(&[1, 2, 5, 4]), ramp(&[1, 2, 5, 4])],
            [("is_causal", int(1))],
        ),
        one(
            "RotaryEmbedding",
            f,
            &[1, 2, 3, 4],
            vec![ramp(&[1, 3, 2]), ramp(&[1, 3, 2])],
            [("interleaved", int(1))],
        ),
    ]
}

fn info(info: &ValueInfo) -> ValueInfoProto {
    let dim = |dim: &Dim| DimensionProto {
        value: Some(match dim {
            Dim::Fixed(extent) => DimensionValue::Value(*extent as i64),
            Dim::Symbol(symbol) => DimensionValue::Param(symbol.clone()),
        }),
    };
    let shape = TensorShapeProto { dim: info.shape.iter().map(dim).collect() };
    let kind = TensorTypeProto { elem_type: Some(info.dtype.to_onnx()), shape: Some(shape) };
    ValueInfoProto { name: Some(info.name.clone()), r#type: Some(TypeProto { tensor_type: Some(kind) }) }
}

fn tensor(name: &str, tensor: &Tensor) -> TensorProto {
    let raw: Vec<u8> = match tensor.data() {
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U8(v) => v.to_vec(),
        Data::I8(v) => v.iter().map(|x| *x as u8).collect(),
        other => panic!("{other:?}"),
    };
    TensorProto {
        name: Some(name.to_owned()),
        dims: tensor.shape().iter().map(|e| *e as i64).collect(),
        data_type: Some(tensor.dtype().to_onnx()),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// The bytes of an ONNX file.
pub fn bytes(graph: &Graph) -> Vec<u8> {
    let attribute = |(name, value): (&String, &Attribute)| {
        let mut proto = AttributeProto { name: Some(name.clone()), ..AttributeProto::default() };
        let kind = match value {
            Attribute::Int(v) => {
                proto.i = Some(*v);
                attribute_type::INT
            }
            Attribute::Float(v) => {
                proto.f = Some(*v);
                attribute_type::FLOAT
            }
            Attribute::Text(v) => {
                proto.s = Some(v.clone().into_bytes().into());
                attribute_type::STRING
            }
            Attribute::Ints(v) => {
                proto.ints = v.clone();
                attribute_type::INTS
            }
            other => panic!("{other:?}"),
        };
        AttributeProto { r#type: Some(kind), ..proto }
    };
    let node = |node: &masktas_runtime::Node| NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: Some(node.name.clone()),
        op_type: Some(node.op.clone()),
        attribute: node.attributes.iter().map(attribute).collect(),
        domain: None,
    };
    let proto = GraphProto {
        node: graph.nodes.iter().map(node).collect(),
        name: Some(graph.name.clone()),
        initializer: graph.constants.iter().map(|(name, t)| tensor(name, t)).collect(),
        input: graph.inputs.iter().map(info).collect(),
        output: graph.outputs.iter().map(info).collect(),
        ..GraphProto::default()
    };
    let sets = vec![OperatorSetIdProto { domain: None, version: Some(graph.opset) }];
    ModelProto { ir_version: Some(9), graph: Some(proto), opset_import: sets, ..ModelProto::default() }
        .encode_to_vec()
}
