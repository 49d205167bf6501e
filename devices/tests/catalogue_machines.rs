//! What boards say of themselves, read from copied system files.

use std::path::Path;

use masktas_devices::catalogue::Catalogue;
use masktas_devices::fingerprint::power::{RATE, Rails, Reading, Sampler};
use masktas_devices::fingerprint::{PiThrottle, jetpack};
use masktas_devices::{Fingerprint, State};

/// A board of `tests/fixtures/boards`, unpacked.
fn board(name: &str) -> tempfile::TempDir {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/boards");
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
    let root = tempfile::tempdir().unwrap();
    for part in text.split("== ").skip(1) {
        let (path, content) = part.split_once('\n').unwrap();
        write(root.path(), path, content);
    }
    root
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn named(state: &State) -> Vec<(&str, f64, Option<f64>)> {
    state.zones.iter().map(|zone| (zone.name.as_str(), zone.celsius, zone.limit_c)).collect()
}

#[test]
fn a_jetson_orin_nano() {
    let root = board("jetson-orin-nano");
    let print = Fingerprint::read_from(root.path(), 6);
    let set = &print.settings;
    assert_eq!((set.l4t.as_deref(), set.jetpack.as_deref()), (Some("36.4.3"), Some("6.2")));
    let mode = set.power_mode.as_ref().unwrap();
    assert_eq!((mode.number, mode.name.as_deref()), (2, Some("MAXN_SUPER")));
    assert_eq!(set.fan_mode.as_deref(), Some("quiet"));
    assert_eq!(set.clocks_locked, Some(true));
    let clusters: Vec<_> = set.clusters.iter().map(|c| (c.cpus.clone(), c.max_khz)).collect();
    assert_eq!(clusters, [(vec![0, 1, 2, 3], Some(1_728_000)), (vec![4, 5], Some(1_728_000))]);
    let gpu = set.gpu.as_ref().unwrap();
    assert_eq!((gpu.name.as_str(), gpu.max_khz), ("17000000.gpu", Some(1_020_000)));
    assert_eq!(set.gpu_driver.as_deref(), Some("540.4.0"));
    assert_eq!(set.glibc.as_deref(), Some("2.35"));
    assert_eq!((set.swap_bytes, set.zram_bytes), (Some(16_777_212 * 1024), Some(2 * 650_240 * 1024)));
    assert_eq!((set.container.as_deref(), set.boost, set.android.as_ref()), (None, None, None));
    assert!(set.offline_cpus.is_empty() && set.isolated_cpus.is_empty());
    assert!(print.line().contains("JetPack 6.2 (L4T 36.4.3), power mode MAXN_SUPER"), "{}", print.line());

    let state = &print.state;
    assert_eq!(
        named(state),
        [("cpu-thermal", 52.125, Some(99.0)), ("gpu-thermal", 50.843, None), ("tj-thermal", 52.531, None)]
    );
    assert_eq!(state.temperature_c, Some(52.531));
    let clocks: Vec<_> = state.clocks.iter().map(|c| (c.name.as_str(), c.khz, c.held)).collect();
    assert_eq!(
        clocks,
        [
            ("cpu 0-3", 1_728_000, true),
            ("cpu 4-5", 1_728_000, true),
            ("gpu 17000000.gpu", 1_020_000, true),
            ("memory", 3_199_000, false)
        ]
    );
    let counters: Vec<_> = state.counters.iter().map(|c| (c.name.as_str(), c.count)).collect();
    assert_eq!(
        counters,
        [
            ("oc1 (under-voltage) events", 0),
            ("oc2 (average over-current) events", 15),
            ("oc3 (instantaneous over-current) events", 27_390)
        ]
    );
    assert_eq!(state.throttled, Some(27_405));
    assert_eq!(state.cooling.len(), 1, "a fan is no sign of throttling: {:?}", state.cooling);
    let fans: Vec<_> = state.fans.iter().map(|f| (f.name.as_str(), f.pwm, f.rpm)).collect();
    assert_eq!(fans, [("pwmfan", Some(76), None), ("pwm_tach", None, Some(1636))]);
    assert_eq!((state.swap_used_bytes, state.zram_used_bytes), (Some(2048 * 1024), Some(1024 * 1024)));
    assert_eq!((state.raspberry_pi, state.under_voltage), (None, None));

    let rails = Rails::find_in(root.path());
    assert_eq!(rails.names(), ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]);
    assert_eq!(rails.total(), Some("VDD_IN"));
    assert_eq!(rails.read()[0], Some(Reading::Milliwatts(5016.0 * 1856.0 / 1e3)));
}

