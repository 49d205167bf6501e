//! Pre-training of the graph network on architectures that nobody has rated (Wei et al., 2020): `ged` guesses the edit distance of
//! two, `ccl` pulls an architecture's nearest neighbours to their centre and pushes others away.
//!
//! Only architectures drawn from the space are seen, by streams of their own, so that the result is one for each space. It is made once
//! and kept on disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::gin::{Batch, Gin};
use super::graph::FOLDS;
use super::net::{Adam, Dense, cosine, dot, rectify, unit, unit_slope, unrectify};
use super::stored;
use crate::error::{Error, Result};
use crate::rand::{Draw, Rng, stream};
use crate::space::{ArchGraph, PathCode, Space};

/// Names of the ways to pre-train.
pub const NAMES: &[&str] = &["none", "ged", "ccl"];

/// Width of the network.
pub(super) const WIDTH: usize = 32;
/// Width of the projection that is contrasted.
const PROJECTION: usize = 16;
/// Architectures drawn, at most.
const DRAWN: usize = 4000;
/// Architectures of a step of `ccl`.
const BATCH: usize = 500;
/// Steps of `ccl`.
const STEPS: usize = 250;
/// Anchors of a step.
const ANCHORS: usize = 100;
/// Least distance between an anchor's positives and its negatives.
const MARGIN: usize = 1;
/// Temperature of the contrast.
const TEMPERATURE: f32 = 0.6;
/// Steps and pairs a step of `ged`.
const GED: (usize, usize) = (1500, 64);

/// Graphs that are embedded at a time.
const EMBEDDED: usize = 256;

/// Changes with what pre-training computes: what older programs kept is then made again.
const VERSION: usize = 2;

/// A network and its parameters.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    pub(super) gin: Gin,
    pub(super) parameters: Vec<f32>,
}

/// What was made, by the hash of the space and the way to pre-train.
type Made = BTreeMap<(String, String), Arc<Vec<Trained>>>;

/// Networks for this space, pre-trained as `name` says, each from a start and on architectures of its own: several guess better than one
/// only where they differ. None for `none`.
///
/// Made once in a process, and kept in the cache folder under the space's hash. Never called from a thread of rayon's pool that holds
/// what another needs: it waits for threads of its own alone.
///
/// # Errors
/// Unknown names, with a suggestion.
pub(super) fn networks(space: &dyn Space, name: &str) -> Result<Arc<Vec<Trained>>> {
    static MADE: OnceLock<Mutex<Made>> = OnceLock::new();
    if !NAMES.contains(&name) {
        let hint = crate::suggest::hint(name, NAMES.iter().copied());
        return Err(Error::UnknownName { what: "way to pre-train", name: name.to_owned(), hint });
    }
    if name == "none" {
        return Ok(Arc::default());
    }
    let made = MADE.get_or_init(Mutex::default);
    let key = (space.hash(), name.to_owned());
    // The lock is held while they are made: others wait for them rather than make them too.
    let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = made.get(&key) {
        return Ok(found.clone());
    }
    let trained = Arc::new(stored_or_made(space, name));
    made.insert(key, trained.clone());
    Ok(trained)
}

/// What lies on disk of this space, this way and these numbers; else it is made, and kept there.
fn stored_or_made(space: &dyn Space, name: &str) -> Vec<Trained> {
    let Trained { gin, parameters: layout } = fresh(space, &mut stream(0, "predictor/layout", 1));
    let key = format!("{} {name} {VERSION}", space.hash());
    let path = stored::path(&key);
    if let Some(lists) = path.as_deref().and_then(|path| stored::read(path, FOLDS, layout.len())) {
        return lists.into_iter().map(|parameters| Trained { gin: gin.clone(), parameters }).collect();
    }
    let trained = all(space, name);
    if let Some(path) = path {
        stored::write(&path, trained.iter().map(|one| one.parameters.as_slice()));
    }
    trained
}

/// As many networks that nothing was taught.
pub(super) fn untrained(space: &dyn Space) -> Vec<Trained> {
    (0..FOLDS).map(|member| fresh(space, &mut stream(0, "predictor/untrained", member as u64))).collect()
}

