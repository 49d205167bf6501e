//! The finalists of every device's front, timed side by side on every device: whether a front is better at home.

use masktas_devices::measure::Steadiness;
use masktas_devices::profile::Row;
use serde::{Deserialize, Serialize};

use super::finish::stored;
use super::latency::Fitted;
use super::remeasure::{Member, remeasure};
use super::{Finalist, Ready};
use crate::error::Result;
use crate::progress::Progress;
use crate::run::{Further, Run};

/// What one device measured of the fronts of all devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Across {
    /// The device that measured.
    pub target: String,
    /// The engine that its budget speaks of.
    pub engine: String,
    /// Finalists of each front; the measuring device's own first.
    pub fronts: Vec<OnDevice>,
}

/// The finalists of one front on a device that may not be theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnDevice {
    /// The device that they were searched for.
    pub searched_for: String,
    /// Those that could be timed, cheapest first.
    pub members: Vec<Timed>,
    /// How many of them another front beats here, see [`Timed::beats`].
    pub beaten: usize,
}

/// One finalist's score and measured time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Id in the space.
    pub id: String,
    /// Fused score; fronts that share a supernet and its reference subnets share its scale.
    pub score: f64,
    /// Milliseconds.
    pub ms: f64,
    /// Half-width of its 95 % interval, as a fraction.
    pub half_width: f64,
    /// Whether it settled.
    pub steady: bool,
}

impl Timed {
    /// Whether it scores no lower and is faster by more than both intervals.
    pub fn beats(&self, other: &Self) -> bool {
        self.score >= other.score && self.ms * (1.0 + self.half_width) < other.ms * (1.0 - other.half_width)
    }
}

impl Across {
    /// Puts the fronts in order and counts who beats whom.
    fn new(target: &str, engine: &str, mut fronts: Vec<(String, Vec<Timed>)>) -> Self {
        fronts.sort_by_key(|(searched_for, _)| searched_for != target);
        let beaten = |own: &[Timed], at: usize| {
            let others = || fronts.iter().enumerate().filter(|(other, _)| *other != at);
            let is_beaten =
                |one: &&Timed| others().any(|(_, (_, all))| all.iter().any(|other| other.beats(one)));
            own.iter().filter(is_beaten).count()
        };
        let counted = fronts.iter().enumerate().map(|(at, (searched_for, members))| {
            let mut sorted = members.clone();
            sorted.sort_by(|a, b| a.ms.total_cmp(&b.ms));
            OnDevice { searched_for: searched_for.clone(), beaten: beaten(members, at), members: sorted }
        });
        Self { target: target.to_owned(), engine: engine.to_owned(), fronts: counted.collect() }
    }
}

/// Name of the first run's document with what a device measured.
fn document(target: &str) -> String {
    format!("across/{target}")
}

/// What the devices of a run measured of each other's fronts, as far as they did.
///
/// # Errors
/// When the run cannot be read.
pub fn across(run: &Run) -> Result<Vec<Across>> {
    let manifest = run.manifest();
    let further = manifest.further.iter().map(Further::target);
    let targets = std::iter::once(manifest.recipe.latency.target.as_str()).chain(further);
    targets.filter_map(|target| run.get_doc(&document(target)).transpose()).collect()
}

/// Has every device that is connected time the finalists of all, unless that is done.
pub(super) fn measure(
    first: &mut Ready,
    others: &[Ready],
    progress: &mut dyn Progress,
) -> Result<Vec<Across>> {
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let mut fronts = vec![(first.shop.recipe.latency.target.clone(), stored(&first.run)?)];
    for other in others {
        fronts.push((other.shop.recipe.latency.target.clone(), stored(&other.run)?));
    }
    let mut done = Vec::new();
    for at in 0..=others.len() {
        let ready = at.checked_sub(1).and_then(|at| others.get(at)).unwrap_or(first);
        let target = ready.shop.recipe.latency.target.clone();
        if let Some(known) = first.run.get_doc(&document(&target))? {
            done.push(known);
            continue;
        }
        let Some(measured) = on_one(ready, &fronts, progress)? else { continue };
        done.push(first.run.put_doc(&document(&target), &measured)?);
    }
    Ok(done)
}

/// What one device measures; `None` where no latency counts or the device is not connected.
fn on_one(
    ready: &Ready,
    fronts: &[(String, Vec<Finalist>)],
    progress: &mut dyn Progress,
) -> Result<Option<Across>> {
    let settings = &ready.shop.recipe.latency;
    let Some(engine) =
        settings.engines.first().filter(|_| ready.latency.as_ref().is_some_and(Fitted::measured))
    else {
        return Ok(None);
    };
    let Some(mut transport) = ready.shop.transport()? else {
        progress.say(&format!(
            "{} is not connected and times no other device's finalists; add --connect to have it",
            settings.target
        ));
        return Ok(None);
    };
    progress.say(&format!("{} times the finalists of every device", settings.target));
    let mut members: Vec<Member> = Vec::new();
    for finalist in fronts.iter().flat_map(|(_, finalists)| finalists) {
        if members.iter().all(|member| member.id != finalist.candidate.id) {
            members.push(finalist.member());
        }
    }
    let rows = remeasure(&ready.run, &ready.shop, transport.as_mut(), engine, &members, progress)?;
    let timed = |finalist: &Finalist| {
        let row = rows.iter().find(|row| row.id == finalist.candidate.id);
        row.and_then(Row::measurement).map(|found| Timed {
            id: finalist.candidate.id.clone(),
            score: finalist.candidate.score,
            ms: found.ms,
            half_width: found.half_width,
            steady: found.verdict == Steadiness::Steady,
        })
    };
    let fronts = fronts
        .iter()
        .map(|(target, finalists)| (target.clone(), finalists.iter().filter_map(timed).collect()));
    Ok(Some(Across::new(&settings.target, engine, fronts.collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(id: &str, score: f64, ms: f64) -> Timed {
        Timed { id: id.into(), score, ms, half_width: 0.02, steady: true }
    }

    #[test]
    fn a_finalist_is_beaten_by_a_better_one_that_is_faster_beyond_both_intervals() {
        let own = vec![timed("b", 0.8, 2.0), timed("a", 0.5, 1.0)];
        // Slower at the same score; faster within the noise; the same network.
        let other = vec![timed("c", 0.8, 2.5), timed("d", 0.5, 0.99), timed("a", 0.5, 1.0)];
        let across = Across::new("host", "ort", vec![("pi5".into(), other), ("host".into(), own)]);
        let fronts: Vec<(&str, usize)> =
            across.fronts.iter().map(|front| (front.searched_for.as_str(), front.beaten)).collect();
        assert_eq!(fronts, [("host", 0), ("pi5", 1)]);
        assert_eq!(across.fronts[0].members[0].id, "a", "cheapest first");
    }
}
