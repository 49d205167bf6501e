//! What changes on a machine while it is measured, and what of it says that the machine was held back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::read;

/// Part of its limit below which a clock counts as held back.
const SLOW: f64 = 0.75;

/// What changes on a machine while it is measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Clock of the first core in kHz.
    pub khz: Option<u64>,
    /// Hottest thermal zone in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Load average over one minute.
    pub load_1m: Option<f64>,
    /// Sum of all throttle counters that can be read; a change between two readings is a throttled run.
    pub throttled: Option<u64>,
    /// Free memory in bytes, as the system estimates it.
    pub available_bytes: Option<u64>,
    /// Every thermal zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<Zone>,
    /// Cooling by lower clocks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cooling: Vec<Cooling>,
    /// Clocks of CPU clusters, GPU and memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clocks: Vec<ClockNow>,
    /// Fans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fans: Vec<Fan>,
    /// Counters of throttle events since the machine started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<Counter>,
    /// What a Raspberry Pi's firmware says of throttling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raspberry_pi: Option<PiThrottle>,
    /// Whether a Raspberry Pi's supply is too low at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_voltage: Option<bool>,
    /// Swap in use on disks, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_used_bytes: Option<u64>,
    /// Swap in use in compressed memory, in bytes before compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zram_used_bytes: Option<u64>,
}

/// A thermal zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Its type, such as `cpu-thermal`.
    pub name: String,
    /// Degrees Celsius.
    pub celsius: f64,
    /// Lowest temperature at which the system slows something down or stops, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_c: Option<f64>,
}

/// A way to cool by going slower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooling {
    /// Its type, such as `cpufreq-cpu0`.
    pub name: String,
    /// Its level: 0 is off.
    pub level: u64,
    /// Its highest level.
    pub of: u64,
}

/// A clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockNow {
    /// `cpu 0-3`, `gpu NODE` or `memory`.
    pub name: String,
    /// Its rate in kHz.
    pub khz: u64,
    /// The highest rate allowed, in kHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_khz: Option<u64>,
    /// Whether the lowest rate allowed is the highest one, so that it may not fall when there is no work.
    #[serde(default)]
    pub held: bool,
}

/// A fan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fan {
    /// Name of its driver.
    pub name: String,
    /// Turns per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// What it was told, 0 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pwm: Option<u64>,
}

/// A counter of throttle events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// What it counts.
    pub name: String,
    /// Events since the machine started.
    pub count: u64,
}

/// A Raspberry Pi's throttle bits: those of the moment, and 16 places higher those that were ever set since it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PiThrottle(pub u32);

impl PiThrottle {
    /// Meaning of bits 0 to 3.
    const WORDS: [&'static str; 4] =
        ["under-voltage", "clock capped", "throttled", "soft temperature limit reached"];

    /// What holds at the moment.
    pub fn now(self) -> Vec<&'static str> {
        Self::words(self.0)
    }

    /// What ever held since the board started.
    pub fn since_boot(self) -> Vec<&'static str> {
        Self::words(self.0 >> 16)
    }

    fn words(bits: u32) -> Vec<&'static str> {
        let set = |(bit, word): (usize, &'static str)| (bits >> bit & 1 == 1).then_some(word);
        Self::WORDS.into_iter().enumerate().filter_map(set).collect()
    }
}

impl State {
    /// Reads this machine.
    pub fn read() -> Self {
        Self::read_from(Path::new("/"))
    }

    /// Reads the machine whose system files lie below `root`.
    pub fn read_from(root: &Path) -> Self {
        read::state(root)
    }