/// A network for the graphs of this space.
fn fresh(space: &dyn Space, rng: &mut Rng) -> Trained {
    let vocabulary = space.graph(&space.sample(&mut stream(0, "predictor/layout", 0))).vocabulary;
    let mut parameters = Vec::new();
    let gin = Gin::new(&mut parameters, vocabulary, WIDTH, rng);
    Trained { gin, parameters }
}

/// Every member, on threads of their own.
fn all(space: &dyn Space, name: &str) -> Vec<Trained> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let part = |first: u64| {
        (first..FOLDS as u64).step_by(threads as usize).map(|member| (member, make(space, name, member)))
    };
    let mut all: Vec<(u64, Trained)> = std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|first| scope.spawn(move || part(first).collect::<Vec<_>>())).collect();
        let join = |part: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
            part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        parts.into_iter().flat_map(join).collect()
    });
    all.sort_by_key(|(member, _)| *member);
    all.into_iter().map(|(_, trained)| trained).collect()
}

fn make(space: &dyn Space, name: &str, member: u64) -> Trained {
    let mut rng = stream(0, "predictor/pretrain", member);
    let mut drawn: BTreeMap<Vec<u16>, (ArchGraph, PathCode)> = BTreeMap::new();
    let wanted = usize::try_from(space.count()).unwrap_or(usize::MAX).min(DRAWN);
    for _ in 0..3 * wanted {
        if drawn.len() >= wanted {
            break;
        }
        let genes = space.sample(&mut rng);
        let graph = space.graph(&genes);
        drawn.entry(genes.values).or_insert_with(|| (graph.clone(), graph.code()));
    }
    let (graphs, codes): (Vec<ArchGraph>, Vec<PathCode>) = drawn.into_values().unzip();
    let mut parameters = Vec::new();
    let vocabulary = graphs.first().map_or(2, |graph| graph.vocabulary);
    let gin = Gin::new(&mut parameters, vocabulary, WIDTH, &mut rng);
    match name {
        "ccl" => contrast(&gin, &mut parameters, &graphs, &codes, &mut rng),
        "ged" => distances(&gin, &mut parameters, &graphs, &codes, &mut rng),
        _ => {}
    }
    Trained { gin, parameters }
}

/// What all these networks make of each graph after each layer, each at length 1, side by side.
pub(super) fn embed(networks: &[Trained], graphs: &[&ArchGraph]) -> Vec<Vec<f32>> {
    let mut rows = vec![Vec::new(); graphs.len()];
    for Trained { gin, parameters } in networks {
        let parts = graphs.chunks(EMBEDDED).zip(rows.chunks_mut(EMBEDDED));
        for (graphs, rows) in parts {
            let batch = Batch::new(graphs.iter().copied());
            let trace = gin.forward(parameters, &batch);
            for level in gin.levels(&trace, &batch) {
                let units = unit(&level, gin.width);
                rows.iter_mut().zip(units.chunks_exact(gin.width)).for_each(|(row, one)| row.extend(one));
            }
        }
    }
    rows
}

/// Indices of a random part, in random order.
fn some(count: usize, of: usize, rng: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..of).collect();
    let count = count.min(of);
    for at in 0..count {
        let other = at + rng.below(of - at);
        all.swap(at, other);
    }
    all.truncate(count);
    all
}

