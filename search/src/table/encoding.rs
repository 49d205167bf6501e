//! Genes and graphs of a table's architectures, by the kind of space.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::MOST_VERTICES;
use super::{Definition, Kind, Rows};
use crate::error::Result;
use crate::space::{ArchGraph, Gene};

/// Layers of a chain, at most.
const MOST_LAYERS: usize = 60;

/// What the genes of a table mean.
#[derive(Clone, Debug)]
pub(super) enum Encoding {
    /// One gene an edge.
    Edges { edges: Vec<(usize, usize)>, none: Option<u16>, skip: Option<u16> },
    /// One gene a pair of vertices, then one gene an inner vertex.
    Dag { vertices: usize },
    /// Scalars, the depth, then `parts` genes a layer.
    Chain { scalars: usize, depths: Vec<usize>, layers: usize, parts: usize },
}

/// The genes of a table, their meaning, and every row's values.
pub(super) type Encoded = (Vec<Gene>, Encoding, Vec<Vec<u16>>);

/// Reads the architectures.
pub(super) fn read(definition: &Definition, rows: &Rows) -> Result<Encoded> {
    match definition.kind {
        Kind::Edges => edges(definition, rows),
        Kind::Dag => dag(definition, rows),
        Kind::Chain => chain(definition, rows),
    }
}

/// Distinct words, numbers by size and before words.
fn options<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let words: BTreeSet<&str> = words.into_iter().collect();
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let number = |word: &String| word.parse::<f64>().unwrap_or(f64::INFINITY);
    words.sort_by(|a, b| number(a).total_cmp(&number(b)));
    words
}

/// The index of a word that is among the options.
fn place(options: &[String], word: &str) -> u16 {
    options.iter().position(|option| option == word).unwrap_or(0) as u16
}

fn edges(definition: &Definition, rows: &Rows) -> Result<Encoded> {
    let column = rows.text(&definition.ops)?;
    let count = definition.edges.len();
    let all = options(column.iter().flat_map(|ops| ops.split('-')));
    let mut values = Vec::new();
    for (row, ops) in column.iter().enumerate() {
        let ops: Vec<u16> = ops.split('-').map(|op| place(&all, op)).collect();
        if ops.len() != count {
            let problem = format!("it has {} operations for {count} edges", ops.len());
            return Err(rows.bad(row, &definition.ops, &problem));
        }
        values.push(ops);
    }
    let index = |name: &Option<String>| {
        name.as_ref().and_then(|name| Some(all.iter().position(|op| op == name)? as u16))
    };
    let encoding = Encoding::Edges {
        edges: definition.edges.clone(),
        none: index(&definition.none),
        skip: index(&definition.skip),
    };
    let gene = |(from, to): &(usize, usize)| Gene {
        name: format!("op.{from}.{to}"),
        options: all.clone(),
        structural: false,
    };
    Ok((definition.edges.iter().map(gene).collect(), encoding, values))
}

fn dag(definition: &Definition, rows: &Rows) -> Result<Encoded> {
    let (adjacency, ops) = (rows.text(&definition.adjacency)?, rows.text(&definition.ops)?);
    let vertices = ops.iter().map(|ops| ops.split('-').count()).max().unwrap_or(0);
    if !(2..=MOST_VERTICES + 1).contains(&vertices) {
        let problem = format!("it has {vertices} vertices, not 2 to {}", MOST_VERTICES + 1);
        return Err(rows.bad(0, &definition.ops, &problem));
    }
    let inner = |ops: &str| -> Vec<String> {
        let words: Vec<&str> = ops.split('-').collect();
        words
            .get(1..words.len().saturating_sub(1))
            .unwrap_or_default()
            .iter()
            .map(|w| (*w).to_owned())
            .collect()
    };
    let words: Vec<Vec<String>> = ops.iter().map(|ops| inner(ops)).collect();
    let all = options(words.iter().flatten().map(String::as_str));
    let mut values = Vec::new();
    for (row, (matrix, words)) in adjacency.iter().zip(&words).enumerate() {
        let lines: Vec<&[u8]> = matrix.split('/').map(str::as_bytes).collect();
        let square = lines.len() == vertices && lines.iter().all(|line| line.len() == vertices);
        if !square || words.len() + 2 != vertices {
            let problem = format!(
                "{} rows for {} operations; every row of the table needs {vertices} of both",
                lines.len(),
                words.len() + 2
            );
            return Err(rows.bad(row, &definition.adjacency, &problem));
        }
        let mut genes: Vec<u16> = pairs(vertices).map(|(a, b)| u16::from(lines[a][b] == b'1')).collect();
        genes.extend(words.iter().map(|word| place(&all, word)));
        values.push(genes);
    }
    let bit = |(a, b)| Gene {
        name: format!("edge.{a}.{b}"),
        options: vec!["0".to_owned(), "1".to_owned()],
        structural: false,
    };
    let op = |at| Gene { name: format!("op.{at}"), options: all.clone(), structural: false };
    let genes = pairs(vertices).map(bit).chain((1..vertices - 1).map(op)).collect();
    Ok((genes, Encoding::Dag { vertices }, values))
}

