//! Architectures as small directed graphs: what graph predictors read, how far two are apart, and when two are the same.
//!
//! The distance stands in for a graph edit distance, after the position-aware path encoding of Wei et al. (2020): every path
//! from input to output is a row of one-hot operations, and the distance is the number of bits that differ. There, paths are sorted
//! and laid side by side, so that one missing path moves all that follow; here a path's place is the list of positions that it
//! visits, so that paths compare with themselves and the distance is a metric. A chain has one path: a changed choice costs 2, a part
//! more or less costs 1.

use std::collections::BTreeSet;

/// A labelled directed acyclic graph. Node 0 is the input and the last node the output; edges lead from lower to higher numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchGraph {
    /// What each node computes: an index below [`ArchGraph::vocabulary`].
    pub labels: Vec<u16>,
    /// Where each node stands in the largest member of its space; ascending.
    pub positions: Vec<u16>,
    /// Pairs from, to; sorted.
    pub edges: Vec<(usize, usize)>,
    /// Number of labels in the space.
    pub vocabulary: usize,
    /// Whether every member of the space is a chain, so that paths of different lengths are compared node by node.
    pub chain: bool,
}

/// One bit of a path code: path (a set of positions; 0 in a space of chains), position, label.
type Bit = (u64, u16, u16);

/// The position-aware path code of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathCode(Vec<Bit>);

impl PathCode {
    /// Number of bits that differ.
    pub fn distance(&self, other: &Self) -> usize {
        let (mut a, mut b, mut same) = (0, 0, 0);
        while let (Some(one), Some(two)) = (self.0.get(a), other.0.get(b)) {
            match one.cmp(two) {
                std::cmp::Ordering::Less => a += 1,
                std::cmp::Ordering::Greater => b += 1,
                std::cmp::Ordering::Equal => (a, b, same) = (a + 1, b + 1, same + 1),
            }
        }
        self.0.len() + other.0.len() - 2 * same
    }
}

impl ArchGraph {
    /// A chain from the input, label 0, over `parts` (position, label), to the output, label 1.
    pub fn chain(parts: &[(u16, u16)], vocabulary: usize) -> Self {
        let last = parts.iter().map(|(position, _)| *position).max().unwrap_or(0);
        let inner = parts.iter().copied().map(|(position, label)| (position + 1, label));
        let (positions, labels): (Vec<u16>, Vec<u16>) =
            std::iter::once((0, 0)).chain(inner).chain(std::iter::once((last + 2, 1))).unzip();
        let edges = (1..labels.len()).map(|at| (at - 1, at)).collect();
        Self { labels, positions, edges, vocabulary, chain: true }
    }

    /// The same without nodes that are on no path from input to output; both ends stay.
    pub fn pruned(&self) -> Self {
        let n = self.labels.len();
        let (mut from, mut to) = (vec![false; n], vec![false; n]);
        if n > 0 {
            (from[0], to[n - 1]) = (true, true);
        }
        for &(a, b) in &self.edges {
            from[b] |= from[a];
        }
        for &(a, b) in self.edges.iter().rev() {
            to[a] |= to[b];
        }
        let keep: Vec<usize> = (0..n).filter(|at| from[*at] && to[*at] || *at == 0 || at + 1 == n).collect();
        let place = |node: usize| keep.iter().position(|kept| *kept == node);
        Self {
            labels: keep.iter().map(|at| self.labels[*at]).collect(),
            positions: keep.iter().map(|at| self.positions[*at]).collect(),
            edges: self.edges.iter().filter_map(|(a, b)| Some((place(*a)?, place(*b)?))).collect(),
            ..*self
        }
    }