/// Contrast with the centre of an anchor's nearest neighbours.
fn contrast(gin: &Gin, parameters: &mut Vec<f32>, graphs: &[ArchGraph], codes: &[PathCode], rng: &mut Rng) {
    let body = parameters.len();
    let head = Dense::new(parameters, gin.width, PROJECTION, rng);
    let mut gradients = vec![0.0; parameters.len()];
    let mut adam = Adam::new(parameters.len(), 1e-4);
    for step in 0..STEPS {
        let chosen = some(BATCH, graphs.len(), rng);
        let batch = Batch::new(chosen.iter().map(|at| &graphs[*at]));
        let trace = gin.forward(parameters, &batch);
        let projected = head.forward(parameters, &trace.embedding);
        let rows = unit(&projected, PROJECTION);
        let mut d_rows = vec![0.0; rows.len()];
        for anchor in 0..ANCHORS.min(chosen.len()) {
            let apart: Vec<usize> =
                chosen.iter().map(|at| codes[chosen[anchor]].distance(&codes[*at])).collect();
            pull(anchor, &apart, &rows, &mut d_rows, 1.0 / ANCHORS as f32);
        }
        let d_projected = unit_slope(&projected, &rows, &d_rows, PROJECTION);
        let d = head.backward(parameters, &mut gradients, &trace.embedding, &d_projected);
        gin.backward(parameters, &mut gradients, &batch, &trace, &d);
        adam.step(parameters, &mut gradients, 3e-3 * cosine(step, STEPS));
    }
    parameters.truncate(body);
}

/// Adds the gradient of one anchor's loss by the unit rows. The loss of a positive p with the centre c of all positives is
/// -log(exp(p.c/T) / (exp(p.c/T) + sum over negatives q of exp(q.c/T))).
///
/// Positives are the members at the least distance other than 0 from the anchor, negatives those further by [`MARGIN`] or more: with
/// no margin positives would be counted as negatives too. Gives the loss.
fn pull(anchor: usize, apart: &[usize], rows: &[f32], d_rows: &mut [f32], weight: f32) -> f32 {
    let row = |at: usize| &rows[at * PROJECTION..(at + 1) * PROJECTION];
    let others = (0..apart.len()).filter(|at| *at != anchor && apart[*at] > 0);
    let Some(least) = others.clone().map(|at| apart[at]).min() else { return 0.0 };
    let positives: Vec<usize> = others.clone().filter(|at| apart[*at] == least).collect();
    let negatives: Vec<usize> = others.filter(|at| apart[*at] >= least + MARGIN).collect();
    if negatives.is_empty() {
        return 0.0;
    }
    let share = 1.0 / positives.len() as f32;
    let mut sum = [0.0f32; PROJECTION];
    for at in &positives {
        sum.iter_mut().zip(row(*at)).for_each(|(sum, value)| *sum += value * share);
    }
    let centre = unit(&sum, PROJECTION);
    let near = |at: usize| dot(row(at), &centre) / TEMPERATURE;
    // Unit rows: an exponent is at most 1 / T, far from the largest float.
    let pushes: Vec<f32> = negatives.iter().map(|at| near(*at).exp()).collect();
    let pushed: f32 = pushes.iter().sum();
    let mut d_centre = [0.0f32; PROJECTION];
    let mut spread = |at: usize, by: f32, d_rows: &mut [f32]| {
        let by = by * weight / TEMPERATURE;
        let into = &mut d_rows[at * PROJECTION..(at + 1) * PROJECTION];
        into.iter_mut().zip(&centre).for_each(|(d, value)| *d += by * value);
        d_centre.iter_mut().zip(row(at)).for_each(|(d, value)| *d += by * value);
    };
    let (mut loss, mut pressure) = (0.0, 0.0);
    for at in &positives {
        let pulled = near(*at).exp();
        let all = pulled + pushed;
        loss -= share * (pulled / all).ln();
        pressure += share / all;
        spread(*at, share * (pulled / all - 1.0), d_rows);
    }
    for (at, push) in negatives.iter().zip(&pushes) {
        spread(*at, push * pressure, d_rows);
    }
    let d_sum = unit_slope(&sum, &centre, &d_centre, PROJECTION);
    for at in &positives {
        let into = &mut d_rows[at * PROJECTION..(at + 1) * PROJECTION];
        into.iter_mut().zip(&d_sum).for_each(|(d, value)| *d += value * share);
    }
    loss * weight
}

