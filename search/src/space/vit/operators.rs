//! Random members, neighbours, mutation and crossover.

use super::{DEPTH, EMBED, Genes, SCALARS, VitSpace, heads_at};
use crate::rand::{Draw, Rng};
use crate::space::Space;

impl VitSpace {
    /// A random member: every gene uniform, blocks up to the drawn depth.
    pub(super) fn draw(&self, rng: &mut Rng) -> Genes {
        let mut values = vec![0; self.genes.len()];
        values[EMBED] = self.option(EMBED, rng);
        values[DEPTH] = self.option(DEPTH, rng);
        let active = self.active(&values);
        for at in SCALARS..values.len() {
            if active[at] {
                values[at] = self.option(at, rng);
            }
        }
        self.finish(values)
    }

    /// Members one active gene away. When the depth grows, new blocks repeat the last one.
    pub(super) fn one_step(&self, genes: &Genes) -> Vec<Genes> {
        let mut neighbours = Vec::new();
        let base = self.finish(self.legal(genes));
        for at in (0..self.genes.len()).filter(|at| base.active[*at]) {
            for option in 0..self.genes[at].options.len() as u16 {
                if option == base.values[at] {
                    continue;
                }
                let mut values = base.values.clone();
                values[at] = option;
                if at == DEPTH {
                    let (known, new) = values.split_at_mut(heads_at(self.depth(&base)));
                    for block in new.chunks_exact_mut(2) {
                        block.copy_from_slice(&known[known.len() - 2..]);
                    }
                }
                neighbours.push(self.finish(values));
            }
        }
        neighbours
    }

    /// AutoFormer's mutation, in its order: depth (new blocks are random), blocks, width.
    pub(super) fn mutant(&self, genes: &Genes, structural: f64, each: f64, rng: &mut Rng) -> Genes {
        let mut values = self.legal(genes);
        let before = self.depth(genes);
        if rng.chance(structural) {
            values[DEPTH] = self.option(DEPTH, rng);
        }
        let active = self.active(&values);
        for at in SCALARS..values.len() {
            if active[at] && (at >= heads_at(before) || rng.chance(each)) {
                values[at] = self.option(at, rng);
            }
        }
        if rng.chance(structural) {
            values[EMBED] = self.option(EMBED, rng);
        }
        self.finish(values)
    }

    /// Uniform crossover of parents of equal depth, gene by gene.
    ///
    /// AutoFormer's script silently cuts the longer parent when it finds none of equal depth; here
    /// such a pair has no child.
    pub(super) fn child(&self, a: &Genes, b: &Genes, rng: &mut Rng) -> Option<Genes> {
        let (a, b) = (self.finish(self.legal(a)), self.finish(self.legal(b)));
        if a.active != b.active {
            return None;
        }
        let values = (0..self.genes.len()).map(|at| {
            // Inactive genes draw nothing: they hold 0 in both.
            let second = a.active[at] && rng.chance(0.5);
            if second { b.values[at] } else { a.values[at] }
        });
        Some(self.finish(values.collect()))
    }

    /// One option of gene `at`.
    fn option(&self, at: usize, rng: &mut Rng) -> u16 {
        rng.below(self.genes[at].options.len()) as u16
    }

    /// All values, each within its options.
    fn legal(&self, genes: &Genes) -> Vec<u16> {
        (0..self.genes.len()).map(|at| self.value(genes, at) as u16).collect()
    }
}
