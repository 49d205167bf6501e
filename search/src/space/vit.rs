//! Spaces of vision transformers: one width and depth, heads and feed-forward ratio per block.
//!
//! Source of the spaces and of the evolution operators: AutoFormer (Chen et al., ICCV 2021).

mod definition;
mod operators;

use masktas_export::{Arch, VitArch, VitBlock};

pub use definition::VitDefinition;

use super::{ArchGraph, Gene, Genes, Space};
use crate::error::{At, Error, Result};
use crate::rand::Rng;

/// The definitions that come with the program, by name.
pub(super) const EMBEDDED: [(&str, &str); 5] = [
    ("vit-micro", include_str!("../../spaces/vit-micro.toml")),
    ("vit-tiny", include_str!("../../spaces/vit-tiny.toml")),
    ("autoformer-tiny", include_str!("../../spaces/autoformer-tiny.toml")),
    ("autoformer-small", include_str!("../../spaces/autoformer-small.toml")),
    ("autoformer-base", include_str!("../../spaces/autoformer-base.toml")),
];

/// Position of the width among the genes.
const EMBED: usize = 0;
/// Position of the depth among the genes.
const DEPTH: usize = 1;
/// Genes of the whole network.
const SCALARS: usize = 2;

/// Position of block `i`'s heads among the genes; its ratio follows.
const fn heads_at(i: usize) -> usize {
    SCALARS + 2 * i
}

/// A space of vision transformers.
///
/// Genes: `embed`, `depth`, then `heads.i` and `ratio.i` for every block `i` from 0 to the largest
/// depth; those of blocks beyond the chosen depth are inactive. Options ascend, so value 0 is the
/// smallest.
///
/// An id reads `d96-l6-h223344-raabbcc`: width, layers, heads block by block (base 36), ratio block
/// by block (`a` is the smallest option).
#[derive(Clone, Debug)]
pub struct VitSpace {
    definition: VitDefinition,
    genes: Vec<Gene>,
}

