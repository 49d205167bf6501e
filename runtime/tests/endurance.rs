//! Ten thousand runs leave nothing behind. A test program of its own, because it watches the process.
#![cfg(feature = "wgpu")]

use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::session::{Adapters, Options, Session};
use masktas_runtime::{Dtype, Tensor};

/// What may come and go between two looks, in bytes: less than a kilobyte for a run.
const SLACK: u64 = 8 << 20;

/// Bytes of the process in main memory; `None` where the system does not tell.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<u64>().ok()? * 4096)
}

#[test]
fn ten_thousand_runs_do_not_grow() {
    if Adapters::list().is_empty() {
        let required = std::env::var("MASKTAS_REQUIRE_ENGINES").is_ok_and(|value| value == "1");
        assert!(!required, "MASKTAS_REQUIRE_ENGINES is 1, but there is no adapter; run `make setup`");
        eprintln!("skipped: no adapter; `make setup` installs a software driver");
        return;
    }
    let mut b = GraphBuilder::new("small", 20);
    b.input("x", Dtype::F32, [4.into()]);
    b.node("Add", "y", &["x", "x"], []);
    b.output("y", Dtype::F32, [4.into()]);
    let session = Session::load(&b.finish().unwrap(), &Options::default()).unwrap();
    let run = |from: usize, to: usize| {
        for i in from..to {
            let x = i as f32;
            let outputs = session.run(&[("x", Tensor::f32([4], vec![x, 1.0, -x, 0.5]).unwrap())]).unwrap();
            assert_eq!(outputs[0].1.as_f32().unwrap(), [2.0 * x, 2.0, -2.0 * x, 1.0]);
        }
    };
    run(0, 1_000);
    let before = resident();
    run(1_000, 11_000);
    if let (Some(before), Some(after)) = (before, resident()) {
        let grown = after.saturating_sub(before);
        assert!(grown <= SLACK, "10,000 runs grew the process by {grown} bytes, at most {SLACK} are allowed");
    } else {
        eprintln!("skipped: this system does not tell the size of a process");
    }
}
