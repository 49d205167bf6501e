//! What every graph must satisfy before anything else looks at it.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueInfo};
use crate::tensor::{Data, element_count};

/// Oldest operator set understood: axes of `Squeeze` and `ReduceSum` became inputs here.
pub const OPSET_MIN: i64 = 13;
/// Newest operator set understood.
pub const OPSET_MAX: i64 = 23;
/// Most extents of one tensor.
pub const RANK_MAX: usize = 16;

impl Graph {
    /// Checks that the graph is well formed: a known operator set, standard domain, unique names,
    /// each value written once and before it is read, outputs that exist, extents that do not overflow.
    ///
    /// Shapes are not inferred here; [`Graph::shapes`] does that.
    ///
    /// # Errors
    /// [`Error::InvalidModel`] or [`Error::InvalidNode`] naming the node and the value;
    /// [`Error::Unsupported`] for another operator set, [`Error::UnsupportedOp`] for another domain.
    pub fn validate(&self) -> Result<()> {
        if !(OPSET_MIN..=OPSET_MAX).contains(&self.opset) {
            return Err(Error::Unsupported {
                what: format!("model '{}'", self.name),
                why: format!("operator set {}, outside {OPSET_MIN} to {OPSET_MAX}", self.opset),
            });
        }
        let mut values: HashSet<&str> = HashSet::with_capacity(self.constants.len() + self.nodes.len());
        for (name, tensor) in &self.constants {
            if name.is_empty() {
                return Err(invalid("a constant", "it has no name"));
            }
            check_extents(name, tensor.shape(), tensor.dtype().bytes())?;
            values.insert(name);
        }
        for input in &self.inputs {
            check_info("input", input)?;
            if !values.insert(&input.name) {
                return Err(invalid(&format!("input '{}'", input.name), "the name is used twice"));
            }
        }
        self.validate_nodes(&mut values)?;
        if self.outputs.is_empty() {
            return Err(invalid(&format!("model '{}'", self.name), "it has no outputs"));
        }
        let mut outputs: HashSet<&str> = HashSet::with_capacity(self.outputs.len());
        for output in &self.outputs {
            check_info("output", output)?;
            if !values.contains(output.name.as_str()) {
                return Err(invalid(&format!("output '{}'", output.name), "no node writes it"));
            }
            if !outputs.insert(&output.name) {
                return Err(invalid(&format!("output '{}'", output.name), "it is declared twice"));
            }
        }
        Ok(())
    }

    fn validate_nodes<'g>(&'g self, values: &mut HashSet<&'g str>) -> Result<()> {
        let mut names: HashSet<&str> = HashSet::with_capacity(self.nodes.len());
        for node in &self.nodes {
            if node.name.is_empty() {
                return Err(node.invalid("it has no name"));
            }
            if !node.domain.is_empty() {
                let op = format!("{}.{}", node.domain, node.op);
                return Err(Error::UnsupportedOp { node: node.name.clone(), op });
            }
            if !names.insert(&node.name) {
                return Err(node.invalid("another node has the same name"));
            }
            for input in node.inputs.iter().filter(|name| !name.is_empty()) {
                if !values.contains(input.as_str()) {
                    return Err(node.invalid(format!("it reads '{input}', which nothing before it writes")));
                }
            }
            if node.outputs.iter().all(String::is_empty) {
                return Err(node.invalid("it writes nothing"));
            }
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                if !values.insert(output) {
                    return Err(node.invalid(format!("it writes '{output}', which exists already")));
                }
            }
        }
        Ok(())
    }

    /// Checks that every constant has its elements.
    ///
    /// # Errors
    /// [`Error::Unset`] naming the first that has none.
    pub fn check_weights(&self) -> Result<()> {
        match self.constants.iter().find(|(_, tensor)| matches!(tensor.data(), Data::Unset(_))) {
            Some((value, _)) => Err(Error::Unset { value: value.clone() }),
            None => Ok(()),
        }
    }
}

impl Node {
    /// The error of an invalid node; `why` names the value and both numbers.
    pub(crate) fn invalid(&self, why: impl Into<String>) -> Error {
        Error::InvalidNode { node: self.name.clone(), op: self.op.clone(), why: why.into() }
    }