    /// What says that the machine was held back between `before` and this reading, one plain sentence each; empty when
    /// nothing does.
    ///
    /// Counters, the firmware's bits, cooling levels and lowered limits speak for the whole time between the readings.
    /// A clock or a temperature speaks for its moment, so take this reading as soon as the work is done. A clock
    /// that may fall when idle is judged only if it is the fastest of the CPU.
    pub fn throttling_since(&self, before: &State) -> Vec<String> {
        let mut said = Vec::new();
        for now in &self.counters {
            let old = before.counters.iter().find(|old| old.name == now.name).map_or(0, |old| old.count);
            if now.count > old {
                let by = now.count - old;
                said.push(format!("{} rose by {by}, from {old} to {}", now.name, now.count));
            }
        }
        self.firmware_since(before, &mut said);
        for now in &self.cooling {
            let old = before.cooling.iter().find(|old| old.name == now.name).map_or(0, |old| old.level);
            if now.level > old {
                said.push(format!(
                    "cooling by {} rose from level {old} to {} of {}",
                    now.name, now.level, now.of
                ));
            }
        }
        self.clocks_since(before, &mut said);
        for zone in &self.zones {
            if let Some(limit) = zone.limit_c.filter(|limit| zone.celsius >= *limit) {
                said.push(format!(
                    "{} is at {:.1} degrees Celsius, and its limit is {limit:.1}",
                    zone.name, zone.celsius
                ));
            }
        }
        said
    }

    fn firmware_since(&self, before: &State, said: &mut Vec<String>) {
        if let Some(now) = self.raspberry_pi {
            let held = now.now();
            if !held.is_empty() {
                said.push(format!("the firmware reports now: {}", held.join(", ")));
            }
            // Without a first reading nobody knows when the lasting bits were set.
            let lasting = before.raspberry_pi.map(|old| (old.since_boot(), now.since_boot()));
            let (known, all) = lasting.unwrap_or_default();
            let new: Vec<&str> =
                all.into_iter().filter(|word| !known.contains(word) && !held.contains(word)).collect();
            if !new.is_empty() {
                said.push(format!("the firmware reports since the first reading: {}", new.join(", ")));
            }
        }
        if self.under_voltage == Some(true) {
            said.push("the board's supply voltage is too low".into());
        }
    }

    fn clocks_since(&self, before: &State, said: &mut Vec<String>) {
        let pairs = self
            .clocks
            .iter()
            .filter_map(|now| Some((now, before.clocks.iter().find(|old| old.name == now.name)?)));
        for (now, old) in pairs {
            if let (Some(new), Some(limit)) = (now.limit_khz, old.limit_khz)
                && new < limit
            {
                said.push(format!("the limit of {} fell from {} to {} MHz", now.name, mhz(limit), mhz(new)));
            }
            if let Some(part) = now.part_of(old)
                && now.held
                && part < SLOW
            {
                said.push(slow(&now.name, now.khz, old.limit_khz, part));
            }
        }
        // Of clocks that may idle, the fastest one is where the work was.
        let busiest = |state: &State| {
            let parts = state.clocks.iter().filter(|clock| clock.name.starts_with("cpu") && !clock.held);
            parts
                .filter_map(|clock| {
                    let own = before.clocks.iter().find(|old| old.name == clock.name)?;
                    Some((clock.part_of(own)?, clock.khz, own.limit_khz))
                })
                .max_by(|a, b| a.0.total_cmp(&b.0))
        };
        if let (Some((old, ..)), Some((part, khz, limit))) = (busiest(before), busiest(self))
            && old >= SLOW
            && part < SLOW
        {
            said.push(slow("the fastest cpu", khz, limit, part));
        }
    }
}

impl ClockNow {
    /// The rate as a part of the limit that `before` had.
    fn part_of(&self, before: &ClockNow) -> Option<f64> {
        let limit = before.limit_khz.filter(|limit| *limit > 0)?;
        Some(self.khz as f64 / limit as f64)
    }
}

fn slow(name: &str, khz: u64, limit: Option<u64>, part: f64) -> String {
    format!(
        "{name} runs at {} MHz, {:.0} % of its maximum of {} MHz",
        mhz(khz),
        100.0 * part,
        mhz(limit.unwrap_or(0))
    )
}

