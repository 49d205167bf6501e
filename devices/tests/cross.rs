//! The agents that `make agent` built for boards: which C library they need, and whether they work under an emulator.
//! `make test-agent` builds them and says where they are; without that these tests are skipped, and say so.

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{file, graph, here, vit};
use masktas_devices::{
    Address, BenchJob, NamedModel, ProfileJob, Protocol, Remote, RemoteOptions, Row, Transport,
    profile_models,
};

/// Newest glibc that JetPack 4.6 has.
const GLIBC: (u32, u32) = (2, 27);

/// The agent for a processor, beside the library that it finds by itself.
fn agent(processor: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("MASKTAS_AGENTS") else {
        eprintln!(
            "skipped: set MASKTAS_AGENTS to the folder that `make agent` fills, or run `make test-agent`"
        );
        return None;
    };
    let path = Path::new(&folder).join(processor).join("masktas-agent");
    assert!(path.is_file(), "{} is missing; run `make agent PROCESSOR={processor}`", path.display());
    Some(path)
}

/// The versions of glibc whose symbols a program needs: they are texts such as `GLIBC_2.17` in it.
fn versions(program: &Path) -> Vec<(u32, u32)> {
    let bytes = std::fs::read(program).unwrap();
    let mut versions: Vec<(u32, u32)> = bytes
        .windows(6)
        .enumerate()
        .filter(|(_, window)| window == b"GLIBC_")
        .filter_map(|(at, _)| {
            let text: String = bytes[at + 6..]
                .iter()
                .take(8)
                .map(|byte| *byte as char)
                .take_while(|c| c.is_ascii_digit() || *c == '.')
                .collect();
            let mut numbers = text.split('.').map(|number| number.parse::<u32>().ok());
            Some((numbers.next()??, numbers.next()??))
        })
        .collect();
    versions.sort();
    versions.dedup();
    versions
}

#[test]
fn agents_start_on_the_oldest_jetpack() {
    for processor in ["x86_64", "aarch64"] {
        let Some(agent) = agent(processor) else { return };
        let versions = versions(&agent);
        let newest = *versions.last().expect("a dynamic program names the versions that it needs");
        eprintln!("{processor}: needs glibc {}.{}", newest.0, newest.1);
        assert!(
            newest <= GLIBC,
            "{processor}: needs glibc {newest:?}, and JetPack 4.6 has {GLIBC:?}: {versions:?}"
        );
    }
}

#[test]
fn the_search_for_versions_finds_them() {
    // This test itself was linked on a machine of today.
    let own = versions(&std::env::current_exe().unwrap());
    assert!(own.iter().any(|version| *version > (2, 2)), "{own:?}");
}

/// Measures two models, and judges a third by its golden pair, on an emulated aarch64. Its times mean nothing.
#[test]
fn an_emulated_board_measures() {
    let Some(agent) = agent("aarch64") else { return };
    let emulator = std::env::var("MASKTAS_QEMU").unwrap_or_else(|_| "qemu-aarch64".into());
    let system = std::env::var("MASKTAS_QEMU_SYSTEM").unwrap_or_else(|_| "/usr/aarch64-linux-gnu".into());
    let folder = tempfile::tempdir().unwrap();
    let launcher = format!("{emulator} -L {system}");
    let mut args = vec!["-L".to_owned(), system.clone(), agent.display().to_string()];
    args.extend(["--folder".into(), folder.path().display().to_string(), "--launcher".into(), launcher]);
    // Named, because this test's own library may be named in the environment, which the agent inherits.
    let beside = std::fs::read_dir(agent.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
    let mut libraries = beside.filter(|path| path.to_string_lossy().contains("libonnxruntime.so"));
    let library = libraries.next().expect("`make agent` puts ONNX Runtime beside the agent");
    args.extend(["--ort-lib".into(), library.display().to_string()]);
    let address = Address::Exec { program: emulator.into(), args };
    let mut device = Remote::connect(&address, &RemoteOptions::default()).unwrap();
    let (machine, engines) = device.machine(1).unwrap();
    eprintln!("{} {:?}", machine.line(), engines);
    assert_eq!(machine.arch, "aarch64");
    let protocol = Protocol {
        runs: 1,
        min_rounds: 2,
        max_rounds: 2,
        min_warm_ups: 1,
        max_warm_ups: 1,
        spread_s: 0.0,
        calibration_s: 0.0,
        ..Protocol::default()
    };
    let graphs = [graph(&vit(64, &[1]), 1), graph(&vit(64, &[2, 2]), 1)];
    let models: Vec<NamedModel<'_>> = graphs
        .iter()
        .enumerate()
        .map(|(i, graph)| NamedModel::new(&format!("m{i}"), graph.features().unwrap(), file(graph)))
        .collect();
    let reference = file(&graph(&vit(64, &[1]), 0));
    for engine in ["ort", "tract"] {
        let bench = BenchJob { gate: Some(engine.into()), ..BenchJob::new(engine, &protocol) };
        let job = ProfileJob { retries: 0, ..ProfileJob::new(&models, &reference, bench) };
        let mut rows: Vec<Row> = Vec::new();
        let summary = profile_models(&mut device, &job, &mut |_| ControlFlow::Continue(()), &mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
        assert_eq!((summary.measured, summary.failed), (2, 0), "{engine}: {rows:?}");
        let m = rows[0].measurement().unwrap();
        assert_eq!(m.fingerprint.arch, "aarch64");
        assert!(m.ms > 0.0 && m.peak_bytes.is_some());
    }
    assert!(here("tract"), "it needs no library");
    let golden = common::golden("tract", &graphs[1]);
    let parity = device.parity(&file(&graphs[1]), &golden, &["ort", "tract"]).unwrap();
    assert_eq!(parity.verdict, masktas_runtime::Verdict::Pass, "{parity:?}");
}
