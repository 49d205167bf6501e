//! Files that our writer would not write.

use masktas_export::onnx;
use masktas_runtime::Graph;
use masktas_runtime::onnx::proto::ModelProto;
use prost::Message;

/// The file of `graph`, changed by `change`.
pub fn edited(graph: &Graph, change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let bytes = onnx::write(graph).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    change(&mut model);
    model.encode_to_vec()
}
