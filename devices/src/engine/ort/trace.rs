//! ONNX Runtime's own profile: when each node ran, and on which provider.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::NAME;
use crate::engine::NodeRuns;
use crate::error::{Error, Result};

/// A profile that a session writes into a folder of its own.
pub(super) struct Profile {
    folder: tempfile::TempDir,
}

/// One event of the file. Only those of nodes have arguments worth reading.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Microseconds.
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    op_name: Option<String>,
    provider: Option<String>,
    node_index: Option<String>,
}

impl Profile {
    pub(super) fn new() -> Result<Self> {
        let folder =
            tempfile::tempdir().map_err(|source| Error::Io { path: std::env::temp_dir(), source })?;
        Ok(Self { folder })
    }

    /// How the names of the session's files begin.
    pub(super) fn prefix(&self) -> PathBuf {
        self.folder.path().join("profile")
    }

    /// Ends the profile and reads it.
    pub(super) fn end(self, session: &mut ::ort::session::Session) -> Result<Vec<NodeRuns>> {
        let fail = |reason: String| Error::Run { engine: NAME.into(), reason };
        let path = PathBuf::from(session.end_profiling().map_err(|error| fail(error.to_string()))?);
        let text = std::fs::read(&path).map_err(|source| Error::Io { path, source })?;
        read(&text).map_err(|error| fail(format!("its profile cannot be read: {error}")))
    }
}

/// The runs of each node, in the order of the nodes' first runs.
fn read(text: &[u8]) -> serde_json::Result<Vec<NodeRuns>> {
    let events: Vec<Event> = serde_json::from_slice(text)?;
    let mut nodes: Vec<NodeRuns> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in events.into_iter().filter(|event| event.cat == "Node") {
        let Some(name) = event.name.strip_suffix("_kernel_time") else { continue };
        let index = event.args.node_index.unwrap_or_default();
        let place = *places.entry((name.to_owned(), index)).or_insert_with(|| {
            nodes.push(NodeRuns {
                name: name.to_owned(),
                op: event.args.op_name.unwrap_or_default(),
                provider: event.args.provider.unwrap_or_default(),
                ms: Vec::new(),
            });
            nodes.len() - 1
        });
        if let Some(node) = nodes.get_mut(place) {
            node.ms.push(event.dur / 1e3);
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nodes_own_time_is_read() {
        let text = r#"[
            {"cat":"Session","pid":1,"tid":1,"dur":900,"ts":1,"ph":"X","name":"model_run","args":{}},
            {"cat":"Node","dur":7,"ts":2,"ph":"X","name":"norm_fence_before","args":{"op_name":"LayerNormalization"}},
            {"cat":"Node","dur":1500,"ts":3,"ph":"X","name":"norm_kernel_time",
             "args":{"op_name":"LayerNormalization","provider":"CPUExecutionProvider","node_index":"3"}},
            {"cat":"Node","dur":500,"ts":9,"ph":"X","name":"norm_kernel_time",
             "args":{"op_name":"LayerNormalization","provider":"CPUExecutionProvider","node_index":"3"}}]"#;
        let nodes = read(text.as_bytes()).unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!((nodes[0].name.as_str(), nodes[0].ms.as_slice()), ("norm", &[1.5, 0.5][..]));
        assert!(read(b"{").is_err());
    }
}
