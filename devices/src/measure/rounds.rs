//! The rounds of the paired protocol, apart from engines and clocks so that they can be tested.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::protocol::{Clock, Protocol};
use crate::stats;

/// Cost of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunTime {
    /// Milliseconds on the wall clock.
    pub wall_ms: f64,
    /// Milliseconds of processor time of the whole process, where the system tells it.
    pub cpu_ms: Option<f64>,
}

impl RunTime {
    /// Milliseconds on `clock`.
    ///
    /// # Errors
    /// [`Error::NoClock`].
    pub fn on(&self, clock: Clock) -> Result<f64> {
        match clock {
            Clock::Wall => Ok(self.wall_ms),
            Clock::Cpu => self.cpu_ms.ok_or(Error::NoClock { clock: "cpu" }),
        }
    }
}

/// What one model did in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Place in this round's order, from 0.
    pub position: usize,
    /// Its runs, in order.
    pub runs: Vec<RunTime>,
    /// Median of the runs on the protocol's clock, in milliseconds.
    pub median_ms: f64,
    /// Median of the reference network's runs in the same round, in milliseconds.
    pub reference_ms: f64,
}

/// What happened to one subject.
pub(crate) enum Outcome {
    Measured(Vec<Round>),
    Failed(Error),
}

/// Everything [`paired_rounds`] asks the world for.
pub(crate) trait World {
    /// Runs subject `index` some times in a row; 0 is the reference.
    fn runs(&mut self, index: usize, count: usize) -> Result<Vec<RunTime>>;
    /// Seconds since the first call.
    fn elapsed_s(&mut self) -> f64;
    /// Called after each round.
    fn round_done(&mut self, rounds: usize) -> ControlFlow<()>;
}

/// Runs `subjects` models and the reference in rotated rounds until every interval is narrow enough, time
/// (`budget_s`, after the fewest rounds) is over, or the most rounds are done. The outcomes are those of the
/// models, without the reference. `None`: the world asked to stop.
///
/// # Errors
/// When the reference itself fails, or the clock is missing.
pub(crate) fn paired_rounds(
    subjects: usize,
    protocol: &Protocol,
    budget_s: f64,
    world: &mut dyn World,
) -> Result<Option<Vec<Outcome>>> {
    let mut outcomes: Vec<Outcome> = (0..subjects).map(|_| Outcome::Measured(Vec::new())).collect();
    for round in 0..protocol.max_rounds {
        let mut order: Vec<usize> = (0..=subjects).collect();
        order.rotate_left(round % (subjects + 1));
        let mut measured: Vec<(usize, usize, Vec<RunTime>, f64)> = Vec::with_capacity(order.len());
        let mut reference_ms = None;
        for (position, index) in order.into_iter().enumerate() {
            let slot = index.checked_sub(1);
            if slot.is_some_and(|slot| matches!(outcomes.get(slot), Some(Outcome::Failed(_)))) {
                continue;
            }
            match run_median(index, protocol, world) {
                Ok((runs, median)) => match slot {
                    None => reference_ms = Some(median),
                    Some(slot) => measured.push((slot, position, runs, median)),
                },
                Err(error) => match slot {
                    None => return Err(error),
                    Some(slot) => {
                        if let Some(outcome) = outcomes.get_mut(slot) {
                            *outcome = Outcome::Failed(error);
                        }
                    }
                },
            }
        }
        let reference_ms = reference_ms.unwrap_or(f64::NAN);
        for (slot, position, runs, median_ms) in measured {
            if let Some(Outcome::Measured(rounds)) = outcomes.get_mut(slot) {
                rounds.push(Round { position, runs, median_ms, reference_ms });
            }
        }
        if world.round_done(round + 1).is_break() {
            return Ok(None);
        }
        if round + 1 >= protocol.min_rounds {
            let elapsed = world.elapsed_s();
            if elapsed >= budget_s || (elapsed >= protocol.spread_s && all_narrow(&outcomes, protocol)) {
                break;
            }
        }
    }
    Ok(Some(outcomes))
}