impl VitSpace {
    /// The space registered under `name_or_path`, or the one defined in that TOML file.
    ///
    /// # Errors
    /// Unknown names, unreadable files, unknown keys, definitions that make no sense.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if let Some((name, text)) = EMBEDDED.iter().find(|(name, _)| *name == name_or_path) {
            return Self::from_toml(name, text);
        }
        let path = std::path::Path::new(name_or_path);
        if name_or_path.ends_with(".toml") || path.components().count() > 1 {
            let text = std::fs::read_to_string(path).at(path)?;
            return Self::from_toml(name_or_path, &text);
        }
        let hint = crate::suggest::hint(name_or_path, EMBEDDED.iter().map(|(name, _)| *name));
        let hint = format!("{hint}, or the path of a TOML file");
        Err(Error::UnknownName { what: "space", name: name_or_path.to_owned(), hint })
    }

    /// The space that `text` defines; `place` is how errors call it.
    ///
    /// # Errors
    /// Unknown keys and definitions that make no sense.
    pub fn from_toml(place: &str, text: &str) -> Result<Self> {
        Self::new(VitDefinition::parse(place, text)?)
    }

    /// The space of a definition.
    ///
    /// # Errors
    /// Definitions that make no sense.
    pub fn new(definition: VitDefinition) -> Result<Self> {
        definition.check()?;
        let words = |options: &[usize]| options.iter().map(ToString::to_string).collect::<Vec<_>>();
        let gene = |name: String, options: Vec<String>, structural| Gene { name, options, structural };
        let mut genes = vec![
            gene("embed".to_owned(), words(&definition.embed), true),
            gene("depth".to_owned(), words(&definition.depth), true),
        ];
        let ratios: Vec<String> = definition.ratio.iter().map(ToString::to_string).collect();
        for i in 0..definition.max_depth() {
            genes.push(gene(format!("heads.{i}"), words(&definition.heads), false));
            genes.push(gene(format!("ratio.{i}"), ratios.clone(), false));
        }
        let space = Self { definition, genes };
        // What can be chosen must also be possible to build.
        space.largest_arch().check()?;
        Ok(space)
    }

    /// The choices.
    pub fn definition(&self) -> &VitDefinition {
        &self.definition
    }

    /// Largest width.
    pub fn max_embed(&self) -> usize {
        self.definition.embed.last().copied().unwrap_or(0)
    }

    /// Largest depth: blocks of the supernet.
    pub fn max_depth(&self) -> usize {
        self.definition.max_depth()
    }

    /// Largest number of heads in a block.
    pub fn max_heads(&self) -> usize {
        self.definition.heads.last().copied().unwrap_or(0)
    }

    /// Largest hidden width of a feed-forward part.
    pub fn max_hidden(&self) -> usize {
        hidden(self.max_embed(), self.definition.ratio.last().copied().unwrap_or(0.0))
    }

    /// The member with the least of everything.
    pub fn smallest(&self) -> Genes {
        self.uniform_member(0, 0, 0, 0)
    }

    /// The member with the most of everything.
    pub fn largest(&self) -> Genes {
        let last = |count: usize| count.saturating_sub(1);
        let d = &self.definition;
        self.uniform_member(
            last(d.embed.len()),
            last(d.depth.len()),
            last(d.heads.len()),
            last(d.ratio.len()),
        )
    }

    /// Architecture of the smallest member.
    pub fn smallest_arch(&self) -> VitArch {
        self.vit(&self.smallest())
    }

    /// Architecture of the largest member: the supernet's own shape.
    pub fn largest_arch(&self) -> VitArch {
        self.vit(&self.largest())
    }

    /// Members whose blocks are all alike, by width, depth, heads, ratio: the nets a person would
    /// draw, and the baseline a search has to beat.
    pub fn uniform(&self) -> Vec<Genes> {
        let d = &self.definition;
        let mut all = Vec::new();
        for embed in 0..d.embed.len() {
            for depth in 0..d.depth.len() {
                for heads in 0..d.heads.len() {
                    for ratio in 0..d.ratio.len() {
                        all.push(self.uniform_member(embed, depth, heads, ratio));
                    }
                }
            }
        }
        all
    }

    /// The architecture of a member.
    ///
    /// Values outside their gene's options count as the largest option; [`Space::id`] and
    /// [`Space::active`] do the same.
    pub fn vit(&self, genes: &Genes) -> VitArch {
        let d = &self.definition;
        let embed = d.embed[self.value(genes, EMBED)];
        let blocks = (0..self.depth(genes))
            .map(|i| VitBlock {
                heads: d.heads[self.value(genes, heads_at(i))],
                hidden: hidden(embed, d.ratio[self.value(genes, heads_at(i) + 1)]),
            })
            .collect();
        VitArch { image: d.image, patch: d.patch, embed, head_dim: d.head_dim, blocks, relative: d.relative }
    }

    /// The member with this architecture, or `None`.
    pub fn genes_of(&self, arch: &VitArch) -> Option<Genes> {
        let d = &self.definition;
        let mut values = vec![0; self.genes.len()];
        values[EMBED] = index(d.embed.iter().position(|embed| *embed == arch.embed))?;
        values[DEPTH] = index(d.depth.iter().position(|depth| *depth == arch.blocks.len()))?;
        for (i, block) in arch.blocks.iter().enumerate() {
            values[heads_at(i)] = index(d.heads.iter().position(|heads| *heads == block.heads))?;
            values[heads_at(i) + 1] =
                index(d.ratio.iter().position(|ratio| hidden(arch.embed, *ratio) == block.hidden))?;
        }
        let genes = self.finish(values);
        (self.vit(&genes) == *arch).then_some(genes)
    }

    /// Blocks of a member.
    pub fn depth(&self, genes: &Genes) -> usize {
        self.definition.depth[self.value(genes, DEPTH)]
    }

    /// The value of gene `at`, within its options.
    fn value(&self, genes: &Genes, at: usize) -> usize {
        let value = genes.values.get(at).copied().unwrap_or(0) as usize;
        value.min(self.genes[at].options.len() - 1)
    }

    /// Genes from values: the activity mask follows, inactive values become 0.
    fn finish(&self, mut values: Vec<u16>) -> Genes {
        let active = self.active(&values);
        for (value, active) in values.iter_mut().zip(&active) {
            if !active {
                *value = 0;
            }
        }
        Genes { values, active }
    }

    fn uniform_member(&self, embed: usize, depth: usize, heads: usize, ratio: usize) -> Genes {
        let mut values = vec![0; self.genes.len()];
        values[EMBED] = embed as u16;
        values[DEPTH] = depth as u16;
        for i in 0..self.max_depth() {
            values[heads_at(i)] = heads as u16;
            values[heads_at(i) + 1] = ratio as u16;
        }
        self.finish(values)
    }
}

fn index(position: Option<usize>) -> Option<u16> {
    position.and_then(|position| u16::try_from(position).ok())
}

/// Hidden width of a feed-forward part: the product rounded down, as AutoFormer does.
pub(super) fn hidden(embed: usize, ratio: f64) -> usize {
    (embed as f64 * ratio).floor() as usize
}

impl Space for VitSpace {
    fn name(&self) -> &str {
        &self.definition.name
    }

    fn hash(&self) -> String {
        self.definition.hash()
    }

    fn genes(&self) -> &[Gene] {
        &self.genes
    }

    fn active(&self, values: &[u16]) -> Vec<bool> {
        let depths = &self.definition.depth;
        let choice = values.get(DEPTH).copied().unwrap_or(0) as usize;
        let depth = depths[choice.min(depths.len() - 1)];
        (0..self.genes.len()).map(|at| at < heads_at(depth)).collect()
    }

    fn count(&self) -> u128 {
        self.definition.count().unwrap_or(u128::MAX)
    }

