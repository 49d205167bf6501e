//! The built-in catalogue and a person's own devices.

use std::collections::BTreeSet;
use std::path::Path;

use masktas_devices::catalogue::{Catalogue, Confidence, NewDevice, add};
use masktas_devices::{Error, device, devices, engines};

#[test]
fn every_file_of_the_folder_is_built_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    let files: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    // Each file is named after its device.
    let built_in: BTreeSet<String> =
        devices().into_iter().map(|device| format!("{}.toml", device.name)).collect();
    assert_eq!(files, built_in);
    // Without the built-in table the program would have none of them: an empty list is an error of a file.
    Catalogue::with_folder(Path::new("/nowhere/at/all")).unwrap();
}

#[test]
fn the_devices_that_people_name_are_there() {
    for name in [
        "jetson-nano",
        "jetson-tx2",
        "jetson-xavier-nx",
        "jetson-orin-nano",
        "jetson-orin-nx",
        "jetson-agx-orin",
        "pi4",
        "pi5",
        "coral-host",
        "snapdragon-8-gen-2",
        "snapdragon-8-gen-3",
        "iphone-a14",
        "iphone-a17",
        "apple-m1",
        "apple-m4",
        "intel-n100",
        "laptop-i7-12700h",
        "host",
        "qemu-aarch64",
    ] {
        assert_eq!(device(name).unwrap().name, name);
    }
    assert_eq!(device("raspberry-pi-5").unwrap().name, "pi5");
    assert_eq!(device("Jetson-Orin-NANO").unwrap().name, "jetson-orin-nano");
    let host = device("host").unwrap();
    assert_eq!((host.transport.as_str(), host.engines.len()), ("local", engines().len()));
    assert!(host.rows().is_empty(), "nothing is assumed of this machine");
}

#[test]
fn every_value_has_a_source_that_is_used_and_a_date() {
    for device in devices() {
        let rows = device.rows();
        let said: BTreeSet<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        for (key, source) in &device.sources {
            let used = said.iter().any(|text| text.starts_with(&source.text));
            assert!(used, "{}: nothing has the source `{key}`", device.name);
            if source.confidence == Confidence::Unverified {
                let frank = ["not read", "practice", "usual size", "user's report"];
                assert!(frank.iter().any(|word| source.text.contains(word)), "{} {key}", device.name);
            }
        }
        let facts = toml_facts(&device.name);
        assert_eq!(rows.len(), facts, "{}: rows show all of the file's values", device.name);
        for row in &rows {
            assert!(row.date.len() == 7 && !row.value.is_empty() && !row.source.is_empty(), "{row:?}");
        }
    }
}

/// How many values with a source a file has, counted in its text.
fn toml_facts(name: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("catalogue/{name}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).filter(|line| line.contains("source = \"")).count()
}

#[test]
fn no_two_devices_share_a_name_and_every_board_is_one_device() {
    let catalogue = Catalogue::built_in();
    let mut names = BTreeSet::new();
    for device in catalogue.devices() {
        for name in device.names() {
            assert!(names.insert(name.to_owned()), "{name}");
        }
        for model in &device.models {
            let found = catalogue.recognise(model, "unknown").unwrap();
            assert_eq!(found.name, device.name, "{model}");
        }
    }
    for (board, cpu, expected) in [
        ("NVIDIA Jetson Orin Nano Developer Kit", "unknown", Some("jetson-orin-nano")),
        ("NVIDIA Orin Nano Developer Kit", "unknown", Some("jetson-orin-nano")),
        ("NVIDIA Jetson Nano 2GB Developer Kit", "unknown", Some("jetson-nano")),
        ("NVIDIA Jetson AGX Orin Developer Kit", "unknown", Some("jetson-agx-orin")),
        ("NVIDIA Jetson Xavier NX Developer Kit", "unknown", Some("jetson-xavier-nx")),
        ("NVIDIA Jetson TX2 Developer Kit", "unknown", Some("jetson-tx2")),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "unknown", Some("jetson-orin-nx")),
        ("NVIDIA Jetson AGX Xavier", "unknown", None),
        ("Raspberry Pi 400 Rev 1.0", "unknown", Some("pi4")),
        ("Raspberry Pi Compute Module 5 Rev 1.0", "unknown", Some("pi5")),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "unknown", None),
        ("unknown", "Intel(R) N100", Some("intel-n100")),
        ("ASUS X", "12th Gen Intel(R) Core(TM) i7-12700H", Some("laptop-i7-12700h")),
        ("unknown", "unknown", None),
        ("", "", None),
    ] {
        assert_eq!(catalogue.recognise(board, cpu).map(|d| d.name.as_str()), expected, "{board} {cpu}");
    }
}

#[test]
fn a_jetpack_has_its_newest_onnx_runtime() {
    let orin = device("jetson-orin-nano").unwrap();
    let of = |l4t: &str| orin.runtime_for(l4t).map(|row| row.onnxruntime.value.as_str());
    assert_eq!(of("35.4.1"), Some("1.18.1"));
    assert_eq!(of("36.3.0"), Some("1.22.2"));
    assert_eq!(of("36.4.3"), Some("1.23.2"));
    assert_eq!(of("36.40.1"), None, "36.40 is not a revision of 36.4");
    assert_eq!(of("32.7.1"), None);
    assert_eq!(device("jetson-nano").unwrap().runtime_for("32.7.1").unwrap().onnxruntime.value, "1.11.0");
}