/// Regression of exp(-distance / nodes) by two networks, the first of which is kept.
fn distances(gin: &Gin, parameters: &mut Vec<f32>, graphs: &[ArchGraph], codes: &[PathCode], rng: &mut Rng) {
    let body = parameters.len();
    let vocabulary = graphs.first().map_or(2, |graph| graph.vocabulary);
    let other = Gin::new(parameters, vocabulary, gin.width, rng);
    let joint = Dense::new(parameters, 2 * gin.width, 16, rng);
    let last = Dense::new(parameters, 16, 1, rng);
    let mut gradients = vec![0.0; parameters.len()];
    let mut adam = Adam::new(parameters.len(), 1e-4);
    let (steps, pairs) = GED;
    for step in 0..steps {
        let left: Vec<usize> = (0..pairs).map(|_| rng.below(graphs.len())).collect();
        let right: Vec<usize> = (0..pairs).map(|_| rng.below(graphs.len())).collect();
        let (one, two) =
            (Batch::new(left.iter().map(|at| &graphs[*at])), Batch::new(right.iter().map(|at| &graphs[*at])));
        let (first, second) = (gin.forward(parameters, &one), other.forward(parameters, &two));
        let sides = first.embedding.chunks_exact(gin.width).zip(second.embedding.chunks_exact(gin.width));
        let both: Vec<f32> =
            sides.flat_map(|(a, b)| a.iter().chain(b).copied().collect::<Vec<_>>()).collect();
        let mut inner = joint.forward(parameters, &both);
        rectify(&mut inner);
        let guesses = last.forward(parameters, &inner);
        let mut d = Vec::with_capacity(pairs);
        for ((guess, a), b) in guesses.iter().zip(&left).zip(&right) {
            let nodes = graphs[*a].labels.len().max(graphs[*b].labels.len()) as f32;
            let wanted = (-(codes[*a].distance(&codes[*b]) as f32) / nodes).exp();
            let squashed = 1.0 / (1.0 + (-guess).exp());
            d.push(2.0 * (squashed - wanted) * squashed * (1.0 - squashed) / pairs as f32);
        }
        let mut d_inner = last.backward(parameters, &mut gradients, &inner, &d);
        unrectify(&mut d_inner, &inner);
        let d_both = joint.backward(parameters, &mut gradients, &both, &d_inner);
        let half = |right: bool| -> Vec<f32> {
            let start = if right { gin.width } else { 0 };
            d_both
                .chunks_exact(2 * gin.width)
                .flat_map(|row| row[start..start + gin.width].to_vec())
                .collect()
        };
        gin.backward(parameters, &mut gradients, &one, &first, &half(false));
        other.backward(parameters, &mut gradients, &two, &second, &half(true));
        adam.step(parameters, &mut gradients, 3e-3 * cosine(step, steps));
    }
    parameters.truncate(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_of_the_contrast_matches_differences() {
        let mut rng = stream(4, "test", 0);
        let projected: Vec<f32> = (0..12 * PROJECTION).map(|_| rng.normal() as f32).collect();
        let apart = [0, 2, 2, 4, 4, 5, 2, 7, 3, 0, 9, 3];
        let loss = |projected: &[f32]| {
            let rows = unit(projected, PROJECTION);
            f64::from(pull(0, &apart, &rows, &mut vec![0.0; rows.len()], 1.0))
        };
        let rows = unit(&projected, PROJECTION);
        let mut d_rows = vec![0.0; rows.len()];
        pull(0, &apart, &rows, &mut d_rows, 1.0);
        let d = unit_slope(&projected, &rows, &d_rows, PROJECTION);
        for at in 0..projected.len() {
            let shifted = |by: f32| {
                let mut shifted = projected.clone();
                shifted[at] += by;
                loss(&shifted)
            };
            let slope = (shifted(3e-3) - shifted(-3e-3)) / 6e-3;
            assert!((slope - f64::from(d[at])).abs() < 0.02 * (1.0 + slope.abs()), "{at}: {slope} {}", d[at]);
        }
        // Neither the anchor nor what equals it takes part; all others do.
        let moved: Vec<bool> = d.chunks_exact(PROJECTION).map(|row| row.iter().any(|d| *d != 0.0)).collect();
        let wanted: Vec<bool> = apart.iter().map(|apart| *apart > 0).collect();
        assert_eq!(moved, wanted);
    }
}