    /// The error of a valid node in a case that is not supported.
    pub(crate) fn unsupported(&self, why: impl Into<String>) -> Error {
        Error::Unsupported { what: format!("node '{}' ({})", self.name, self.op), why: why.into() }
    }
}

fn invalid(what: &str, why: &str) -> Error {
    Error::InvalidModel { what: what.to_owned(), why: why.to_owned() }
}

fn check_info(kind: &str, info: &ValueInfo) -> Result<()> {
    if info.name.is_empty() {
        return Err(invalid(&format!("an {kind}"), "it has no name"));
    }
    if info.shape.len() > RANK_MAX {
        return Err(Error::Limit {
            what: format!("the number of extents of {kind} '{}'", info.name),
            got: info.shape.len() as u64,
            limit: RANK_MAX as u64,
        });
    }
    Ok(())
}

/// Refuses extents whose number of bytes cannot be addressed. Also used on inferred shapes.
pub(crate) fn check_extents(name: &str, shape: &[usize], element: usize) -> Result<()> {
    if shape.len() > RANK_MAX {
        return Err(Error::Limit {
            what: format!("the number of extents of '{name}'"),
            got: shape.len() as u64,
            limit: RANK_MAX as u64,
        });
    }
    // A zero extent makes the product zero whatever the others are, yet strides are computed from
    // the others, so they alone must fit too.
    let nonzero: Vec<usize> = shape.iter().copied().filter(|extent| *extent > 0).collect();
    let bytes = element_count(&nonzero).and_then(|count| count.checked_mul(element));
    match bytes {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(Error::TooLarge { shape: shape.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Dim, GraphBuilder};
    use crate::tensor::{Dtype, Tensor};

    fn chain() -> GraphBuilder {
        let mut b = GraphBuilder::new("chain", 20);
        let x = b.input("x", Dtype::F32, [Dim::Fixed(2)]);
        let y = b.node("Relu", "y", &[&x], []);
        b.output(&y, Dtype::F32, [Dim::Fixed(2)]);
        b
    }

    fn message(builder: GraphBuilder) -> String {
        builder.finish().unwrap_err().to_string()
    }

    #[test]
    fn a_chain_is_valid() {
        chain().finish().unwrap();
    }

    #[test]
    fn each_defect_is_named() {
        let mut b = chain();
        b.node("Relu", "z", &["later"], []);
        assert!(message(b).contains("'z' (Relu): it reads 'later'"));

        let mut b = chain();
        b.node_many("Relu", "z", &["x"], &["y"], []);
        assert!(message(b).contains("it writes 'y', which exists already"));

        let mut b = chain();
        b.node_many("Relu", "y", &["x"], &["other"], []);
        assert!(message(b).contains("another node has the same name"));

        let mut b = chain();
        b.output("nothing", Dtype::F32, [Dim::Fixed(2)]);
        assert!(message(b).contains("output 'nothing': no node writes it"));

        let mut b = chain();
        b.constant("x", Tensor::unset([2], Dtype::F32));
        assert!(message(b).contains("input 'x': the name is used twice"));

        let mut b = chain();
        b.constant("big", Tensor::unset([usize::MAX / 2, 0], Dtype::F32));
        assert!(message(b).contains("too large"));

        assert!(message(GraphBuilder::new("old", 9)).contains("operator set 9, outside 13 to 23"));
        assert!(message(GraphBuilder::new("empty", 20)).contains("no outputs"));
    }

    #[test]
    fn a_foreign_domain_is_not_supported() {
        let mut graph = chain().finish().unwrap();
        graph.nodes[0].domain = "com.microsoft".into();
        assert!(matches!(graph.validate(), Err(Error::UnsupportedOp { .. })));
    }

    #[test]
    fn unset_weights_are_found() {
        let mut b = chain();
        b.constant("w", Tensor::unset([2], Dtype::F32));
        let graph = b.finish().unwrap();
        assert!(graph.check_weights().unwrap_err().to_string().contains("'w'"));
    }
}
