//! A table of architectures as a space: its members are the rows.

use std::collections::BTreeMap;
use std::path::Path;

use masktas_export::Arch;
use sha2::{Digest, Sha256};

use super::encoding::{self, Encoding};
use super::{Definition, Rows};
use crate::error::Result;
use crate::rand::{Draw, Rng};
use crate::space::{ArchGraph, Gene, Genes, Space};

/// Draws of a mutant or a child before the nearest member takes its place.
const TRIES: usize = 20;

/// Members that are looked at as neighbours where none differs in one gene.
const NEAREST: usize = 8;

/// A space whose members are the rows of a table.
///
/// Rows with equal genes are one member, the first of them. Where not every combination of genes has a row, operators fall back to
/// the rows that differ least. The id of a member is its row, from 0: `r1462`.
#[derive(Clone, Debug)]
pub struct TableSpace {
    definition: Definition,
    rows: Rows,
    genes: Vec<Gene>,
    encoding: Encoding,
    /// Distinct members, in the order of their rows.
    members: Vec<Genes>,
    /// The row of each member.
    row_of: Vec<usize>,
    /// Rows that say again what a member is, each with the member.
    repeats: Vec<(usize, usize)>,
    index: BTreeMap<Vec<u16>, usize>,
    /// Whether every combination of genes is a member.
    pub(crate) complete: bool,
    hash: String,
}

impl TableSpace {
    /// Reads a table. `reading`: as [`Definition::find`] takes it.
    ///
    /// # Errors
    /// Those of [`Definition::find`] and [`Rows::read`]; cells that do not fit the definition.
    pub fn load(table: &Path, reading: Option<&str>) -> Result<Self> {
        // The rows first: whether there is a file comes before how it is read.
        let rows = Rows::read(table)?;
        Self::new(Definition::find(table, reading)?, rows)
    }