#[test]
fn a_throttled_jetson_says_how() {
    let root = board("jetson-orin-nano");
    let before = State::read_from(root.path());
    write(root.path(), "sys/class/hwmon/hwmon3/oc3_event_cnt", "27402\n");
    write(root.path(), "sys/class/thermal/cooling_device0/cur_state", "4\n");
    write(root.path(), "sys/class/thermal/thermal_zone0/temp", "99250\n");
    write(root.path(), "sys/class/devfreq/17000000.gpu/cur_freq", "612000000\n");
    let said = State::read_from(root.path()).throttling_since(&before);
    assert_eq!(
        said,
        [
            "oc3 (instantaneous over-current) events rose by 12, from 27390 to 27402",
            "cooling by cpufreq-cpu0 (cooling_device0) rose from level 0 to 4 of 22",
            "gpu 17000000.gpu runs at 612 MHz, 60 % of its maximum of 1020 MHz",
            "cpu-thermal is at 99.2 degrees Celsius, and its limit is 99.0",
        ]
    );
    assert!(before.throttling_since(&before).is_empty());
}

#[test]
fn the_key_of_a_board_sees_its_power_mode_and_release_and_no_temperature() {
    let root = board("jetson-orin-nano");
    let key = |root: &Path| Fingerprint::read_from(root, 1).key();
    let first = key(root.path());
    write(root.path(), "sys/class/thermal/thermal_zone0/temp", "70000\n");
    write(root.path(), "sys/class/hwmon/hwmon3/oc3_event_cnt", "27999\n");
    write(root.path(), "sys/class/devfreq/17000000.gpu/cur_freq", "612000000\n");
    write(root.path(), "proc/swaps", "Filename Type Size Used Priority\n");
    assert_eq!(key(root.path()), first);
    for (path, content) in [
        ("var/lib/nvpmodel/status", "pmode:0001 fmode:fan_mode_quiet"),
        ("etc/nv_tegra_release", "# R36 (release), REVISION: 4.4, GCID: 1"),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq", "729600"),
        ("sys/devices/system/cpu/offline", "4-5"),
    ] {
        let root = board("jetson-orin-nano");
        write(root.path(), path, content);
        assert_ne!(key(root.path()), first, "{path}");
    }
}

/// What the identity of a plain machine was before settings were read, so that stored profiles stay usable.
#[test]
fn the_key_of_a_plain_machine_is_what_it_was() {
    let print = Fingerprint {
        board: "QEMU Standard PC".into(),
        arch: "x86_64".into(),
        cpu: "AMD EPYC".into(),
        cpu_features: vec!["avx2".into()],
        cores: 2,
        memory_bytes: Some(8 << 30),
        os: "Debian GNU/Linux 12 (bookworm)".into(),
        threads: 1,
        ..Fingerprint::default()
    };
    assert_eq!(print.key(), "b212726283b04ac6");
    let mut filled = print.clone();
    filled.settings.glibc = Some("2.36".into());
    filled.settings.container = Some("docker".into());
    filled.settings.swap_bytes = Some(1);
    filled.settings.clocks_locked = Some(false);
    filled.settings.boost = Some(true);
    assert_eq!(filled.key(), print.key());
}

#[test]
fn a_jetson_nano_in_its_5_watt_mode() {
    let root = board("jetson-nano");
    let print = Fingerprint::read_from(root.path(), 1);
    let set = &print.settings;
    assert_eq!((set.l4t.as_deref(), set.jetpack.as_deref()), (Some("32.7.1"), Some("4.6.1")));
    let mode = set.power_mode.as_ref().unwrap();
    assert_eq!((mode.number, mode.name.as_deref()), (1, Some("5W")));
    assert_eq!((set.fan_mode.as_deref(), set.clocks_locked), (None, Some(false)));
    assert_eq!(set.offline_cpus, [2, 3]);
    assert_eq!(set.glibc.as_deref(), Some("2.27"));
    assert_eq!(set.clusters[0].hardware_khz, Some(1_479_000));
    // The power chip's fixed 100 degrees are shown, and are not the board's temperature.
    assert_eq!(named(&print.state).last(), Some(&("PMIC-Die", 100.0, None)));
    assert_eq!(print.state.temperature_c, Some(40.5));
    assert!(print.state.throttling_since(&print.state).is_empty());
    assert_eq!(print.state.clocks.last().map(|c| (c.name.as_str(), c.khz)), Some(("memory", 1_600_000)));
    assert_eq!(print.state.fans[0].pwm, Some(80));

    let rails = Rails::find_in(root.path());
    assert_eq!(rails.names(), ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]);
    assert_eq!(rails.total(), Some("POM_5V_IN"));
    assert_eq!(rails.read()[2], Some(Reading::Milliwatts(494.0)));
}