    fn corners(&self) -> Vec<Genes> {
        let d = &self.definition;
        let ends = |count: usize, high: bool| if high { count - 1 } else { 0 };
        let member = |bits: usize| {
            self.uniform_member(
                ends(d.embed.len(), bits & 1 != 0),
                ends(d.depth.len(), bits & 2 != 0),
                ends(d.heads.len(), bits & 4 != 0),
                ends(d.ratio.len(), bits & 8 != 0),
            )
        };
        let mut corners: Vec<Genes> = Vec::new();
        for bits in [0, 15].into_iter().chain(1..15) {
            let corner = member(bits);
            if !corners.contains(&corner) {
                corners.push(corner);
            }
        }
        corners
    }

    fn uniform(&self) -> Vec<Genes> {
        // The inherent one, which has the reasons.
        VitSpace::uniform(self)
    }

    fn sample(&self, rng: &mut Rng) -> Genes {
        self.draw(rng)
    }

    fn neighbours(&self, genes: &Genes) -> Vec<Genes> {
        self.one_step(genes)
    }

    fn mutate(&self, genes: &Genes, structural: f64, each: f64, rng: &mut Rng) -> Genes {
        self.mutant(genes, structural, each, rng)
    }

    fn cross(&self, a: &Genes, b: &Genes, rng: &mut Rng) -> Option<Genes> {
        self.child(a, b, rng)
    }

    fn member(&self, values: Vec<u16>, _: &mut Rng) -> Genes {
        let legal = self.genes.iter().zip(values.into_iter().chain(std::iter::repeat(0)));
        self.finish(legal.map(|(gene, value)| value.min(gene.options.len() as u16 - 1)).collect())
    }

    /// A chain: the width, then attention and feed-forward part of every block.
    fn graph(&self, genes: &Genes) -> ArchGraph {
        let (widths, heads) = (self.definition.embed.len(), self.definition.heads.len());
        let label = |at: usize| {
            let first = match at {
                EMBED => 0,
                at if at % 2 == 0 => widths,
                _ => widths + heads,
            };
            (at as u16, (2 + first + self.value(genes, at)) as u16)
        };
        let parts = std::iter::once(EMBED).chain(SCALARS..heads_at(self.depth(genes))).map(label);
        ArchGraph::chain(&parts.collect::<Vec<_>>(), 2 + widths + heads + self.definition.ratio.len())
    }

    fn key(&self, genes: &Genes) -> String {
        self.id(genes)
    }

    /// One-hot, gene by gene.
    fn encode(&self, genes: &Genes) -> Vec<f32> {
        let active = self.active(&genes.values);
        let mut code = Vec::new();
        for (at, gene) in self.genes.iter().enumerate() {
            let value = self.value(genes, at);
            code.extend((0..gene.options.len()).map(|option| f32::from(active[at] && option == value)));
        }
        code
    }

    fn id(&self, genes: &Genes) -> String {
        let d = &self.definition;
        let blocks = 0..self.depth(genes);
        let digit = |value: usize| char::from_digit(value as u32, 36).unwrap_or('?');
        let heads: String = blocks.clone().map(|i| digit(d.heads[self.value(genes, heads_at(i))])).collect();
        let ratios: String = blocks.map(|i| digit(10 + self.value(genes, heads_at(i) + 1))).collect();
        format!("d{}-l{}-h{heads}-r{ratios}", d.embed[self.value(genes, EMBED)], self.depth(genes))
    }

    fn parse(&self, id: &str) -> Option<Genes> {
        let d = &self.definition;
        let mut parts = id.split('-');
        let mut part = |letter: char| parts.next().and_then(|part| part.strip_prefix(letter));
        let (embed, depth, heads, ratios) = (part('d')?, part('l')?, part('h')?, part('r')?);
        let (embed, depth): (usize, usize) = (embed.parse().ok()?, depth.parse().ok()?);
        let mut values = vec![0; self.genes.len()];
        values[EMBED] = index(d.embed.iter().position(|option| *option == embed))?;
        values[DEPTH] = index(d.depth.iter().position(|option| *option == depth))?;
        if heads.chars().count() != depth || ratios.chars().count() != depth {
            return None;
        }
        for (i, (heads, ratio)) in heads.chars().zip(ratios.chars()).enumerate() {
            let heads = heads.to_digit(36)? as usize;
            values[heads_at(i)] = index(d.heads.iter().position(|option| *option == heads))?;
            let ratio = (ratio.to_digit(36)? as usize).checked_sub(10)?;
            values[heads_at(i) + 1] = index((ratio < d.ratio.len()).then_some(ratio))?;
        }
        let genes = self.finish(values);
        // One spelling only: no capitals, no leading zeros, nothing behind.
        (self.id(&genes) == id).then_some(genes)
    }

    fn arch(&self, genes: &Genes) -> Option<Arch> {
        Some(Arch::Vit(self.vit(genes)))
    }

    fn parameters(&self, genes: &Genes) -> Option<u64> {
        Some(self.vit(genes).parameters(None))
    }

    fn flops(&self, genes: &Genes) -> Option<u64> {
        Some(self.vit(genes).flops())
    }
}

#[cfg(test)]
mod tests;
