//! Which members of a space are timed: half of them unlike each other in what they cost, so that a model rarely has to
//! extrapolate, and half at random, so that it knows the ordinary ones and what its error on them is.
//!
//! On measured profiles of `vit-tiny` under tract, extremes alone mislead a model about the rest, and choosing the last ones by the
//! width of the model's interval gains nothing (docs/latency-models.md).

use std::collections::BTreeSet;

use masktas_devices::latency::diverse;

use super::latency::features;
use crate::error::Result;
use crate::rand::stream;
use crate::space::{Genes, Space as _, VitSpace};

/// Members that the unlike ones are chosen from, at least: many more than are timed.
const POOL: usize = 1000;

/// `count` members to time, fewer where the space is smaller.
pub(super) fn sample(space: &VitSpace, count: usize, seed: u64) -> Result<Vec<Genes>> {
    let pool = pool(space, POOL.max(2 * count), seed);
    let costs = pool.iter().map(|genes| features(space, genes)).collect::<Result<Vec<_>>>()?;
    let unlike = diverse(&costs, count.div_ceil(2), seed)?;
    // The pool is in random order but for its corners, which come first and are chosen, if at all, for being unlike.
    let random = (space.corners().len()..pool.len()).filter(|at| !unlike.contains(at));
    let chosen = unlike.iter().copied().chain(random).take(count);
    Ok(chosen.filter_map(|at| pool.get(at).cloned()).collect())
}

/// The corners of the space, then random members.
fn pool(space: &VitSpace, size: usize, seed: u64) -> Vec<Genes> {
    let mut pool = space.corners();
    let mut taken: BTreeSet<Vec<u16>> = pool.iter().map(|genes| genes.values.clone()).collect();
    // A small space may have fewer members than are asked for.
    for draw in 0..3 * size as u64 {
        if pool.len() >= size {
            break;
        }
        let genes = space.sample(&mut stream(seed, "latency/sample", draw));
        if taken.insert(genes.values.clone()) {
            pool.push(genes);
        }
    }
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_timed_twice_and_half_is_unlike_the_rest() {
        let space = VitSpace::load("vit-micro").unwrap();
        let chosen = sample(&space, 48, 3).unwrap();
        let ids: BTreeSet<String> = chosen.iter().map(|genes| space.id(genes)).collect();
        assert_eq!(ids.len(), 48);
        assert_eq!(sample(&space, 48, 3).unwrap(), chosen);
        assert_ne!(sample(&space, 48, 4).unwrap(), chosen);
        // The unlike half spans the space: something near its cheapest and its costliest member is there.
        let flops = |genes: &Genes| space.vit(genes).flops() as f64;
        let most = chosen[..24].iter().map(flops).fold(0.0, f64::max);
        let least = chosen[..24].iter().map(flops).fold(f64::INFINITY, f64::min);
        assert!(most > 0.9 * space.largest_arch().flops() as f64, "{most}");
        assert!(least < 1.2 * space.smallest_arch().flops() as f64, "{least}");
    }

    #[test]
    fn a_small_space_gives_all_it_has() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tiny-space.toml"))
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("space.toml");
        std::fs::write(&path, text).unwrap();
        let space = VitSpace::load(path.to_str().unwrap()).unwrap();
        let all = usize::try_from(space.count()).unwrap();
        assert!(sample(&space, all.min(5000) + 10, 1).unwrap().len() <= all);
    }
}
