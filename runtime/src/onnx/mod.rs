//! ONNX files: the messages and the reader.