    /// The paths from input to output, each a list of nodes without its ends.
    fn paths(&self) -> Vec<Vec<usize>> {
        let Some(last) = self.labels.len().checked_sub(1) else { return Vec::new() };
        let mut paths = Vec::new();
        let mut open = vec![vec![0]];
        while let Some(path) = open.pop() {
            let end = path[path.len() - 1];
            for &(_, next) in self.edges.iter().filter(|(from, _)| *from == end) {
                if next == last {
                    paths.push(path[1..].to_vec());
                } else {
                    let mut longer = path.clone();
                    longer.push(next);
                    open.push(longer);
                }
            }
        }
        paths
    }

    /// The code whose distance stands in for the edit distance.
    ///
    /// A graph has up to exponentially many paths: spaces keep their graphs to a few vertices, or to a chain.
    pub fn code(&self) -> PathCode {
        let mut bits = Vec::new();
        for path in self.paths() {
            let visited = path.iter().map(|node| 1u64 << (self.positions[*node] % 64)).fold(0, |a, b| a | b);
            let visited = if self.chain { 0 } else { visited };
            bits.extend(path.iter().map(|node| (visited, self.positions[*node], self.labels[*node])));
        }
        bits.sort_unstable();
        PathCode(bits)
    }

    /// Equal exactly for graphs that are isomorphic, labels included, once nodes on no path are taken off.
    ///
    /// Colour refinement, then each node of the first ambiguous colour is tried as the first of it, and the least text wins.
    pub fn key(&self) -> String {
        let graph = self.pruned();
        let n = graph.labels.len();
        let ends = |at: usize| usize::from(at == 0) + 2 * usize::from(at + 1 == n);
        let first: Vec<Vec<usize>> = (0..n).map(|at| vec![ends(at), usize::from(graph.labels[at])]).collect();
        graph.least(&graph.refine(&ranks(&first)))
    }

    /// The least text of all orders that these refined colours allow.
    ///
    /// Where two choices lead to one text at once, some renumbering takes one to the other, and so all that follows: one of them is
    /// enough. So many alike nodes, or alike branches, cost no factorial time.
    fn least(&self, colours: &[usize]) -> String {
        let mut seen = BTreeSet::new();
        let different = |colours: &Vec<usize>| seen.insert(self.first_text(colours));
        let least = self.choices(colours).filter(different).map(|one| self.least(&one)).min();
        least.unwrap_or_else(|| self.text(colours))
    }

    /// The text of one order that these refined colours allow: the first choice everywhere.
    fn first_text(&self, colours: &[usize]) -> String {
        match self.choices(colours).next() {
            Some(first) => self.first_text(&first),
            None => self.text(colours),
        }
    }

    /// Finer colours for each node of the first ambiguous one, as the first of it; none where all are distinct.
    fn choices<'a>(&'a self, colours: &'a [usize]) -> impl Iterator<Item = Vec<usize>> + 'a {
        let n = colours.len();
        let many = |colour: &usize| colours.iter().filter(|other| *other == colour).count() > 1;
        let ambiguous = (0..n).find(many);
        let choose = move |chosen: usize| {
            let split: Vec<Vec<usize>> =
                (0..n).map(|at| vec![colours[at], usize::from(at != chosen)]).collect();
            self.refine(&ranks(&split))
        };
        (0..n).filter(move |at| ambiguous == Some(colours[*at])).map(choose)
    }

    /// Splits colours by those of the neighbours until nothing changes.
    fn refine(&self, colours: &[usize]) -> Vec<usize> {
        let mut colours = colours.to_vec();
        loop {
            let seen: Vec<Vec<usize>> = (0..colours.len())
                .map(|at| {
                    let around = |forth: bool| {
                        let ends = self.edges.iter().filter_map(move |&(a, b)| {
                            let (here, there) = if forth { (a, b) } else { (b, a) };
                            (here == at).then_some(there)
                        });
                        let mut around: Vec<usize> = ends.map(|there| colours[there]).collect();
                        around.sort_unstable();
                        around
                    };
                    let (next, before) = (around(true), around(false));
                    let mut all = vec![colours[at], next.len()];
                    all.extend(next);
                    all.extend(before);
                    all
                })
                .collect();
            let finer = ranks(&seen);
            if finer == colours {
                return colours;
            }
            colours = finer;
        }
    }

