//! Energy of a run, on devices that have sensors on their power rails.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::fingerprint::power::{Power, RATE, Rails, Sampler};

/// Seconds for which a model is run for its energy: some twenty readings.
const RUN_S: f64 = 2.0;
/// Seconds for which the device is watched when it is idle.
const IDLE_S: f64 = 2.0;

/// What one run takes, less what the device takes when it is idle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// The rail: the board's input where there is a sensor on it, else the first one.
    pub rail: String,
    /// Millijoules of one run above idle. Below 0 where the difference drowns in noise.
    pub millijoules: f64,
    /// Mean power while the model ran, in milliwatts.
    pub mean_mw: f64,
    /// Mean power when idle, in milliwatts.
    pub idle_mw: f64,
    /// Readings while the model ran.
    pub samples: usize,
    /// Standard deviation of those readings over their mean.
    pub cv: f64,
    /// Runs they span.
    pub runs: usize,
}

/// The sensors, and what they say of the idle device.
pub(super) struct Meter {
    rails: Rails,
    idle: Power,
}

impl Meter {
    /// Watches the idle device for a moment. `None` without sensors, which takes no time.
    pub(super) fn new(rails: Rails) -> Option<Self> {
        let sampler = Sampler::start(rails.clone(), RATE)?;
        std::thread::sleep(Duration::from_secs_f64(IDLE_S));
        Some(Self { rails, idle: sampler.stop()? })
    }

    /// Runs a model (`run` does a few runs and says how many) without a pause, apart from the runs that are timed.
    ///
    /// # Errors
    /// The model's.
    pub(super) fn of(&self, run: &mut dyn FnMut() -> Result<usize>) -> Result<Option<Energy>> {
        let Some(sampler) = Sampler::start(self.rails.clone(), RATE) else { return Ok(None) };
        let (start, mut runs) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < RUN_S {
            runs += run()?;
        }
        Ok(sampler.stop().and_then(|power| self.energy(&power, runs)))
    }

    fn energy(&self, power: &Power, runs: usize) -> Option<Energy> {
        let rail = power.total().or_else(|| power.rails.first())?;
        let joules = power.joules_above(&self.idle, &rail.name)?;
        Some(Energy {
            rail: rail.name.clone(),
            millijoules: joules * 1e3 / runs.max(1) as f64,
            mean_mw: rail.mean_mw,
            idle_mw: self.idle.rail(&rail.name)?.mean_mw,
            samples: rail.samples,
            cv: rail.cv,
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A board whose sensor shows what the test writes.
    fn board(root: &std::path::Path, milliamps: u32) {
        let chip = root.join("sys/class/hwmon/hwmon0");
        std::fs::create_dir_all(&chip).unwrap();
        for (name, value) in [("name", "ina3221"), ("in1_label", "VDD_IN"), ("in1_input", "5000")] {
            std::fs::write(chip.join(name), format!("{value}\n")).unwrap();
        }
        std::fs::write(chip.join("curr1_input"), format!("{milliamps}\n")).unwrap();
    }

    #[test]
    fn a_run_costs_what_is_above_idle() {
        let root = tempfile::tempdir().unwrap();
        board(root.path(), 400);
        let meter = Meter::new(Rails::find_in(root.path())).unwrap();
        // 5 V at 1 A while the model runs, 2 W when idle: 3 W above it.
        board(root.path(), 1000);
        let energy = meter
            .of(&mut || {
                std::thread::sleep(Duration::from_millis(20));
                Ok(2)
            })
            .unwrap()
            .unwrap();
        assert_eq!(energy.rail, "VDD_IN");
        assert!((energy.mean_mw - 5000.0).abs() < 1.0 && (energy.idle_mw - 2000.0).abs() < 1.0, "{energy:?}");
        assert!(energy.samples >= 10 && energy.cv < 1e-6, "{energy:?}");
        // Two seconds of 3 W, shared by the runs.
        let total = energy.millijoules * energy.runs as f64;
        assert!((5700.0..7500.0).contains(&total), "{energy:?}");
        assert!(Meter::new(Rails::find_in(std::path::Path::new("/nowhere"))).is_none());
    }
}