#[test]
fn raspberry_pis() {
    let four = Fingerprint::read_from(board("pi4").path(), 4);
    assert_eq!(four.board, "Raspberry Pi 4 Model B Rev 1.4");
    let bits = four.state.raspberry_pi.unwrap();
    assert_eq!(bits, PiThrottle(0x50000));
    assert!(bits.now().is_empty());
    assert_eq!(bits.since_boot(), ["under-voltage", "throttled"]);
    assert_eq!(four.state.under_voltage, Some(false));
    assert_eq!(named(&four.state), [("cpu-thermal", 61.342, Some(80.0))]);
    assert_eq!(four.settings.swap_bytes, Some(102_396 * 1024));
    assert!(four.settings.l4t.is_none() && four.settings.power_mode.is_none());
    assert!(Rails::find_in(board("pi4").path()).is_empty());

    let root = board("pi5");
    let five = Fingerprint::read_from(root.path(), 4);
    assert_eq!((five.state.raspberry_pi, five.state.under_voltage), (None, Some(true)));
    assert_eq!(five.settings.isolated_cpus, [2, 3]);
    assert_eq!((five.state.fans[0].rpm, five.state.fans[0].pwm), (Some(3412), Some(125)));
    assert_eq!(five.state.throttling_since(&five.state), ["the board's supply voltage is too low"]);
    // The clock that the hardware has counts, where it may be read.
    let before = State::read_from(root.path());
    write(root.path(), "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_cur_freq", "1500000\n");
    write(root.path(), "sys/class/hwmon/hwmon3/in0_lcrit_alarm", "0\n");
    assert_eq!(
        State::read_from(root.path()).throttling_since(&before),
        ["the fastest cpu runs at 1500 MHz, 62 % of its maximum of 2400 MHz"]
    );
    // A kernel that does offer the file is read, too.
    write(root.path(), "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "4\n");
    let now = State::read_from(root.path());
    assert_eq!(now.raspberry_pi.map(PiThrottle::now), Some(vec!["throttled"]));
}

#[test]
fn a_laptop_in_a_container() {
    let root = board("laptop");
    let print = Fingerprint::read_from(root.path(), 1);
    let set = &print.settings;
    assert_eq!(set.container.as_deref(), Some("docker"));
    assert_eq!((set.boost, set.clocks_locked), (Some(false), Some(false)));
    assert_eq!(set.gpu_driver.as_deref(), Some("550.120"));
    assert_eq!(set.glibc.as_deref(), Some("2.39"));
    assert_eq!(set.gpu.as_ref().and_then(|gpu| gpu.max_khz), Some(1_400_000));
    assert_eq!(set.clusters.len(), 2);
    let counters: Vec<_> = print.state.counters.iter().map(|c| (c.name.as_str(), c.count)).collect();
    assert_eq!(
        counters,
        [("thermal throttle events of all cores", 7), ("thermal throttle events of the package", 7)]
    );
    assert_eq!(named(&print.state), [("x86_pkg_temp", 67.0, None)]);
    assert_eq!(print.state.cooling[0].name, "Processor (cooling_device0)");
    let rails = Rails::find_in(root.path());
    assert_eq!(rails.names(), ["package-0", "psys", "package-0/core"]);
    assert_eq!(rails.total(), Some("psys"));
    assert_eq!(rails.read()[0], Some(Reading::Microjoules(12_345_678_901)));
}

#[test]
fn a_phone() {
    let print = Fingerprint::read_from(board("phone").path(), 1);
    let android = print.settings.android.clone().unwrap();
    assert_eq!((android.release.as_deref(), android.sdk), (Some("14"), Some(34)));
    assert_eq!(
        (android.model.as_deref(), android.soc.as_deref()),
        (Some("samsung SM-S928B"), Some("SM8650"))
    );
    assert_eq!(print.settings.gpu.as_ref().and_then(|gpu| gpu.max_khz), Some(903_000));
    assert_eq!(print.state.cooling[0].level, 5);
}

#[test]
fn every_board_is_recognised_by_the_catalogue() {
    let catalogue = Catalogue::built_in();
    for (name, device) in [
        ("jetson-orin-nano", "jetson-orin-nano"),
        ("jetson-nano", "jetson-nano"),
        ("pi4", "pi4"),
        ("pi5", "pi5"),
        ("laptop", "laptop-i7-12700h"),
        ("phone", "snapdragon-8-gen-3"),
    ] {
        let print = Fingerprint::read_from(board(name).path(), 1);
        assert_eq!(catalogue.recognise_machine(&print).map(|d| d.name.as_str()), Some(device), "{name}");
    }
}

#[test]
fn a_board_is_held_against_the_catalogue() {
    let catalogue = Catalogue::built_in();
    let remarks = |device: &str, board_name: &str| -> Vec<String> {
        let mut print = Fingerprint::read_from(board(board_name).path(), 1);
        // Which processor this test runs on is not the board's.
        print.arch = "aarch64".into();
        let all = catalogue.device(device).unwrap().remarks(&print);
        assert!(all.iter().all(|remark| !remark.next.is_empty()));
        all.into_iter().map(|remark| remark.what).collect()
    };
    assert_eq!(
        remarks("jetson-orin-nano", "jetson-orin-nano"),
        [
            "JetPack 6.1 and 6.2 takes ONNX Runtime up to 1.23.2 (CUDA 12.6 and cuDNN 9.3; community builds reach 1.24)"
        ]
    );
    let nano = remarks("jetson-nano", "jetson-nano");
    assert_eq!(nano.len(), 3, "{nano:?}");
    assert!(nano[0].starts_with("JetPack 4.6 takes ONNX Runtime up to 1.11"), "{nano:?}");
    assert_eq!(nano[1], "the clocks may change while models are timed");
    assert_eq!(nano[2], "cores 2, 3 are switched off");
    // The wrong device: less memory, an older library and a release it never had.
    let wrong = remarks("jetson-agx-orin", "jetson-nano");
    assert!(
        wrong.iter().any(|what| what.contains("knows no ONNX Runtime for Jetson Linux 32.7.1")),
        "{wrong:?}"
    );
    assert!(
        wrong.iter().any(|what| what.contains("C library is 2.27") && what.contains("2.28")),
        "{wrong:?}"
    );
    assert!(wrong.iter().any(|what| what.contains("3.9 GiB") && what.contains("has 64")), "{wrong:?}");
    assert_eq!(remarks("pi4", "pi4"), Vec::<String>::new());
    assert_eq!(remarks("laptop-i7-12700h", "laptop").len(), 1, "the processor alone");
    assert!(catalogue.device("host").unwrap().remarks(&Fingerprint::read(1)).is_empty());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    /// Whatever stands in the files, reading them ends, and what cannot be understood is left out.
    #[test]
    fn no_content_of_a_file_breaks_the_readers(
        junk in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        number in proptest::prelude::any::<u64>(),
    ) {
        let root = board("jetson-orin-nano");
        let before = Fingerprint::read_from(root.path(), 1);
        for (place, path) in FILES.iter().enumerate() {
            let path = root.path().join(path);
            let content = if place % 2 == number as usize % 2 { junk.clone() } else { number.to_string().into_bytes() };
            std::fs::write(path, content).unwrap();
        }
        let after = Fingerprint::read_from(root.path(), 1);
        let said = after.state.throttling_since(&before.state);
        proptest::prop_assert!(said.iter().all(|line| !line.contains('\n')), "{said:?}");
        proptest::prop_assert!(after.settings.offline_cpus.len() <= 4096);
        after.key();
        after.line();
        Rails::find_in(root.path()).read();
        let text = serde_json::to_string(&after).unwrap();
        proptest::prop_assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), after);
    }
}