/// One model's runs of a round and their median on the protocol's clock.
pub(crate) fn run_median(
    index: usize,
    protocol: &Protocol,
    world: &mut dyn World,
) -> Result<(Vec<RunTime>, f64)> {
    let runs = world.runs(index, protocol.runs)?;
    let times: Vec<f64> = runs.iter().map(|run| run.on(protocol.clock)).collect::<Result<_>>()?;
    let median = stats::median(&times).unwrap_or(f64::NAN);
    Ok((runs, median))
}

fn all_narrow(outcomes: &[Outcome], protocol: &Protocol) -> bool {
    outcomes.iter().all(|outcome| match outcome {
        Outcome::Measured(rounds) => {
            ratio(rounds, protocol).is_some_and(|(_, half_width)| half_width <= protocol.half_width)
        }
        Outcome::Failed(_) => true,
    })
}

/// Median over rounds of the ratio to the reference, and the relative half-width of its bootstrap interval.
/// `None` for fewer than two rounds.
pub(crate) fn ratio(rounds: &[Round], protocol: &Protocol) -> Option<(f64, f64)> {
    let ratios: Vec<f64> = rounds.iter().map(|round| round.median_ms / round.reference_ms).collect();
    // One seed for all: the same rounds always give the same interval.
    let half_width = stats::bootstrap_half_width(&ratios, protocol.confidence, protocol.resamples, 0)?;
    Some((stats::median(&ratios)?, half_width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Rng;

    /// Models with known true times on a machine whose speed drifts slowly and jitters from run to run.
    struct Simulated {
        truth: Vec<f64>,
        seconds: f64,
        noise: f64,
        rng: Rng,
        calls: Vec<usize>,
        fail: Option<(usize, usize)>,
        stop_after: usize,
    }

    impl Simulated {
        fn new(truth: &[f64], noise: f64) -> Self {
            let truth = truth.to_vec();
            Self {
                truth,
                seconds: 0.0,
                noise,
                rng: Rng::new(5),
                calls: Vec::new(),
                fail: None,
                stop_after: usize::MAX,
            }
        }
    }

    impl World for Simulated {
        fn runs(&mut self, index: usize, count: usize) -> Result<Vec<RunTime>> {
            (0..count).map(|_| self.run(index)).collect()
        }
        fn elapsed_s(&mut self) -> f64 {
            self.seconds
        }
        fn round_done(&mut self, rounds: usize) -> ControlFlow<()> {
            if rounds >= self.stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    impl Simulated {
        fn run(&mut self, index: usize) -> Result<RunTime> {
            self.calls.push(index);
            if let Some((who, after)) = self.fail
                && who == index
                && self.calls.iter().filter(|c| **c == index).count() > after
            {
                return Err(Error::Caller("died".into()));
            }
            // Half an amplitude of 40 % over ten seconds.
            let drift = 1.0 + 0.4 * (self.seconds / 10.0).sin();
            let jitter = 1.0 + self.noise * f64::from(self.rng.symmetric());
            let wall_ms = self.truth[index] * drift * jitter;
            self.seconds += wall_ms / 1e3;
            Ok(RunTime { wall_ms, cpu_ms: None })
        }
    }

    fn rounds_of(outcome: &Outcome) -> &[Round] {
        match outcome {
            Outcome::Measured(rounds) => rounds,
            Outcome::Failed(error) => panic!("{error}"),
        }
    }

    /// Drift of 40 % moves the raw medians, but not the paired ratios.
    #[test]
    fn pairing_cancels_slow_drift() {
        let mut world = Simulated::new(&[4.0, 2.0, 8.0, 5.0], 0.02);
        let protocol = Protocol { spread_s: 0.0, ..Protocol::default() };
        let mut raw = Vec::new();
        for _ in 0..10 {
            let outcomes = paired_rounds(3, &protocol, f64::INFINITY, &mut world).unwrap().unwrap();
            for (outcome, truth) in outcomes.iter().zip([0.5, 2.0, 1.25]) {
                let (ratio, half_width) = ratio(rounds_of(outcome), &protocol).unwrap();
                assert!((ratio / truth - 1.0).abs() < 0.015, "{ratio} {truth}");
                assert!(half_width <= 0.02);
            }
            let rounds: Vec<f64> = rounds_of(&outcomes[0]).iter().map(|r| r.median_ms).collect();
            raw.push(stats::median(&rounds).unwrap());
        }
        let spread = stats::quantile(&raw, 1.0).unwrap() / stats::quantile(&raw, 0.0).unwrap();
        assert!(spread > 1.2, "the simulated machine does not drift: {spread}");
    }

    #[test]
    fn every_model_takes_every_place_and_runs_are_grouped() {
        let mut world = Simulated::new(&[1.0, 1.0, 1.0], 0.0);
        let protocol = Protocol { min_rounds: 3, max_rounds: 3, runs: 2, ..Protocol::default() };
        let outcomes = paired_rounds(2, &protocol, f64::INFINITY, &mut world).unwrap().unwrap();
        assert_eq!(world.calls, [0, 0, 1, 1, 2, 2, 1, 1, 2, 2, 0, 0, 2, 2, 0, 0, 1, 1]);
        let positions: Vec<usize> = rounds_of(&outcomes[1]).iter().map(|r| r.position).collect();
        assert_eq!(positions, [2, 1, 0]);
    }

    #[test]
    fn rounds_stop_at_the_target_at_the_budget_or_at_the_most() {
        let rounds = |noise, spread_s, budget| {
            let protocol = Protocol { spread_s, ..Protocol::default() };
            let mut world = Simulated::new(&[10.0, 10.0], noise);
            rounds_of(&paired_rounds(1, &protocol, budget, &mut world).unwrap().unwrap()[0]).len()
        };
        assert_eq!(rounds(0.001, 0.0, f64::INFINITY), 8, "a quiet machine needs the fewest");
        assert_eq!(rounds(2.0, 0.0, f64::INFINITY), 40, "a noisy one needs the most");
        assert_eq!(rounds(2.0, 0.0, 0.0), 8, "no budget: the fewest");
        let spread = rounds(0.001, 2.0, f64::INFINITY);
        assert!((15..30).contains(&spread), "rounds are spread over two seconds: {spread}");
    }

    #[test]
    fn one_failing_model_does_not_disturb_the_others() {
        let mut world = Simulated::new(&[1.0, 1.0, 2.0], 0.0);
        world.fail = Some((1, 7));
        let outcomes = paired_rounds(2, &Protocol::default(), f64::INFINITY, &mut world).unwrap().unwrap();
        assert!(matches!(&outcomes[0], Outcome::Failed(Error::Caller(text)) if text == "died"));
        assert!(rounds_of(&outcomes[1]).len() >= 8);
        let mut world = Simulated::new(&[1.0, 1.0], 0.0);
        world.fail = Some((0, 7));
        assert!(paired_rounds(1, &Protocol::default(), f64::INFINITY, &mut world).is_err());
    }

    #[test]
    fn the_caller_can_stop_between_rounds() {
        let mut world = Simulated::new(&[1.0, 1.0], 0.0);
        world.stop_after = 3;
        assert!(paired_rounds(1, &Protocol::default(), f64::INFINITY, &mut world).unwrap().is_none());
        assert_eq!(world.calls.len(), 3 * 2 * 5);
    }

    #[test]
    fn a_missing_clock_is_an_error() {
        let mut world = Simulated::new(&[1.0, 1.0], 0.0);
        let error = paired_rounds(1, &Protocol::shared(), f64::INFINITY, &mut world).err().unwrap();
        assert!(error.to_string().contains("cpu clock"), "{error}");
    }
}