#[test]
fn a_device_that_is_not_there_is_refused_with_the_closest_name() {
    let error = device("jetson-orin-nanp").unwrap_err().to_string();
    assert!(
        error.contains("did you mean `jetson-orin-nano`?") && error.contains("masktas devices list"),
        "{error}"
    );
    let error = device("jetson").unwrap_err();
    assert!(matches!(error, Error::WhichDevice { .. }), "a family is no device");
    let text = error.to_string();
    assert!(
        text.contains("jetson-nano") && text.contains("jetson-agx-orin") && !text.contains("did you"),
        "{text}"
    );
    assert_eq!(device("edge-tpu").unwrap().name, "coral-host", "the only one of its family");
}

fn new(name: &str) -> NewDevice {
    NewDevice {
        name: name.into(),
        description: "camera on the conveyor".into(),
        family: Some("boards".into()),
        architecture: "aarch64".into(),
        transport: "ssh".into(),
        engines: vec!["tract".into()],
        models: vec!["Rockchip RK3588".into()],
        memory: Some((8 << 30, 34.1)),
        source: Some("the maker's sheet".into()),
        date: Some("2026-11".into()),
        ..NewDevice::default()
    }
}

#[test]
fn a_device_that_was_added_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("deep").join("devices");
    let path = add(&folder, &new("line-camera"), false).unwrap();
    assert_eq!(path, folder.join("line-camera.toml"));
    let catalogue = Catalogue::with_folder(&folder).unwrap();
    let found = catalogue.device("line-camera").unwrap();
    assert_eq!(found.file.as_deref(), Some(path.as_path()));
    assert_eq!(found.rows().len(), 2);
    assert_eq!(found.rows()[1].source, "the maker's sheet");
    assert_eq!(
        catalogue.recognise("Rockchip RK3588 EVB", "unknown").map(|d| d.name.as_str()),
        Some("line-camera")
    );
    assert_eq!(catalogue.devices().len(), devices().len() + 1);
    // JSON, as `show --json` gives it.
    let json = serde_json::to_value(found).unwrap();
    assert_eq!(json["memory"]["bandwidth"]["value"], 34.1);

    let error = add(&folder, &new("line-camera"), false).unwrap_err();
    assert!(matches!(error, Error::DeviceExists { .. }) && error.to_string().contains("replace"), "{error}");
    let text = std::fs::read_to_string(&path).unwrap();
    add(&folder, &NewDevice { description: "another".into(), ..new("line-camera") }, true).unwrap();
    assert_ne!(std::fs::read_to_string(&path).unwrap(), text);
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["line-camera.toml"], "nothing half-written is left");
}

#[test]
fn a_device_that_does_not_fit_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (NewDevice { name: "../escape".into(), ..new("x") }, "small letters"),
        (NewDevice { name: "pi5".into(), ..new("x") }, "belongs to the device `pi5`"),
        (NewDevice { name: "orin-nano".into(), ..new("x") }, "belongs to the device `jetson-orin-nano`"),
        (NewDevice { name: "jetson".into(), ..new("x") }, "is a family"),
        (NewDevice { family: Some("pi5".into()), ..new("x") }, "the family `pi5`"),
        (NewDevice { transport: "pigeon".into(), ..new("x") }, "no transport `pigeon`"),
        (NewDevice { engines: vec!["onnx".into()], ..new("x") }, "no engine `onnx`"),
        (NewDevice { source: None, ..new("x") }, "source is missing"),
        (NewDevice { date: None, ..new("x") }, "date (YYYY-MM) is missing"),
        (NewDevice { date: Some("today".into()), ..new("x") }, "YYYY-MM is expected"),
        (NewDevice { memory: Some((1, 0.0)), ..new("x") }, "a number above 0"),
    ];
    for (device, expected) in cases {
        let error = add(folder.path(), &device, true).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_broken_file_of_a_person_is_named_and_never_hides_built_in_devices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "name = \"mine\"\ncolour = \"red\"\n").unwrap();
    let error = Catalogue::with_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("mine.toml") && error.contains("line 2") && error.contains("colour"), "{error}");
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let error = Catalogue::with_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("1048577 bytes") && error.contains("1048576"), "{error}");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Catalogue::with_folder(folder.path()).is_err());
    std::fs::write(folder.path().join("notes.txt"), "not a device").unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(Catalogue::with_folder(folder.path()).unwrap(), Catalogue::built_in());
    assert_eq!(device("pi5").unwrap().name, "pi5");
}

/// The page about devices names every built-in device, and its example is a file that is read.
#[test]
fn the_page_about_devices_is_right() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/devices.md");
    let page = std::fs::read_to_string(page).unwrap();
    for device in devices() {
        // Neighbours are written as a range.
        let between = ["iphone-a15", "iphone-a16", "apple-m2", "apple-m3"].contains(&device.name.as_str());
        assert!(between || page.contains(&format!("`{}`", device.name)), "{}", device.name);
        assert!(page.contains(&format!("`{}`", device.family)), "{}", device.family);
    }
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("line-camera.toml"), example).unwrap();
    let catalogue = Catalogue::with_folder(folder.path()).unwrap();
    let camera = catalogue.device("line-camera").unwrap();
    assert_eq!(camera.rows().len(), 6);
    assert!(camera.cpu.is_some() && camera.memory.is_some());
}