/// Pairs of vertices, the lower first.
fn pairs(vertices: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..vertices).flat_map(move |a| (a + 1..vertices).map(move |b| (a, b)))
}

fn chain(definition: &Definition, rows: &Rows) -> Result<Encoded> {
    let scalars: Vec<Vec<&str>> =
        definition.scalars.iter().map(|column| rows.text(column)).collect::<Result<_>>()?;
    let mut lists: Vec<Vec<Vec<&str>>> = Vec::new();
    for column in &definition.layers {
        lists.push(rows.text(column)?.into_iter().map(|cell| cell.split('-').collect()).collect());
    }
    let lengths: Vec<usize> = lists[0].iter().map(Vec::len).collect();
    for (column, list) in definition.layers.iter().zip(&lists) {
        for (row, (cell, length)) in list.iter().zip(&lengths).enumerate() {
            if cell.len() != *length || *length > MOST_LAYERS {
                let first = &definition.layers[0];
                let problem =
                    format!("it has {} layers, {first} has {length}; at most {MOST_LAYERS}", cell.len());
                return Err(rows.bad(row, column, &problem));
            }
        }
    }
    let depths: Vec<usize> = lengths.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let layers = depths.last().copied().unwrap_or(0);
    let gene = |name: String, options: Vec<String>, structural| Gene { name, options, structural };
    let mut genes: Vec<Gene> = definition
        .scalars
        .iter()
        .zip(&scalars)
        .map(|(name, column)| gene(name.clone(), options(column.iter().copied()), true))
        .collect();
    genes.push(gene("depth".to_owned(), depths.iter().map(ToString::to_string).collect(), true));
    let of_layers: Vec<Vec<String>> =
        lists.iter().map(|list| options(list.iter().flatten().copied())).collect();
    for layer in 0..layers {
        for (name, options) in definition.layers.iter().zip(&of_layers) {
            genes.push(gene(format!("{name}.{layer}"), options.clone(), false));
        }
    }
    let mut values = Vec::new();
    for row in 0..rows.count() {
        let mut one: Vec<u16> =
            scalars.iter().zip(&genes).map(|(column, gene)| place(&gene.options, column[row])).collect();
        one.push(depths.iter().position(|depth| *depth == lengths[row]).unwrap_or(0) as u16);
        for layer in 0..layers {
            let cell = |(list, options): (&Vec<Vec<&str>>, &Vec<String>)| {
                list[row].get(layer).map_or(0, |word| place(options, word))
            };
            one.extend(lists.iter().zip(&of_layers).map(cell));
        }
        values.push(one);
    }
    let encoding = Encoding::Chain { scalars: scalars.len(), depths, layers, parts: lists.len() };
    Ok((genes, encoding, values))
}

impl Encoding {
    /// Which genes matter under these values: layers up to the depth, operations of vertices that are on a path.
    pub(super) fn active(&self, values: &[u16]) -> Vec<bool> {
        match self {
            Self::Edges { edges, .. } => vec![true; edges.len()],
            Self::Dag { vertices } => {
                let graph = dag_graph(*vertices, values, 0).pruned();
                let used: BTreeSet<u16> = graph.positions.into_iter().collect();
                let bits = vertices * (vertices - 1) / 2;
                let ops = (1..vertices - 1).map(|at| used.contains(&(at as u16)));
                std::iter::repeat_n(true, bits).chain(ops).collect()
            }
            Self::Chain { scalars, depths, layers, parts } => {
                let choice = values.get(*scalars).copied().unwrap_or(0) as usize;
                let depth = depths[choice.min(depths.len() - 1)];
                let whole = std::iter::repeat_n(true, scalars + 1);
                whole.chain((0..layers * parts).map(|at| at / parts < depth)).collect()
            }
        }
    }

