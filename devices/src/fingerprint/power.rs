//! Electric power, from the sensors that a board has.
//!
//! Sources: the kernel's documentation of the `ina3221`, `ina2xx` and powercap drivers; NVIDIA's Jetson Linux developer
//! guide for the names of rails. An INA3221 gives millivolts and milliamperes of up to three rails, whose product is
//! the power; Jetson Linux before release 35 shows the same chip as an industrial-IO device in milliwatts; Intel's RAPL
//! counts microjoules, which most systems show to the superuser alone. Sensors see what flows through them: on a board
//! without a rail for its whole input nothing here is the board's power.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::files::{names, number, text, text_at};
use super::settings::chips;

/// Rails that carry the whole board's input: Orin Nano, Orin NX, Xavier NX and TX2; Nano; laptops with the platform domain.
const TOTALS: [&str; 3] = ["VDD_IN", "POM_5V_IN", "psys"];

/// The rate at which sensors are read, per second.
pub const RATE: f64 = 10.0;

/// The power sensors of a machine.
#[derive(Clone, Debug, Default)]
pub struct Rails {
    rails: Vec<Rail>,
}

#[derive(Clone, Debug)]
struct Rail {
    name: String,
    sensor: Sensor,
}

#[derive(Clone, Debug)]
enum Sensor {
    /// Millivolts and milliamperes.
    Product(PathBuf, PathBuf),
    /// Milliwatts.
    Milliwatts(PathBuf),
    /// Microwatts.
    Microwatts(PathBuf),
    /// A counter of microjoules that starts again after its range.
    Counter(PathBuf, Option<u64>),
}

/// One reading of a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Power at the moment, in milliwatts.
    Milliwatts(f64),
    /// Energy since some moment in the past, in microjoules.
    Microjoules(u64),
}

impl Rails {
    /// The sensors that can be read on this machine.
    pub fn find() -> Self {
        Self::find_in(Path::new("/"))
    }

    /// The sensors that can be read below `root`.
    pub fn find_in(root: &Path) -> Self {
        let mut rails = hwmon(root);
        if rails.is_empty() {
            // The same chips are never shown in both ways, but a copied tree could be.
            rails = industrial_io(root);
        }
        rails.extend(rapl(root));
        rails.retain(|rail| rail.sensor.read().is_some());
        Self { rails }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rails.is_empty()
    }

    /// Their names, as the board's description gives them.
    pub fn names(&self) -> Vec<&str> {
        self.rails.iter().map(|rail| rail.name.as_str()).collect()
    }

    /// The rail that carries the whole board's input, if there is one.
    pub fn total(&self) -> Option<&str> {
        TOTALS.iter().copied().find(|total| self.rails.iter().any(|rail| rail.name == **total))
    }

    /// Reads every sensor once, in the order of [`names`](Rails::names); `None` for one that did not answer.
    pub fn read(&self) -> Vec<Option<Reading>> {
        self.rails.iter().map(|rail| rail.sensor.read()).collect()
    }
}

impl Sensor {
    fn read(&self) -> Option<Reading> {
        let of = |path: &Path| text_at(path)?.parse::<f64>().ok().filter(|value| value.is_finite());
        match self {
            Sensor::Product(millivolts, milliamperes) => {
                Some(Reading::Milliwatts(of(millivolts)? * of(milliamperes)? / 1e3))
            }
            Sensor::Milliwatts(path) => Some(Reading::Milliwatts(of(path)?)),
            Sensor::Microwatts(path) => Some(Reading::Milliwatts(of(path)? / 1e3)),
            Sensor::Counter(path, _) => Some(Reading::Microjoules(text_at(path)?.parse().ok()?)),
        }
    }
}