/// Files that are understood, not only shown.
const FILES: [&str; 15] = [
    "etc/nv_tegra_release",
    "etc/nvpmodel.conf",
    "var/lib/nvpmodel/status",
    "proc/swaps",
    "proc/meminfo",
    "proc/driver/nvidia/version",
    "lib/aarch64-linux-gnu/libc.so.6",
    "sys/devices/system/cpu/offline",
    "sys/devices/system/cpu/cpufreq/policy0/affected_cpus",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
    "sys/class/devfreq/17000000.gpu/cur_freq",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/trip_point_1_temp",
    "sys/class/hwmon/hwmon3/oc3_event_cnt",
    "sys/class/hwmon/hwmon1/curr1_input",
];

#[test]
fn files_full_of_nonsense_are_left_out() {
    let root = board("jetson-orin-nano");
    for path in [
        "etc/nv_tegra_release",
        "var/lib/nvpmodel/status",
        "proc/swaps",
        "proc/driver/nvidia/version",
        "lib/aarch64-linux-gnu/libc.so.6",
        "sys/devices/system/cpu/offline",
        "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
        "sys/class/thermal/thermal_zone0/temp",
        "sys/class/hwmon/hwmon3/oc3_event_cnt",
        "sys/class/hwmon/hwmon1/curr1_input",
    ] {
        for junk in ["", "\n", "nan", "# R (release), REVISION: x", "18446744073709551616", "\u{fffd}\0\u{1}"]
        {
            write(root.path(), path, junk);
        }
        std::fs::write(root.path().join(path), [0xff, 0xfe, 0x00, 0x80]).unwrap();
    }
    let print = Fingerprint::read_from(root.path(), 1);
    let set = &print.settings;
    assert_eq!((&set.l4t, &set.jetpack, &set.power_mode, &set.glibc), (&None, &None, &None, &None));
    assert_eq!((set.swap_bytes, set.gpu_driver.as_deref()), (None, None));
    assert_eq!(print.state.counters.len(), 2);
    assert_eq!(Rails::find_in(root.path()).names(), ["VDD_CPU_GPU_CV", "VDD_SOC"]);
}

