//! How a device holds out: one model run without a pause for minutes, window by window.
//!
//! Phones and small boards slow down when they are warm, and not all alike: after half an hour the faster one may be the slower.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::EngineOptions;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::measure::{BenchJob, Subject, warm};
use crate::stats;

/// Length of a window in seconds.
const WINDOW_S: f64 = 1.0;
/// The first and the last part of the run that are compared.
const PART: f64 = 0.1;
/// A slowdown beyond this is called one: below it lies what a quiet machine shows.
const SLOWER: f64 = 1.05;

/// What happened in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its end, in seconds from the start.
    pub at_s: f64,
    /// Median run, in milliseconds, wall clock. So is the next.
    pub median_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// Runs.
    pub runs: usize,
    /// Clock of the first core in kHz.
    pub khz: Option<u64>,
    /// Hottest thermal zone in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Sum of the throttle counters.
    pub throttled: Option<u64>,
}

/// A device under load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sustained {
    /// Median over the first tenth of the windows, in milliseconds.
    pub first_ms: f64,
    /// Median over the last tenth.
    pub last_ms: f64,
    /// `last_ms / first_ms`.
    pub slowdown: f64,
    /// Whether the device became slower, or says that it throttled.
    pub slowed: bool,
    /// The windows, in order.
    pub windows: Vec<Window>,
}

impl Sustained {
    /// Judges windows. `None` when there are none.
    pub fn of(windows: Vec<Window>) -> Option<Self> {
        let part = ((windows.len() as f64 * PART).ceil() as usize).max(1);
        let median = |windows: &[Window]| {
            stats::median(&windows.iter().map(|window| window.median_ms).collect::<Vec<_>>())
        };
        let first_ms = median(windows.get(..part)?)?;
        let last_ms = median(windows.get(windows.len() - part..)?)?;
        let slowdown = last_ms / first_ms;
        let counters = |window: Option<&Window>| window.and_then(|window| window.throttled);
        let throttled = counters(windows.first()) != counters(windows.last());
        Some(Self { first_ms, last_ms, slowdown, slowed: slowdown > SLOWER || throttled, windows })
    }
}

/// Runs a model for `seconds` without a pause. `progress` hears of each window and may stop, which keeps the windows so far.
///
/// # Errors
/// What loading and running give; [`Error::Unmeasurable`] when not one window was finished.
pub fn sustain(
    job: &BenchJob,
    subject: &Subject<'_>,
    options: &EngineOptions,
    seconds: f64,
    progress: &mut dyn FnMut(&Window) -> ControlFlow<()>,
) -> Result<Sustained> {
    job.protocol.validate()?;
    let mut model = warm(job, options, subject)?;
    let one = model.runs(1)?.first().map_or(1.0, |run| run.wall_ms).max(1e-3);
    let (start, mut windows, mut per_chunk) = (Instant::now(), Vec::new(), chunk(one));
    while start.elapsed().as_secs_f64() < seconds {
        let window = Instant::now();
        let mut times: Vec<f64> = Vec::new();
        while window.elapsed() < Duration::from_secs_f64(WINDOW_S) {
            times.extend(model.runs(per_chunk)?.iter().map(|run| run.wall_ms));
        }
        let median_ms = stats::median(&times).unwrap_or(f64::NAN);
        per_chunk = chunk(median_ms);
        let state = Fingerprint::read(job.protocol.threads).state;
        let window = Window {
            at_s: start.elapsed().as_secs_f64(),
            median_ms,
            p90_ms: stats::quantile(&times, 0.9).unwrap_or(f64::NAN),
            runs: times.len(),
            khz: state.khz,
            temperature_c: state.temperature_c,
            throttled: state.throttled,
        };
        let stop = progress(&window).is_break();
        windows.push(window);
        if stop {
            break;
        }
    }
    Sustained::of(windows).ok_or(Error::Unmeasurable { ms: one })
}

/// Runs in one order to the model's process: about a tenth of a window, so that the window ends in time.
fn chunk(ms: f64) -> usize {
    ((WINDOW_S * 100.0 / ms) as usize).clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(at_s: f64, median_ms: f64, throttled: Option<u64>) -> Window {
        Window { at_s, median_ms, p90_ms: median_ms, runs: 9, khz: None, temperature_c: None, throttled }
    }

    #[test]
    fn a_device_that_becomes_slower_is_seen() {
        let run = |ms: &dyn Fn(usize) -> f64| {
            Sustained::of((0..100).map(|i| window(i as f64, ms(i), None)).collect()).unwrap()
        };
        let steady = run(&|i| 5.0 + 0.05 * (i % 3) as f64);
        assert!(!steady.slowed && (steady.slowdown - 1.0).abs() < 0.02, "{}", steady.slowdown);
        let warm = run(&|i| if i < 40 { 5.0 } else { 8.0 });
        assert!(warm.slowed && (warm.slowdown - 1.6).abs() < 1e-9);
        let counted = Sustained::of(vec![window(0.0, 5.0, Some(3)), window(1.0, 5.0, Some(4))]).unwrap();
        assert!(counted.slowed, "the device says so itself");
        assert!(Sustained::of(Vec::new()).is_none());
    }
}