    /// The graph of a member.
    pub(super) fn graph(&self, genes: &[Gene], values: &[u16]) -> ArchGraph {
        match self {
            // What is on no path changes nothing, and guesses are not to depend on it.
            Self::Edges { edges, none, .. } => {
                edge_graph(edges, *none, values, genes[0].options.len()).pruned()
            }
            Self::Dag { vertices } => {
                dag_graph(*vertices, values, genes.last().map_or(0, |gene| gene.options.len()))
            }
            Self::Chain { scalars, .. } => {
                let active = self.active(values);
                let mut next = 2;
                let mut parts = Vec::new();
                // Layers share labels by the column they are from; scalars have their own.
                let mut of_column: BTreeMap<&str, u16> = BTreeMap::new();
                for (at, gene) in genes.iter().enumerate() {
                    let column = gene.name.split('.').next().unwrap_or("");
                    let first = *of_column.entry(column).or_insert(next);
                    next = next.max(first + gene.options.len() as u16);
                    // The depth is the length of the chain.
                    if at != *scalars && active[at] {
                        parts.push((at as u16, first + values[at]));
                    }
                }
                ArchGraph::chain(&parts, usize::from(next))
            }
        }
    }

    /// A key that is equal for members that compute the same function; `None`: that of the graph.
    ///
    /// On edges: what a vertex holds is the sum of what its edges bring; a cut edge brings nothing, nor does an operation on nothing,
    /// and a skip brings the terms that it is given.
    pub(super) fn key(&self, values: &[u16]) -> Option<String> {
        let Self::Edges { edges, none, skip } = self else { return None };
        let last = edges.iter().map(|(_, to)| *to).max()?;
        let mut held: Vec<Vec<String>> = vec![vec!["x".to_owned()]];
        for vertex in 1..=last {
            let mut terms = Vec::new();
            for ((from, _), op) in edges.iter().zip(values).filter(|((_, to), _)| *to == vertex) {
                let source = held.get(*from)?;
                if Some(*op) == *none || source.is_empty() {
                    continue;
                }
                if Some(*op) == *skip {
                    terms.extend(source.iter().cloned());
                } else {
                    terms.push(format!("({}){op}", source.join("+")));
                }
            }
            terms.sort_unstable();
            held.push(terms);
        }
        Some(held.pop()?.join("+"))
    }
}

/// Operations on vertices; inner labels begin at 2.
fn dag_graph(vertices: usize, values: &[u16], ops: usize) -> ArchGraph {
    let bit = |at: usize| values.get(at).is_some_and(|value| *value > 0);
    let edges = pairs(vertices).enumerate().filter_map(|(at, pair)| bit(at).then_some(pair)).collect();
    let bits = vertices * (vertices - 1) / 2;
    let inner = (0..vertices - 2).map(|at| 2 + values.get(bits + at).copied().unwrap_or(0));
    ArchGraph {
        labels: std::iter::once(0).chain(inner).chain(std::iter::once(1)).collect(),
        positions: (0..vertices as u16).collect(),
        edges,
        vocabulary: 2 + ops,
        chain: false,
    }
}

/// Operations on edges, as nodes of a graph whose edges are the vertices that they meet at. What is cut is left out.
fn edge_graph(edges: &[(usize, usize)], none: Option<u16>, values: &[u16], ops: usize) -> ArchGraph {
    let last = edges.iter().map(|(_, to)| *to).max().unwrap_or(0);
    let kept: Vec<usize> = (0..edges.len()).filter(|at| values.get(*at).copied() != none).collect();
    let output = kept.len() + 1;
    let mut links = Vec::new();
    for (place, &at) in kept.iter().enumerate() {
        let (from, to) = edges[at];
        if from == 0 {
            links.push((0, place + 1));
        }
        let onward = kept.iter().enumerate().filter(|(_, next)| edges[**next].0 == to);
        links.extend(onward.map(|(next, _)| (place + 1, next + 1)));
        if to == last {
            links.push((place + 1, output));
        }
    }
    links.sort_unstable();
    let inner = kept.iter().map(|at| 2 + values[*at]);
    let places = kept.iter().map(|at| *at as u16 + 1);
    ArchGraph {
        labels: std::iter::once(0).chain(inner).chain(std::iter::once(1)).collect(),
        positions: std::iter::once(0).chain(places).chain(std::iter::once(edges.len() as u16 + 1)).collect(),
        edges: links,
        vocabulary: 2 + ops,
        chain: false,
    }
}
