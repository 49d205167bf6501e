//! Topological order of nodes.

use std::collections::{BTreeSet, HashMap};

use crate::error::Result;
use crate::graph::Node;

/// Sorts nodes so that each comes after those whose outputs it reads. Nodes that are in order already
/// keep their places; among several possible next nodes the first in the file comes first.
///
/// # Errors
/// [`Error::InvalidNode`](crate::Error::InvalidNode) naming a node of a cycle, or a value written twice.
pub(super) fn sort(nodes: Vec<Node>) -> Result<Vec<Node>> {
    let mut writer: HashMap<&str, usize> = HashMap::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if writer.insert(output, index).is_some() {
                return Err(node.invalid(format!("it writes '{output}', which exists already")));
            }
        }
    }
    // Values without a writer are inputs, constants or undefined; `Graph::validate` tells which.
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waiting: Vec<usize> = vec![0; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let before: BTreeSet<usize> =
            node.inputs.iter().filter_map(|name| writer.get(name.as_str()).copied()).collect();
        if let Some(count) = waiting.get_mut(index) {
            *count = before.len();
        }
        for first in before {
            if let Some(list) = readers.get_mut(first) {
                list.push(index);
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|i| waiting.get(*i) == Some(&0)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for reader in readers.get(index).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(*reader) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(*reader);
                }
            }
        }
    }
    if order.len() < nodes.len()
        && let Some((node, _)) = nodes.iter().zip(&waiting).find(|(_, count)| **count > 0)
    {
        return Err(node.invalid("it is on a cycle, or reads from one"));
    }
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|index| nodes.get_mut(index)?.take()).collect())
}
