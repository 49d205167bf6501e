//! Temperatures, cooling, fans and signs of throttling.
//!
//! Sources: the kernel's documentation of the thermal class and of hwmon; the `soctherm_oc` driver of Jetson Linux (oc1
//! counts under-voltage, oc2 average and oc3 instantaneous over-current); x86's `thermal_throttle` counters; the
//! Raspberry Pi firmware driver's `get_throttled` and its `rpi_volt` chip, and Raspberry Pi's documentation of the bits and of
//! thermal control.

use std::path::Path;

use super::files::{names, number, text};
use super::settings::chips;
use super::state::{Cooling, Counter, Fan, PiThrottle, Zone};

const THERMAL: &str = "sys/class/thermal";

/// Temperatures in this range are real; zones that are switched off report absurd ones.
const REAL: std::ops::RangeInclusive<f64> = -40.0..=150.0;

/// Trip points below this are unused places of tables.
const LOWEST_LIMIT: f64 = 40.0;

/// Where a Raspberry Pi's firmware begins to slow its cores, by the maker's documentation; no trip point says so.
const RASPBERRY_PI_LIMIT: f64 = 80.0;

pub(super) fn zones(root: &Path) -> Vec<Zone> {
    let celsius =
        |path: &str| Some(text(root, path)?.parse::<f64>().ok()? / 1e3).filter(|c| REAL.contains(c));
    let pi = text(root, "proc/device-tree/model").is_some_and(|model| model.starts_with("Raspberry Pi"));
    let known = pi.then_some(RASPBERRY_PI_LIMIT);
    names(root, THERMAL)
        .into_iter()
        .filter(|name| name.starts_with("thermal_zone"))
        .filter_map(|name| {
            let folder = format!("{THERMAL}/{name}");
            let degrees = celsius(&format!("{folder}/temp"))?;
            // Passive points slow something down; hot and critical ones stop the machine.
            let limits = names(root, &folder).into_iter().filter_map(|file| {
                let point = file.strip_suffix("_type").filter(|point| point.starts_with("trip_point_"))?;
                let kind = text(root, &format!("{folder}/{file}"))?;
                let counts = ["passive", "hot", "critical"].contains(&kind.as_str());
                celsius(&format!("{folder}/{point}_temp")).filter(|limit| counts && *limit >= LOWEST_LIMIT)
            });
            Some(Zone {
                celsius: degrees,
                limit_c: limits.chain(known).min_by(f64::total_cmp),
                name: text(root, &format!("{folder}/type")).unwrap_or(name),
            })
        })
        .collect()
}

/// Cooling devices that slow something down; fans are no sign of throttling.
pub(super) fn cooling(root: &Path) -> Vec<Cooling> {
    let slows = |name: &str| {
        let name = name.to_lowercase();
        ["cpufreq", "devfreq", "processor", "gpu", "cpu-balanced", "throttle"]
            .iter()
            .any(|k| name.contains(k))
    };
    names(root, THERMAL)
        .into_iter()
        .filter(|name| name.starts_with("cooling_device"))
        .filter_map(|name| {
            let folder = format!("{THERMAL}/{name}");
            let kind = text(root, &format!("{folder}/type")).filter(|kind| slows(kind))?;
            Some(Cooling {
                // Types repeat, on x86 once for every core.
                name: format!("{kind} ({name})"),
                level: number(root, &format!("{folder}/cur_state"))?,
                of: number(root, &format!("{folder}/max_state"))?,
            })
        })
        .collect()
}

pub(super) fn fans(root: &Path) -> Vec<Fan> {
    let mut fans: Vec<Fan> = chips(root)
        .into_iter()
        .filter_map(|(name, folder)| {
            let rpm = number(root, &format!("{folder}/fan1_input"))
                .or_else(|| number(root, &format!("{folder}/rpm")));
            let pwm = number(root, &format!("{folder}/pwm1"));
            (rpm.is_some() || pwm.is_some()).then_some(Fan { name, rpm, pwm })
        })
        .collect();
    // Jetson Linux before release 35 has the fan outside hwmon.
    if let Some(pwm) = number(root, "sys/devices/pwm-fan/cur_pwm") {
        let rpm = number(root, "sys/devices/pwm-fan/rpm_measured");
        fans.push(Fan { name: "pwm-fan".into(), rpm, pwm: Some(pwm) });
    }
    fans
}

pub(super) fn counters(root: &Path) -> Vec<Counter> {
    const OVER_CURRENT: [(&str, &str); 3] = [
        ("oc1", "oc1 (under-voltage) events"),
        ("oc2", "oc2 (average over-current) events"),
        ("oc3", "oc3 (instantaneous over-current) events"),
    ];
    let mut counters = Vec::new();
    for (_, folder) in chips(root).iter().filter(|(name, _)| name == "soctherm_oc") {
        for (file, name) in OVER_CURRENT {
            if let Some(count) = number(root, &format!("{folder}/{file}_event_cnt")) {
                counters.push(Counter { name: name.into(), count });
            }
        }
    }
    let cpu = "sys/devices/system/cpu";
    let each: Vec<String> =
        names(root, cpu).into_iter().map(|name| format!("{cpu}/{name}/thermal_throttle")).collect();
    let of =
        |file: &'static str| each.iter().filter_map(move |folder| number(root, &format!("{folder}/{file}")));
    if of("core_throttle_count").next().is_some() {
        let count = of("core_throttle_count").fold(0u64, u64::saturating_add);
        counters.push(Counter { name: "thermal throttle events of all cores".into(), count });
    }
    // Every core of a package shows the package's count.
    if let Some(count) = of("package_throttle_count").max() {
        counters.push(Counter { name: "thermal throttle events of the package".into(), count });
    }
    counters
}

/// The bits, in hexadecimal without a prefix. The node's name differs by model; a Raspberry Pi 5 has the node and, under
/// current kernels, no such file.
pub(super) fn raspberry_pi(root: &Path) -> Option<PiThrottle> {
    const PLATFORM: &str = "sys/devices/platform";
    let mut places = Vec::new();
    for name in names(root, PLATFORM) {
        if name.ends_with(":firmware") {
            places.push(format!("{PLATFORM}/{name}/get_throttled"));
        } else if name == "soc" || name.starts_with("soc@") {
            places.push(format!("{PLATFORM}/{name}/{name}:firmware/get_throttled"));
        }
    }
    let value = places.iter().find_map(|place| text(root, place))?;
    u32::from_str_radix(value.trim_start_matches("0x"), 16).ok().map(PiThrottle)
}

pub(super) fn under_voltage(root: &Path) -> Option<bool> {
    let chips = chips(root);
    let (_, folder) = chips.iter().find(|(name, _)| name == "rpi_volt")?;
    number(root, &format!("{folder}/in0_lcrit_alarm")).map(|alarm| alarm != 0)
}