    /// The space of these rows.
    ///
    /// # Errors
    /// Columns that are not there; cells that do not fit the definition.
    pub fn new(definition: Definition, rows: Rows) -> Result<Self> {
        let (genes, encoding, values) = encoding::read(&definition, &rows)?;
        let mut hash = Sha256::new();
        let Definition { kind, edges, none, skip, params, flops, .. } = &definition;
        // What a member's graph, its key or its corners follow from, beside the rows.
        hash.update(format!("{kind:?}{edges:?}{none:?}{skip:?}{params:?}{flops:?}"));
        for gene in &genes {
            hash.update(format!("{} {:?}\n", gene.name, gene.options));
        }
        let (mut members, mut row_of, mut index) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut repeats = Vec::new();
        for (row, mut values) in values.into_iter().enumerate() {
            let active = encoding.active(&values);
            values.iter_mut().zip(&active).filter(|(_, active)| !**active).for_each(|(value, _)| *value = 0);
            hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            if let Some(member) = index.get(&values) {
                repeats.push((row, *member));
                continue;
            }
            index.insert(values.clone(), members.len());
            members.push(Genes { values, active });
            row_of.push(row);
        }
        let product = genes.iter().try_fold(1usize, |product, gene| product.checked_mul(gene.options.len()));
        let complete = product == Some(members.len());
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { definition, rows, genes, encoding, members, row_of, repeats, index, complete, hash })
    }

    /// How the table is read.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Every member.
    pub fn members(&self) -> &[Genes] {
        &self.members
    }

    /// The place of a member among [`TableSpace::members`].
    pub fn member_at(&self, genes: &Genes) -> Option<usize> {
        self.index.get(&genes.values).copied()
    }

    /// How many rows repeat an architecture of a row above, and how many of these have another value in `column`. They are left out.
    ///
    /// # Errors
    /// As [`TableSpace::column`].
    pub fn repeats(&self, column: &str) -> Result<(usize, usize)> {
        let all = self.rows.numbers(column)?;
        let other = |(row, member): &&(usize, usize)| {
            let (one, first) = (all[*row], all[self.row_of[*member]]);
            one != first && !(one.is_nan() && first.is_nan())
        };
        Ok((self.repeats.len(), self.repeats.iter().filter(other).count()))
    }

    /// Where a member stands in the file.
    pub(super) fn line(&self, member: usize) -> String {
        self.rows.line(self.row_of[member])
    }

    /// A column of numbers, member by member; empty cells are not numbers.
    ///
    /// # Errors
    /// As [`Rows::numbers`].
    pub fn column(&self, column: &str) -> Result<Vec<f64>> {
        let all = self.rows.numbers(column)?;
        Ok(self.row_of.iter().map(|row| all[*row]).collect())
    }

    /// Something equal for equal architectures, member by member: the definition's column, else a key of our own.
    ///
    /// # Errors
    /// When the column is not there.
    pub fn groups(&self) -> Result<Vec<String>> {
        match &self.definition.group {
            Some(column) => {
                let all = self.rows.text(column)?;
                Ok(self.row_of.iter().map(|row| all[*row].to_owned()).collect())
            }
            None => Ok(self.members.iter().map(|genes| self.key(genes)).collect()),
        }
    }

    /// Genes from values: inactive ones become 0. They need not be a member.
    fn finish(&self, mut values: Vec<u16>) -> Genes {
        for (value, gene) in values.iter_mut().zip(&self.genes) {
            *value = (*value).min(gene.options.len() as u16 - 1);
        }
        let active = self.encoding.active(&values);
        values.iter_mut().zip(&active).filter(|(_, active)| !**active).for_each(|(value, _)| *value = 0);
        Genes { values, active }
    }

    /// Members by the number of genes in which they differ from `values`, the nearest [`NEAREST`], without `values` themselves.
    fn nearest(&self, values: &[u16]) -> Vec<Genes> {
        let apart = |genes: &Genes| genes.values.iter().zip(values).filter(|(a, b)| a != b).count();
        let mut near: Vec<(usize, usize)> =
            self.members.iter().enumerate().map(|(at, genes)| (apart(genes), at)).collect();
        near.retain(|(apart, _)| *apart > 0);
        let cut = NEAREST.min(near.len());
        if cut < near.len() {
            near.select_nth_unstable(cut);
            near.truncate(cut);
        }
        near.sort_unstable();
        near.into_iter().map(|(_, at)| self.members[at].clone()).collect()
    }

    /// Every combination one gene away from a member, whether it is one or not.
    fn one_step(&self, genes: &Genes) -> Vec<Genes> {
        let mut steps = Vec::new();
        for at in (0..self.genes.len()).filter(|at| genes.active.get(*at) == Some(&true)) {
            for option in 0..self.genes[at].options.len() as u16 {
                if option != genes.values[at] {
                    let mut values = genes.values.clone();
                    values[at] = option;
                    steps.push(self.finish(values));
                }
            }
        }
        steps
    }
}

impl Space for TableSpace {
    fn name(&self) -> &str {
        &self.definition.name
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }

    fn genes(&self) -> &[Gene] {
        &self.genes
    }

    fn active(&self, values: &[u16]) -> Vec<bool> {
        self.encoding.active(values)
    }

    fn count(&self) -> u128 {
        self.members.len() as u128
    }

    fn corners(&self) -> Vec<Genes> {
        let column = self.definition.params.as_ref().or(self.definition.flops.as_ref());
        let sizes = column.and_then(|column| self.column(column).ok());
        let order = |at: &usize| sizes.as_ref().map_or(*at as f64, |sizes| sizes[*at]);
        let all = || 0..self.members.len();
        let least = all().min_by(|a, b| order(a).total_cmp(&order(b)));
        let most = all().max_by(|a, b| order(a).total_cmp(&order(b)));
        least.into_iter().chain(most).map(|at| self.members[at].clone()).collect()
    }

    fn listed(&self) -> Option<Vec<Genes>> {
        Some(self.members.clone())
    }

