//! A graph isomorphism network (Xu et al., ICLR 2019) over architecture graphs.
//!
//! Three layers. Each adds, at every node, what comes in, what goes out, and the node itself, each through weights of its own,
//! so that direction is not lost; a second dense layer follows. A scaled sum over nodes
//! is the embedding: a mean would forget how much there is.

use super::net::{Dense, rectify, unrectify};
use crate::rand::Rng;
use crate::space::ArchGraph;

/// Layers that pass messages.
const LAYERS: usize = 3;

/// What a sum over nodes is multiplied by, so that cells begin near 1.
const SCALE: f32 = 0.125;

/// A position at which a chain's feature of position becomes 1.
const LONG: f32 = 32.0;

/// Graphs laid end to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    features: Vec<f32>,
    /// Pairs from, to among all nodes.
    edges: Vec<(usize, usize)>,
    /// First node of each graph, and the end.
    starts: Vec<usize>,
}

impl Batch {
    /// Lays graphs of one space end to end.
    pub(super) fn new<'a>(graphs: impl IntoIterator<Item = &'a ArchGraph>) -> Self {
        let mut batch = Self { starts: vec![0], ..Self::default() };
        for graph in graphs {
            let first = batch.nodes();
            for (label, position) in graph.labels.iter().zip(&graph.positions) {
                let at = batch.features.len();
                batch.features.resize(at + graph.vocabulary + 1, 0.0);
                batch.features[at + usize::from(*label)] = 1.0;
                // In a chain, where a part stands matters; in a cell, its neighbours say so.
                batch.features[at + graph.vocabulary] =
                    if graph.chain { f32::from(*position) / LONG } else { 0.0 };
            }
            batch.edges.extend(graph.edges.iter().map(|(a, b)| (first + a, first + b)));
            batch.starts.push(first + graph.labels.len());
        }
        batch
    }

    pub(super) fn graphs(&self) -> usize {
        self.starts.len() - 1
    }

    fn nodes(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }
}

/// The network: graphs to embeddings.
#[derive(Clone, Debug)]
pub(super) struct Gin {
    pub(super) width: usize,
    layers: Vec<(Dense, Dense)>,
}

/// What the backward pass needs of the forward pass.
pub(super) struct Trace {
    /// Each layer's gathered input, what its first part gave, and what its second part gave.
    layers: Vec<(Vec<f32>, Vec<f32>, Vec<f32>)>,
    /// One row a graph.
    pub(super) embedding: Vec<f32>,
}

impl Gin {
    /// Appends its parameters for graphs of this many labels.
    pub(super) fn new(parameters: &mut Vec<f32>, vocabulary: usize, width: usize, rng: &mut Rng) -> Self {
        let layer = |at: usize| {
            let inputs = if at == 0 { vocabulary + 1 } else { width };
            (Dense::new(parameters, 3 * inputs, width, rng), Dense::new(parameters, width, width, rng))
        };
        Self { width, layers: (0..LAYERS).map(layer).collect() }
    }

    pub(super) fn forward(&self, parameters: &[f32], batch: &Batch) -> Trace {
        let mut layers = Vec::new();
        let mut width = batch.features.len() / batch.nodes().max(1);
        let mut here: &[f32] = &batch.features;
        for (first, second) in &self.layers {
            let gathered = gather(here, width, &batch.edges);
            let mut inner = first.forward(parameters, &gathered);
            rectify(&mut inner);
            let mut out = second.forward(parameters, &inner);
            rectify(&mut out);
            layers.push((gathered, inner, out));
            here = layers.last().map_or(&[], |(_, _, out)| out);
            width = self.width;
        }
        let embedding = self.sum(here, batch);
        Trace { layers, embedding }
    }

    /// The scaled sum over the nodes of each graph.
    fn sum(&self, nodes: &[f32], batch: &Batch) -> Vec<f32> {
        let mut sums = vec![0.0; batch.graphs() * self.width];
        for (row, span) in sums.chunks_exact_mut(self.width).zip(batch.starts.windows(2)) {
            for node in nodes[span[0] * self.width..span[1] * self.width].chunks_exact(self.width) {
                row.iter_mut().zip(node).for_each(|(sum, value)| *sum += value * SCALE);
            }
        }
        sums
    }

    /// The sums over the nodes of each graph after each layer: after the first a node knows its neighbours, after the last all.
    pub(super) fn levels(&self, trace: &Trace, batch: &Batch) -> Vec<Vec<f32>> {
        trace.layers.iter().map(|(_, _, out)| self.sum(out, batch)).collect()
    }