    /// Labels and edges in the order of colours that are all distinct.
    fn text(&self, colours: &[usize]) -> String {
        let mut labels = vec![0; self.labels.len()];
        for (at, colour) in colours.iter().enumerate() {
            labels[*colour] = self.labels[at];
        }
        let edges: BTreeSet<(usize, usize)> =
            self.edges.iter().map(|&(a, b)| (colours[a], colours[b])).collect();
        format!("{labels:?}{edges:?}").replace(' ', "")
    }
}

/// The rank of each value: equal values get the lowest index among equals, so that colours of a finished refinement are places.
fn ranks(values: &[Vec<usize>]) -> Vec<usize> {
    let mut sorted: Vec<&Vec<usize>> = values.iter().collect();
    sorted.sort_unstable();
    values.iter().map(|value| sorted.partition_point(|other| *other < value)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A graph of up to six nodes with two inner labels; the ends have labels of their own.
    fn graphs() -> impl Strategy<Value = ArchGraph> {
        (2usize..7).prop_flat_map(|n| {
            let labels = prop::collection::vec(2u16..4, n - 2);
            (labels, prop::collection::vec(any::<bool>(), n * (n - 1) / 2)).prop_map(move |(inner, bits)| {
                let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
                let edges = pairs.zip(bits).filter_map(|(pair, on)| on.then_some(pair)).collect();
                let labels = [0].into_iter().chain(inner).chain([1]).collect();
                ArchGraph { labels, positions: (0..n as u16).collect(), edges, vocabulary: 4, chain: false }
            })
        })
    }

    /// Tries every renumbering.
    fn isomorphic(a: &ArchGraph, b: &ArchGraph) -> bool {
        let (a, b) = (a.pruned(), b.pruned());
        let n = a.labels.len();
        if n != b.labels.len() || a.edges.len() != b.edges.len() {
            return false;
        }
        fn all(n: usize, given: &mut Vec<usize>, found: &mut dyn FnMut(&[usize]) -> bool) -> bool {
            if given.len() == n {
                return found(given);
            }
            (0..n).any(|next| {
                if given.contains(&next) {
                    return false;
                }
                given.push(next);
                let fits = all(n, given, found);
                given.pop();
                fits
            })
        }
        let wanted: BTreeSet<(usize, usize)> = b.edges.iter().copied().collect();
        all(n, &mut Vec::new(), &mut |to| {
            (0..n).all(|at| a.labels[at] == b.labels[to[at]])
                && to[0] == 0
                && to[n - 1] == n - 1
                && a.edges.iter().map(|&(x, y)| (to[x], to[y])).collect::<BTreeSet<_>>() == wanted
        })
    }

    /// Every set of inner nodes that forms a path, as (set, position, label).
    fn bits_by_hand(graph: &ArchGraph) -> BTreeSet<(u64, u16, u16)> {
        let n = graph.labels.len();
        let mut bits = BTreeSet::new();
        for set in 0u64..1 << (n - 2) {
            let inner: Vec<usize> = (1..n - 1).filter(|at| set >> (at - 1) & 1 == 1).collect();
            let mut path = vec![0];
            path.extend(&inner);
            path.push(n - 1);
            if path.windows(2).all(|pair| graph.edges.contains(&(pair[0], pair[1]))) {
                bits.extend(inner.iter().map(|at| (set, graph.positions[*at], graph.labels[*at])));
            }
        }
        bits
    }

    proptest! {
        #[test]
        fn keys_agree_with_every_renumbering(a in graphs(), b in graphs()) {
            prop_assert_eq!(a.key() == b.key(), isomorphic(&a, &b));
        }

        /// Random pairs are rarely isomorphic: here one is a renumbering of the other, or that with one thing changed.
        #[test]
        fn keys_survive_renumbering_and_see_one_change(
            graph in graphs(), order in prop::collection::vec(any::<u32>(), 6), flip in any::<prop::sample::Index>(),
            change in any::<bool>(),
        ) {
            let n = graph.labels.len();
            // A random topological order of the inner nodes.
            let mut left: Vec<usize> = (1..n - 1).collect();
            let mut to = vec![0; n];
            to[n - 1] = n - 1;
            for (next, draw) in (1..n - 1).zip(&order) {
                let ready: Vec<usize> = left.iter().copied()
                    .filter(|at| !graph.edges.iter().any(|(a, b)| b == at && left.contains(a))).collect();
                let taken = ready[*draw as usize % ready.len()];
                to[taken] = next;
                left.retain(|at| *at != taken);
            }
            let mut other = graph.clone();
            for (at, place) in to.iter().enumerate() {
                other.labels[*place] = graph.labels[at];
            }
            other.edges = graph.edges.iter().map(|&(a, b)| (to[a], to[b])).collect();
            other.edges.sort_unstable();
            if change && n > 2 {
                let at = 1 + flip.index(n - 2);
                other.labels[at] = 5 - other.labels[at];
            }
            prop_assert_eq!(graph.key() == other.key(), isomorphic(&graph, &other));
            if !change {
                prop_assert_eq!(graph.key(), other.key());
            }
        }

        #[test]
        fn distances_match_the_definition_and_are_a_metric(a in graphs(), b in graphs(), c in graphs()) {
            let by_hand = |x: &ArchGraph, y: &ArchGraph| bits_by_hand(x).symmetric_difference(&bits_by_hand(y)).count();
            let apart = |x: &ArchGraph, y: &ArchGraph| x.code().distance(&y.code());
            prop_assert_eq!(apart(&a, &b), by_hand(&a, &b));
            prop_assert_eq!(apart(&a, &b), apart(&b, &a));
            prop_assert_eq!(apart(&a, &a), 0);
            prop_assert!(apart(&a, &c) <= apart(&a, &b) + apart(&b, &c));
        }
    }

    /// Ten branches of two equal nodes each are alike in 10! ways.
    #[test]
    fn alike_branches_cost_no_factorial_time() {
        let branches = |order: &[usize], last: u16| {
            let nodes = 2 * order.len() + 2;
            let mut labels = vec![2; nodes];
            (labels[0], labels[nodes - 1], labels[nodes - 2]) = (0, 1, last);
            let mut edges: Vec<(usize, usize)> = order
                .iter()
                .enumerate()
                .flat_map(|(at, to)| [(0, 1 + at), (1 + at, 11 + to), (11 + to, nodes - 1)])
                .collect();
            edges.sort_unstable();
            ArchGraph { labels, positions: (0..nodes as u16).collect(), edges, vocabulary: 4, chain: false }
        };
        let straight: Vec<usize> = (0..10).collect();
        let crossed = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7];
        assert_eq!(branches(&straight, 2).key(), branches(&crossed, 2).key());
        assert_eq!(branches(&straight, 3).key(), branches(&crossed, 3).key());
        assert_ne!(branches(&straight, 2).key(), branches(&straight, 3).key());
    }

    #[test]
    fn in_a_chain_a_change_costs_two_and_a_part_one() {
        let chain = |parts: &[(u16, u16)]| ArchGraph::chain(parts, 9).code();
        let base = chain(&[(0, 2), (1, 4), (2, 6)]);
        assert_eq!(base.distance(&chain(&[(0, 3), (1, 4), (2, 6)])), 2);
        assert_eq!(base.distance(&chain(&[(0, 2), (1, 4), (2, 6), (3, 4), (4, 6)])), 2);
        assert_eq!(base.distance(&chain(&[(0, 2), (1, 5), (2, 7), (3, 4)])), 5);
    }
}