#[test]
fn a_release_that_belongs_to_no_single_jetpack_is_not_guessed() {
    assert_eq!(jetpack("36.4.3"), Some("6.2"));
    assert_eq!(jetpack("36.9.9"), None);
    let root = board("jetson-orin-nano");
    write(root.path(), "etc/nv_tegra_release", "# R36 (release), REVISION: 9.9, GCID: 1");
    let set = Fingerprint::read_from(root.path(), 1).settings;
    assert_eq!((set.l4t.as_deref(), set.jetpack), (Some("36.9.9"), None));
}

#[test]
fn the_sampler_sums_what_the_sensors_say() {
    let root = board("jetson-orin-nano");
    let rails = Rails::find_in(root.path());
    assert!(Sampler::start(Rails::default(), RATE).is_none());
    assert!(Sampler::start(rails.clone(), 0.0).is_none());
    assert!(Sampler::start(rails.clone(), f64::NAN).is_none());

    let sampler = Sampler::start(rails, 200.0).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(120));
    write(root.path(), "sys/class/hwmon/hwmon1/curr1_input", "3712\n");
    std::thread::sleep(std::time::Duration::from_millis(120));
    let power = sampler.stop().unwrap();
    let total = power.total().unwrap();
    assert_eq!((total.name.as_str(), total.missed <= 1), ("VDD_IN", true));
    assert!(power.seconds >= 0.24 && total.samples >= 5, "{power:?}");
    // 9.31 W, then twice that.
    assert!(total.mean_mw > 9_310.0 * 1.05 && total.mean_mw < 18_620.0, "{total:?}");
    assert!(total.cv > 0.1, "{total:?}");
    assert!((total.joules - total.mean_mw / 1e3 * power.seconds).abs() < 1e-6);
    let steady = power.rail("VDD_SOC").unwrap();
    assert!(
        (steady.mean_mw - 5016.0 * 0.376).abs() < 1e-6 && steady.cv == 0.0 && !steady.total,
        "{steady:?}"
    );
}

#[test]
fn a_stopped_sampler_is_quick_even_at_a_slow_rate() {
    let sampler = Sampler::start(Rails::find_in(board("pi5").path()), RATE);
    assert!(sampler.is_none(), "a Raspberry Pi 5 has no sensor that a file shows");
    let root = board("jetson-nano");
    let start = std::time::Instant::now();
    let sampler = Sampler::start(Rails::find_in(root.path()), 0.01).unwrap();
    let power = sampler.stop().unwrap();
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(power.rails[0].samples, 2);
    // Dropping one ends its thread, too.
    drop(Sampler::start(Rails::find_in(root.path()), 0.01));
    assert!(start.elapsed() < std::time::Duration::from_secs(40));
}