    /// Adds the gradients of the parameters, given those of the embeddings.
    pub(super) fn backward(
        &self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &Batch,
        trace: &Trace,
        d: &[f32],
    ) {
        let mut dy = vec![0.0; batch.nodes() * self.width];
        for (row, span) in d.chunks_exact(self.width).zip(batch.starts.windows(2)) {
            for node in dy[span[0] * self.width..span[1] * self.width].chunks_exact_mut(self.width) {
                node.iter_mut().zip(row).for_each(|(dy, d)| *dy = d * SCALE);
            }
        }
        for (at, ((first, second), (gathered, inner, out))) in
            self.layers.iter().zip(&trace.layers).enumerate().rev()
        {
            unrectify(&mut dy, out);
            let mut d_inner = second.backward(parameters, gradients, inner, &dy);
            unrectify(&mut d_inner, inner);
            let d_gathered = first.backward(parameters, gradients, gathered, &d_inner);
            if at > 0 {
                dy = scatter(&d_gathered, self.width, &batch.edges);
            }
        }
    }
}

/// Each node beside the sum of what comes in and the sum of what goes out.
fn gather(x: &[f32], width: usize, edges: &[(usize, usize)]) -> Vec<f32> {
    let mut out = vec![0.0; 3 * x.len()];
    for (row, x) in out.chunks_exact_mut(3 * width).zip(x.chunks_exact(width)) {
        row[..width].copy_from_slice(x);
    }
    for &(from, to) in edges {
        let sides = [(to, from, 1), (from, to, 2)];
        for (node, other, place) in sides {
            let start = (3 * node + place) * width;
            let source = &x[other * width..(other + 1) * width];
            out[start..start + width].iter_mut().zip(source).for_each(|(sum, value)| *sum += value);
        }
    }
    out
}

/// The gradient of [`gather`].
fn scatter(d: &[f32], width: usize, edges: &[(usize, usize)]) -> Vec<f32> {
    let mut out: Vec<f32> = d.chunks_exact(3 * width).flat_map(|row| row[..width].to_vec()).collect();
    for &(from, to) in edges {
        for (node, other, place) in [(to, from, 1), (from, to, 2)] {
            let start = (3 * node + place) * width;
            let source = &d[start..start + width];
            out[other * width..(other + 1) * width]
                .iter_mut()
                .zip(source)
                .for_each(|(sum, value)| *sum += value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::{Draw as _, stream};

    #[test]
    fn gradients_match_differences() {
        let mut rng = stream(2, "test", 0);
        let graphs = [
            ArchGraph {
                labels: vec![0, 2, 3, 2, 1],
                positions: vec![0, 1, 2, 3, 4],
                edges: vec![(0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 4)],
                vocabulary: 4,
                chain: false,
            },
            ArchGraph {
                labels: vec![0, 3, 1],
                positions: vec![0, 2, 4],
                edges: vec![(0, 1), (1, 2)],
                vocabulary: 4,
                chain: false,
            },
        ];
        let batch = Batch::new(&graphs);
        let mut parameters = Vec::new();
        let gin = Gin::new(&mut parameters, 4, 6, &mut rng);
        let wanted: Vec<f32> = (0..12).map(|_| rng.normal() as f32).collect();
        let loss = |parameters: &[f32]| -> f64 {
            let trace = gin.forward(parameters, &batch);
            trace.embedding.iter().zip(&wanted).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
        };
        let mut gradients = vec![0.0; parameters.len()];
        let trace = gin.forward(&parameters, &batch);
        gin.backward(&parameters, &mut gradients, &batch, &trace, &wanted);
        let (mut wrong, step) = (0, 1e-3);
        for at in 0..parameters.len() {
            let moved = |by: f32| {
                let mut moved = parameters.clone();
                moved[at] += by;
                loss(&moved)
            };
            let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            // A rectifier may switch within the step.
            wrong += usize::from((slope - f64::from(gradients[at])).abs() > 0.02 * (1.0 + slope.abs()));
        }
        assert!(wrong * 100 <= parameters.len(), "{wrong} of {} gradients differ", parameters.len());
        assert!(gradients.iter().filter(|gradient| **gradient != 0.0).count() * 2 > parameters.len());
    }

    /// The same graph with its nodes in another order has the same embedding.
    #[test]
    fn order_does_not_matter() {
        let mut rng = stream(3, "test", 0);
        let mut parameters = Vec::new();
        let gin = Gin::new(&mut parameters, 4, 8, &mut rng);
        let one = ArchGraph {
            labels: vec![0, 2, 3, 1],
            positions: vec![0, 1, 2, 3],
            edges: vec![(0, 1), (0, 2), (1, 3), (2, 3)],
            vocabulary: 4,
            chain: false,
        };
        let other = ArchGraph { labels: vec![0, 3, 2, 1], ..one.clone() };
        let embed = |graph: &ArchGraph| gin.forward(&parameters, &Batch::new([graph])).embedding;
        let different = ArchGraph { labels: vec![0, 3, 3, 1], ..one.clone() };
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>();
        assert!(apart(&embed(&one), &embed(&other)) < 1e-5);
        assert!(apart(&embed(&one), &embed(&different)) > 1e-3);
    }
}