/// INA chips under hwmon.
fn hwmon(root: &Path) -> Vec<Rail> {
    let mut rails = Vec::new();
    for (chip, folder) in chips(root) {
        let path = |file: String| root.join(&folder).join(file);
        if chip == "ina3221" {
            for channel in 1..=3 {
                let Some(name) = text(root, &format!("{folder}/in{channel}_label")) else { continue };
                // Channels that are not connected.
                if name.starts_with("NC") {
                    continue;
                }
                let volts = path(format!("in{channel}_input"));
                rails.push(Rail {
                    name,
                    sensor: Sensor::Product(volts, path(format!("curr{channel}_input"))),
                });
            }
        } else if chip.starts_with("ina2") {
            let name = text(root, &format!("{folder}/power1_label")).unwrap_or(chip);
            rails.push(Rail { name, sensor: Sensor::Microwatts(path("power1_input".into())) });
        }
    }
    rails
}

/// INA3221 chips as Jetson Linux before release 35 shows them.
fn industrial_io(root: &Path) -> Vec<Rail> {
    const DRIVER: &str = "sys/bus/i2c/drivers/ina3221x";
    let mut rails = Vec::new();
    for chip in names(root, DRIVER) {
        for device in names(root, &format!("{DRIVER}/{chip}")) {
            if !device.starts_with("iio:device") && device != "iio_device" {
                continue;
            }
            let folder = format!("{DRIVER}/{chip}/{device}");
            for channel in 0..3 {
                let Some(name) = text(root, &format!("{folder}/rail_name_{channel}")) else { continue };
                let watts = root.join(&folder).join(format!("in_power{channel}_input"));
                rails.push(Rail { name, sensor: Sensor::Milliwatts(watts) });
            }
        }
    }
    rails
}

/// Intel's running average power limit, which AMD's processors have, too.
fn rapl(root: &Path) -> Vec<Rail> {
    const FOLDER: &str = "sys/class/powercap";
    let zones: Vec<String> =
        names(root, FOLDER).into_iter().filter(|name| name.starts_with("intel-rapl:")).collect();
    let name_of = |zone: &str| text(root, &format!("{FOLDER}/{zone}/name"));
    zones
        .iter()
        .filter_map(|zone| {
            let own = name_of(zone)?;
            // A part of a package, as intel-rapl:0:1 is of intel-rapl:0.
            let parent = zone.rsplit_once(':').map(|(parent, _)| parent).filter(|p| p.contains(':'));
            let name = match parent.and_then(name_of) {
                Some(parent) => format!("{parent}/{own}"),
                None => own,
            };
            let range = number(root, &format!("{FOLDER}/{zone}/max_energy_range_uj"));
            Some(Rail {
                name,
                sensor: Sensor::Counter(root.join(FOLDER).join(zone).join("energy_uj"), range),
            })
        })
        .collect()
}

/// Power over a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// Length in seconds, from the first reading to the last.
    pub seconds: f64,
    /// Each rail, in the order of [`Rails::names`].
    pub rails: Vec<RailPower>,
}

/// One rail's power over a stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RailPower {
    /// Name.
    pub name: String,
    /// Whether it carries the whole board's input.
    pub total: bool,
    /// Mean power in milliwatts: energy over time.
    pub mean_mw: f64,
    /// Energy in joules. Of readings of power, the area under straight lines between them.
    pub joules: f64,
    /// Readings of power; of a counter, stretches between two readings.
    pub samples: usize,
    /// Readings that failed.
    pub missed: usize,
    /// Standard deviation of the readings over their mean; 0 with fewer than two.
    pub cv: f64,
}

impl Power {
    /// The rail that carries the whole board's input, if there is one.
    pub fn total(&self) -> Option<&RailPower> {
        self.rails.iter().find(|rail| rail.total)
    }

    /// The rail of this name.
    pub fn rail(&self, name: &str) -> Option<&RailPower> {
        self.rails.iter().find(|rail| rail.name == name)
    }

    /// Energy of a rail in joules, less what it would have used in the same time at the mean power of `idle`. It can be
    /// negative when the difference drowns in noise. `None` when either lacks the rail.
    pub fn joules_above(&self, idle: &Power, name: &str) -> Option<f64> {
        let idle = idle.rail(name)?;
        Some(self.rail(name)?.joules - idle.mean_mw / 1e3 * self.seconds)
    }
}