    fn sample(&self, rng: &mut Rng) -> Genes {
        self.members[rng.below(self.members.len())].clone()
    }

    fn neighbours(&self, genes: &Genes) -> Vec<Genes> {
        let steps: Vec<Genes> =
            self.one_step(genes).into_iter().filter(|genes| self.member_at(genes).is_some()).collect();
        if steps.is_empty() { self.nearest(&genes.values) } else { steps }
    }

    fn mutate(&self, genes: &Genes, structural: f64, each: f64, rng: &mut Rng) -> Genes {
        for _ in 0..TRIES {
            let mut values = genes.values.clone();
            for (at, gene) in self.genes.iter().enumerate() {
                if rng.chance(if gene.structural { structural } else { each }) {
                    values[at] = rng.below(gene.options.len()) as u16;
                }
            }
            let mutant = self.finish(values);
            if mutant != *genes && self.member_at(&mutant).is_some() {
                return mutant;
            }
        }
        let mut near = self.neighbours(genes);
        if near.is_empty() { genes.clone() } else { near.swap_remove(rng.below(near.len())) }
    }

    fn cross(&self, a: &Genes, b: &Genes, rng: &mut Rng) -> Option<Genes> {
        for _ in 0..TRIES {
            let values = a.values.iter().zip(&b.values).map(|(a, b)| if rng.chance(0.5) { *b } else { *a });
            let child = self.finish(values.collect());
            if self.member_at(&child).is_some() {
                return Some(child);
            }
        }
        None
    }

    fn member(&self, values: Vec<u16>, rng: &mut Rng) -> Genes {
        let genes = self.finish(values);
        if self.complete || self.member_at(&genes).is_some() {
            return genes;
        }
        let mut near = self.nearest(&genes.values);
        if near.is_empty() { genes } else { near.swap_remove(rng.below(near.len())) }
    }

    /// One-hot, gene by gene.
    fn encode(&self, genes: &Genes) -> Vec<f32> {
        let one_hot = |(at, gene): (usize, &Gene)| {
            let (value, active) = (usize::from(genes.values[at]), genes.active[at]);
            (0..gene.options.len())
                .map(move |option| f32::from(active && option == value))
                .collect::<Vec<_>>()
        };
        self.genes.iter().enumerate().flat_map(one_hot).collect()
    }

    fn graph(&self, genes: &Genes) -> ArchGraph {
        self.encoding.graph(&self.genes, &genes.values)
    }

    fn key(&self, genes: &Genes) -> String {
        self.encoding.key(&genes.values).unwrap_or_else(|| self.graph(genes).key())
    }

    fn id(&self, genes: &Genes) -> String {
        match self.member_at(genes) {
            Some(at) => format!("r{}", self.row_of[at]),
            None => format!("{:?}", genes.values),
        }
    }

    fn parse(&self, id: &str) -> Option<Genes> {
        let row: usize = id.strip_prefix('r')?.parse().ok()?;
        let at = self.row_of.binary_search(&row).ok()?;
        (id == format!("r{row}")).then(|| self.members[at].clone())
    }

    fn arch(&self, _: &Genes) -> Option<Arch> {
        None
    }

    fn parameters(&self, genes: &Genes) -> Option<u64> {
        self.count_in(self.definition.params.as_deref(), self.definition.params_unit, genes)
    }

    fn flops(&self, genes: &Genes) -> Option<u64> {
        self.count_in(self.definition.flops.as_deref(), self.definition.flops_unit, genes)
    }
}

impl TableSpace {
    /// A count that the table states of a member.
    fn count_in(&self, column: Option<&str>, unit: f64, genes: &Genes) -> Option<u64> {
        let row = self.row_of[self.member_at(genes)?];
        let text = self.rows.text(column?).ok()?[row].parse::<f64>().ok()?;
        (text.is_finite() && text >= 0.0).then(|| (text * unit).round() as u64)
    }
}

#[cfg(test)]
mod tests;