fn mhz(khz: u64) -> u64 {
    khz.saturating_add(500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(name: &str, khz: u64, limit: u64, held: bool) -> ClockNow {
        ClockNow { name: name.into(), khz, limit_khz: Some(limit), held }
    }

    fn counter(count: u64) -> Vec<Counter> {
        vec![Counter { name: "oc3 (instantaneous over-current) events".into(), count }]
    }

    #[test]
    fn a_quiet_run_says_nothing() {
        let state = State {
            counters: counter(40),
            clocks: vec![
                clock("cpu 0-3", 1_800_000, 1_800_000, true),
                clock("gpu x", 300_000, 900_000, false),
            ],
            zones: vec![Zone { name: "cpu".into(), celsius: 60.0, limit_c: Some(95.0) }],
            raspberry_pi: Some(PiThrottle(0x50000)),
            under_voltage: Some(false),
            ..State::default()
        };
        assert_eq!(state.throttling_since(&state), Vec::<String>::new());
        assert!(State::default().throttling_since(&State::default()).is_empty());
    }

    #[test]
    fn every_sign_has_its_sentence() {
        let before = State {
            counters: counter(40),
            raspberry_pi: Some(PiThrottle(0)),
            cooling: vec![Cooling { name: "cpufreq-cpu0".into(), level: 0, of: 10 }],
            clocks: vec![
                clock("cpu 0-3", 1_800_000, 1_800_000, true),
                clock("gpu x", 900_000, 900_000, true),
                clock("memory", 3_199_000, 3_199_000, false),
            ],
            ..State::default()
        };
        let after = State {
            counters: counter(52),
            raspberry_pi: Some(PiThrottle(0x60004)),
            under_voltage: Some(true),
            cooling: vec![Cooling { name: "cpufreq-cpu0".into(), level: 3, of: 10 }],
            clocks: vec![
                clock("cpu 0-3", 1_100_000, 1_200_000, true),
                clock("gpu x", 899_900, 900_000, true),
                clock("memory", 100_000, 3_199_000, false),
            ],
            zones: vec![Zone { name: "tj-thermal".into(), celsius: 99.5, limit_c: Some(99.0) }],
            ..State::default()
        };
        assert_eq!(
            after.throttling_since(&before),
            [
                "oc3 (instantaneous over-current) events rose by 12, from 40 to 52",
                "the firmware reports now: throttled",
                "the firmware reports since the first reading: clock capped",
                "the board's supply voltage is too low",
                "cooling by cpufreq-cpu0 rose from level 0 to 3 of 10",
                "the limit of cpu 0-3 fell from 1800 to 1200 MHz",
                "cpu 0-3 runs at 1100 MHz, 61 % of its maximum of 1800 MHz",
                "tj-thermal is at 99.5 degrees Celsius, and its limit is 99.0",
            ]
        );
    }

    #[test]
    fn of_idling_clocks_only_the_fastest_counts() {
        let state = |a: u64, b: u64| State {
            clocks: vec![clock("cpu 0", a, 4_700_000, false), clock("cpu 1", b, 3_500_000, false)],
            ..State::default()
        };
        // Another core does the work now: nothing fell.
        assert!(state(800_000, 3_400_000).throttling_since(&state(4_600_000, 800_000)).is_empty());
        // It was idle before: nothing fell.
        assert!(state(800_000, 900_000).throttling_since(&state(800_000, 800_000)).is_empty());
        let said = state(2_350_000, 800_000).throttling_since(&state(4_600_000, 800_000));
        assert_eq!(said, ["the fastest cpu runs at 2350 MHz, 50 % of its maximum of 4700 MHz"]);
    }

    #[test]
    fn bits_of_a_raspberry_pi_have_words() {
        let bits = PiThrottle(0x50005);
        assert_eq!(bits.now(), ["under-voltage", "throttled"]);
        assert_eq!(bits.since_boot(), ["under-voltage", "throttled"]);
        assert!(PiThrottle(0).now().is_empty());
        assert_eq!(PiThrottle(0xF0000).since_boot().len(), 4);
    }

    #[test]
    fn a_state_stored_before_these_fields_existed_is_read() {
        let old = r#"{"khz":null,"temperature_c":48.0,"load_1m":0.1,"throttled":null,"available_bytes":1}"#;
        let state: State = serde_json::from_str(old).unwrap();
        assert_eq!(state.temperature_c, Some(48.0));
        assert_eq!(serde_json::to_string(&state).unwrap(), old);
    }
}