/// Reads the sensors on a thread of its own until it is stopped. Reading a chip on a slow bus takes some of one core's
/// time, so where times matter to the last percent, take times and energy in stretches of their own.
#[derive(Debug)]
pub struct Sampler {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Power>>,
}

impl Sampler {
    /// Starts reading `rate` times a second (see [`RATE`]). The first reading is taken before this returns, so
    /// that work which follows is within the stretch. `None` when there is no sensor, the rate is no positive number, or no
    /// thread can be had.
    pub fn start(rails: Rails, rate: f64) -> Option<Self> {
        if rails.is_empty() || !(rate.is_finite() && rate > 0.0) {
            return None;
        }
        let period = Duration::try_from_secs_f64(1.0 / rate).ok()?;
        let mut sums = Sums::new(&rails);
        let start = Instant::now();
        sums.add(0.0, &rails.read());
        let (stop, stopped) = channel();
        let body = move || {
            let mut due = start + period;
            loop {
                let wait = due.saturating_duration_since(Instant::now());
                let last = !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
                sums.add(start.elapsed().as_secs_f64(), &rails.read());
                if last {
                    return sums.power();
                }
                // Readings that came late are not made up for.
                due = (due + period).max(Instant::now());
            }
        };
        let thread = std::thread::Builder::new().name("power".into()).spawn(body).ok()?;
        Some(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Takes the last reading and gives the sums. `None` when the reading thread panicked.
    pub fn stop(mut self) -> Option<Power> {
        self.finish()
    }

    fn finish(&mut self) -> Option<Power> {
        // The thread wakes when its channel closes.
        drop(self.stop.take());
        self.thread.take()?.join().ok()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// Running sums of every rail, so that a long stretch needs no more memory than a short one.
struct Sums {
    seconds: f64,
    rails: Vec<Sum>,
}

struct Sum {
    name: String,
    total: bool,
    range: Option<u64>,
    last: Option<(f64, Reading)>,
    /// Time that its readings span.
    span: f64,
    joules: f64,
    samples: usize,
    missed: usize,
    mean: f64,
    squares: f64,
}

impl Sums {
    fn new(rails: &Rails) -> Self {
        let total = rails.total();
        let sum = |rail: &Rail| Sum {
            name: rail.name.clone(),
            total: total == Some(rail.name.as_str()),
            range: match rail.sensor {
                Sensor::Counter(_, range) => range,
                _ => None,
            },
            last: None,
            span: 0.0,
            joules: 0.0,
            samples: 0,
            missed: 0,
            mean: 0.0,
            squares: 0.0,
        };
        Self { seconds: 0.0, rails: rails.rails.iter().map(sum).collect() }
    }

    fn add(&mut self, seconds: f64, readings: &[Option<Reading>]) {
        self.seconds = seconds;
        for (sum, reading) in self.rails.iter_mut().zip(readings) {
            match reading {
                Some(reading) => sum.add(seconds, *reading),
                None => sum.missed += 1,
            }
        }
    }

    fn power(self) -> Power {
        Power { seconds: self.seconds, rails: self.rails.into_iter().map(Sum::power).collect() }
    }
}

impl Sum {
    fn add(&mut self, seconds: f64, reading: Reading) {
        let before = self.last.replace((seconds, reading));
        match (before, reading) {
            (None, Reading::Milliwatts(now)) => self.sample(now),
            (Some((then, Reading::Milliwatts(old))), Reading::Milliwatts(now)) => {
                let span = seconds - then;
                self.span += span;
                self.joules += (old + now) / 2.0 / 1e3 * span;
                self.sample(now);
            }
            (Some((then, Reading::Microjoules(old))), Reading::Microjoules(now)) => {
                let span = seconds - then;
                // A counter starts again after its range; without a known range the stretch is lost.
                let used = match (now.checked_sub(old), self.range) {
                    (Some(used), _) => used,
                    (None, Some(range)) => range.saturating_sub(old).saturating_add(now),
                    (None, None) => {
                        self.missed += 1;
                        return;
                    }
                };
                self.span += span;
                self.joules += used as f64 / 1e6;
                if span > 0.0 {
                    self.sample(used as f64 / 1e3 / span);
                }
            }
            // The first reading of a counter says nothing yet; one sensor gives one kind.
            _ => {}
        }
    }

    /// Welford's running mean and sum of squares.
    fn sample(&mut self, milliwatts: f64) {
        self.samples += 1;
        let from = milliwatts - self.mean;
        self.mean += from / self.samples as f64;
        self.squares += from * (milliwatts - self.mean);
    }

    fn power(self) -> RailPower {
        let mean_mw = if self.span > 0.0 { self.joules / self.span * 1e3 } else { self.mean };
        let spread = if self.samples > 1 { (self.squares / (self.samples - 1) as f64).sqrt() } else { 0.0 };
        RailPower {
            name: self.name,
            total: self.total,
            mean_mw,
            joules: self.joules,
            samples: self.samples,
            missed: self.missed,
            cv: if self.mean > 0.0 { spread / self.mean } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rails: &[(&str, Sensor)]) -> Sums {
        let rails = rails.iter().map(|(name, sensor)| Rail { name: (*name).into(), sensor: sensor.clone() });
        Sums::new(&Rails { rails: rails.collect() })
    }

    #[test]
    fn energy_is_the_area_under_the_readings() {
        let mut sums =
            sums(&[("VDD_IN", Sensor::Milliwatts("x".into())), ("VDD_SOC", Sensor::Milliwatts("y".into()))]);
        let read = |a: f64, b: Option<f64>| [Some(Reading::Milliwatts(a)), b.map(Reading::Milliwatts)];
        sums.add(0.0, &read(4000.0, Some(1000.0)));
        sums.add(0.5, &read(6000.0, None));
        sums.add(2.0, &read(6000.0, Some(1000.0)));
        let power = sums.power();
        let total = power.total().unwrap();
        assert_eq!((total.name.as_str(), total.samples, total.missed), ("VDD_IN", 3, 0));
        // 5 W for half a second, 6 W for one and a half.
        assert!((total.joules - 11.5).abs() < 1e-9 && (total.mean_mw - 5750.0).abs() < 1e-6, "{total:?}");
        // Readings 4, 6, 6: mean 16/3, deviation sqrt(4/3).
        assert!((total.cv - (4.0f64 / 3.0).sqrt() / (16.0 / 3.0)).abs() < 1e-12, "{total:?}");
        let soc = power.rail("VDD_SOC").unwrap();
        assert_eq!((soc.samples, soc.missed, soc.total, soc.cv), (2, 1, false, 0.0));
        assert!((soc.joules - 2.0).abs() < 1e-9);

        let idle = Power { seconds: 9.0, rails: vec![RailPower { mean_mw: 4000.0, ..total.clone() }] };
        assert!((power.joules_above(&idle, "VDD_IN").unwrap() - 3.5).abs() < 1e-9);
        assert_eq!(power.joules_above(&idle, "VDD_SOC"), None);
    }

    #[test]
    fn a_counter_that_starts_again_loses_nothing() {
        let counter = |range| sums(&[("package-0", Sensor::Counter("x".into(), range))]);
        let feed = |mut sums: Sums| {
            for (seconds, microjoules) in [(0.0, 900_000), (1.0, 990_000), (2.0, 80_000)] {
                sums.add(seconds, &[Some(Reading::Microjoules(microjoules))]);
            }
            sums.power().rails.remove(0)
        };
        let known = feed(counter(Some(1_000_000)));
        assert!((known.joules - 0.18).abs() < 1e-12 && (known.mean_mw - 90.0).abs() < 1e-9, "{known:?}");
        assert_eq!((known.samples, known.total), (2, false));
        let unknown = feed(counter(None));
        assert_eq!((unknown.samples, unknown.missed), (1, 1));
        assert!((unknown.joules - 0.09).abs() < 1e-12 && (unknown.mean_mw - 90.0).abs() < 1e-9);
    }
}
