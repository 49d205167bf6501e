//! An agent as a process, and everything that can happen to it: each ends in a clear error or a failed row, and nothing is lost.

#![cfg(unix)]

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{engine_here, file, graph, model, quick, vit};
use masktas_devices::{
    Address, BenchJob, Error, NamedModel, Outcome, ProfileJob, Protocol, Remote, RemoteOptions, Row, Summary,
    Transport, profile_models,
};
use masktas_runtime::{Dim, Dtype, Graph, GraphBuilder};

const AGENT: &str = env!("CARGO_BIN_EXE_masktas-agent");

/// Rounds that last long enough for something to happen between the first and the last.
fn long() -> Protocol {
    Protocol { max_rounds: 100_000, spread_s: 1.5, ..quick() }
}

fn job<'a>(models: &'a [NamedModel<'a>], reference: &'a [u8]) -> ProfileJob<'a> {
    let bench = BenchJob { gate: Some(engine_here().into()), ..BenchJob::new(engine_here(), &quick()) };
    ProfileJob { retries: 0, ..ProfileJob::new(models, reference, bench) }
}

fn models(count: usize) -> Vec<NamedModel<'static>> {
    (1..=count).map(|n| model(&format!("m{n}"), &graph(&vit(64, &vec![2; n]), 1))).collect()
}

fn reference() -> Vec<u8> {
    file(&graph(&vit(64, &[1]), 0))
}

/// An agent of this machine with its own folder, and more arguments.
fn agent(folder: &Path, more: &[&str]) -> Remote {
    let mut args: Vec<String> = vec!["--folder".into(), folder.display().to_string()];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    Remote::connect(&Address::Exec { program: AGENT.into(), args }, &RemoteOptions::default()).unwrap()
}

fn run(
    device: &mut dyn Transport,
    job: &ProfileJob<'_>,
    rows: &mut Vec<Row>,
) -> masktas_devices::Result<Summary> {
    profile_models(device, job, &mut |_| ControlFlow::Continue(()), &mut |row| {
        rows.push(row);
        Ok(())
    })
}

fn failure(rows: &[Row], id: &str) -> String {
    match &rows.iter().find(|row| row.id == id).unwrap().outcome {
        Outcome::Failed(text) => text.clone(),
        _ => panic!("{id} was measured"),
    }
}

/// Processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold blanks; what follows its bracket does not.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|other| parent(other) == Some(pid)).collect()
}

/// The agents that this test's thread started: other tests of this program have theirs.
fn agents_at(folder: &Path) -> Vec<u32> {
    let folder = folder.display().to_string();
    let ours = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&folder)
    };
    children(std::process::id()).into_iter().filter(ours).collect()
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn an_agent_measures_as_this_machine_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &[]);
    let (machine, engines) = device.machine(1).unwrap();
    assert_eq!(machine.key(), masktas_devices::Fingerprint::read(1).key());
    assert!(engines.iter().any(|engine| engine.name == "tract" && engine.version.is_some()));
    let (models, reference) = (models(4), reference());
    let mut rows = Vec::new();
    let summary = run(&mut device, &job(&models, &reference), &mut rows).unwrap();
    assert_eq!((summary.measured, summary.failed), (4, 0), "{rows:?}");
    let m = rows[0].measurement().unwrap();
    assert_eq!(m.protocol, Protocol { isolated: true, ..quick() }.hash());
    assert!(m.peak_bytes.unwrap() > 1 << 20 && m.gate.reference.contains("not optimised"));
    // The files of the models stay there, and are not sent again.
    let kept = || {
        let files = std::fs::read_dir(folder.path()).unwrap().flatten();
        files.filter(|file| file.path().extension().is_some_and(|end| end == "onnx")).count()
    };
    assert_eq!(kept(), 5);
    // A second conversation goes on in the same unit.
    let more: Vec<_> = (1..=5).map(|n| model(&format!("m{n}"), &graph(&vit(64, &vec![2; n]), 1))).collect();
    let mut device = agent(folder.path(), &[]);
    let summary = run(&mut device, &job(&more, &reference).resume(&rows.clone()), &mut rows).unwrap();
    assert_eq!((summary.measured, summary.skipped), (1, 4));
    assert_eq!(summary.calibration, rows[0].measurement().unwrap().calibration);
    assert_eq!(kept(), 6);
}

#[test]
fn parity_is_judged_on_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &[]);
    let graph = graph(&vit(64, &[2]), 1);
    let golden = common::golden(engine_here(), &graph);
    let parity = device.parity(&file(&graph), &golden, &[engine_here(), "tract"]).unwrap();
    assert_eq!(parity.rows.len(), 2);
    assert_eq!(parity.verdict, masktas_runtime::Verdict::Pass, "{parity:?}");
}

#[test]
fn a_killed_agent_is_started_again_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &[]);
    let (models, reference) = (models(6), reference());
    let mut slow_job = job(&models, &reference);
    slow_job.bench.protocol = long();
    let (mut rows, mut killed, mut told) = (Vec::new(), false, Vec::new());
    let summary = profile_models(
        &mut device,
        &slow_job,
        &mut |progress| {
            told.extend(progress.lost.clone());
            // In the middle of the second batch.
            if progress.done == 3 && progress.rounds == 1 && !killed {
                killed = true;
                for pid in agents_at(folder.path()) {
                    kill(pid);
                }
            }
            ControlFlow::Continue(())
        },
        &mut |row| {
            rows.push(row);
            Ok(())
        },
    )
    .unwrap();
    assert!(killed);
    assert_eq!(told.len(), 1, "a lost connection is told once: {told:?}");
    let text = told[0].to_string();
    assert!(text.contains("hung up") && text.contains("in 2 s (1 of 5)"), "{text}");
    assert_eq!((summary.measured, summary.failed), (6, 0));
    let ids: Vec<&str> = rows.iter().map(|row: &Row| row.id.as_str()).collect();
    assert_eq!(ids, ["m1", "m2", "m3", "m4", "m5", "m6"], "each model has one row");
    let unit = |row: &Row| row.measurement().unwrap().calibration.clone();
    assert!(rows.iter().all(|row| unit(row) == unit(&rows[0])), "all rows are in one unit");
}

#[test]
fn a_killed_worker_is_one_failed_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &[]);
    let (models, reference) = (models(3), reference());
    let mut slow_job = job(&models, &reference);
    slow_job.bench.protocol = long();
    let (mut rows, killed) = (Vec::new(), Cell::new(false));
    let summary = profile_models(
        &mut device,
        &slow_job,
        &mut |progress| {
            if progress.rounds == 1 && !killed.replace(true) {
                let [agent] = agents_at(folder.path())[..] else { panic!("one agent") };
                // The first is the reference network's, the last the last model's.
                let worker = children(agent).into_iter().max().unwrap();
                kill(worker);
            }
            ControlFlow::Continue(())
        },
        &mut |row| {
            rows.push(row);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((summary.measured, summary.failed), (2, 1));
    let text = failure(&rows, "m3");
    assert!(text.contains("`m3`") && text.contains("signal 9"), "{text}");
}

/// An ONNX file whose two nodes wait for each other.
fn with_a_cycle() -> Vec<u8> {
    use prost::Message;
    let file = file(&graph(&vit(64, &[1]), 0));
    let mut model = masktas_runtime::onnx::proto::ModelProto::decode(file.as_slice()).unwrap();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let last = nodes.last().unwrap().output[0].clone();
    nodes[0].input[0] = last;
    model.encode_to_vec()
}

/// A line of operators on a vector of `size` elements.
fn line(size: usize, ops: &[&str]) -> Graph {
    let mut builder = GraphBuilder::new("line", 20);
    let shape = || [Dim::Fixed(1), Dim::Fixed(size)];
    let mut value = builder.input("x", Dtype::F32, shape());
    for (i, op) in ops.iter().enumerate() {
        value = builder.node(op, &format!("v{i}"), &[&value], []);
    }
    builder.output(&value, Dtype::F32, shape());
    builder.finish().unwrap()
}

#[test]
fn bad_models_are_failed_rows_and_the_others_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &["--model-max", "1000000", "--memory-max", "600000000"]);
    let good = graph(&vit(64, &[2]), 1);
    let features = || good.features().unwrap();
    let models = [
        NamedModel::new("no-onnx", features(), b"#!/bin/sh\nreboot\n".to_vec()),
        model("good", &good),
        NamedModel::new("too-large", features(), vec![0; 1_000_001]),
        NamedModel::new("loop", features(), with_a_cycle()),
        // The square root of a negative number.
        model("no-number", &line(64, &["Sqrt"])),
        // A gigabyte a value.
        model("no-memory", &line(250_000_000, &["Relu", "Sqrt"])),
        model("also-good", &good),
    ];
    let mut rows = Vec::new();
    let summary = run(&mut device, &job(&models, &reference()), &mut rows).unwrap();
    assert_eq!((summary.measured, summary.failed), (2, 5), "{rows:?}");
    assert!(failure(&rows, "no-onnx").contains("ONNX"));
    let large = failure(&rows, "too-large");
    assert!(large.contains("1000001") && large.contains("1000000"), "both numbers: {large}");
    assert!(failure(&rows, "loop").contains("cycle"));
    assert!(failure(&rows, "no-number").contains("NaN"), "{}", failure(&rows, "no-number"));
    let memory = failure(&rows, "no-memory");
    assert!(memory.contains("memory") || memory.contains("alloc"), "{memory}");
}

#[test]
fn a_model_that_never_comes_back_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    // No time at all is too little for any model.
    let mut device = agent(folder.path(), &["--load-max", "0"]);
    let error = run(&mut device, &job(&models(1), &reference()), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("longer than 0 s to load"), "{error}");
}

#[test]
fn a_model_that_hangs_is_a_failed_row_and_is_tried_again_when_the_profile_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &["--round-max", "2"]);
    let (models, reference) = (models(3), reference());
    let mut job = job(&models, &reference);
    job.bench.protocol = long();
    let (mut rows, mut hung) = (Vec::new(), false);
    let summary = profile_models(
        &mut device,
        &job,
        &mut |progress| {
            if progress.rounds == 2 && !hung {
                hung = true;
                // The last of the processes is the last model's.
                let workers: Vec<u32> = agents_at(folder.path()).into_iter().flat_map(children).collect();
                assert_eq!(workers.len(), 4, "three models and the reference network");
                let last = workers.iter().max().unwrap().to_string();
                assert!(Command::new("kill").args(["-STOP", &last]).status().unwrap().success());
            }
            ControlFlow::Continue(())
        },
        &mut |row| {
            rows.push(row);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((summary.measured, summary.failed), (2, 1), "{rows:?}");
    let text = failure(&rows, "m3");
    assert!(text.contains("`m3`") && text.contains("longer than 2 s to run"), "{text}");

    // What failed may have been a passing evil; what was measured is not measured again.
    let again = job.resume(&rows);
    let mut more = Vec::new();
    let summary = run(&mut device, &again, &mut more).unwrap();
    assert_eq!((summary.measured, summary.failed, summary.skipped), (1, 0, 2));
    assert_eq!(more[0].id, "m3");
}

#[test]
fn a_stranger_gets_one_try() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Command::new(AGENT)
        .args(["--folder", &folder.path().display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe stays open: whoever says no hello must not keep the agent by asking.
    let mut input = agent.stdin.take().unwrap();
    input.write_all(b"{\"machine\":{\"threads\":1}}\n").unwrap();
    let mut answer = String::new();
    agent.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
    assert!(answer.contains("no hello"), "{answer}");
    assert!(!answer.contains("fingerprint"), "{answer}");
    assert!(agent.wait().unwrap().code().is_some());
    drop(input);
}

#[test]
fn hostile_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &[]);
    let (models, reference) = (models(1), reference());
    for protocol in [
        Protocol { resamples: usize::MAX, ..quick() },
        Protocol { min_rounds: usize::MAX, max_rounds: usize::MAX, ..quick() },
        Protocol { threads: 1 << 40, ..quick() },
    ] {
        let mut job = job(&models, &reference);
        job.bench.protocol = protocol;
        let error = run(&mut device, &job, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("must be at most"), "{error}");
    }
    assert!(device.fingerprint(1).is_ok(), "the conversation goes on");
}

#[test]
fn a_profile_that_filled_the_disk_goes_on_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut models, reference) = (models(2), reference());
    let largest = models.iter().map(|model| model.bytes().unwrap().len()).max().unwrap().max(reference.len());
    models.push(model("large", &graph(&vit(64, &[2; 5]), 1)));
    // Room for the small ones, in the shell's blocks of 512 bytes; each file counts by itself.
    let (blocks, large) = (largest.div_ceil(512), models[2].bytes().unwrap().len());
    assert!(large > blocks * 512);
    let script =
        format!("trap '' XFSZ; ulimit -f {blocks}; exec {AGENT} --folder {}", folder.path().display());
    let address = Address::Exec { program: "sh".into(), args: vec!["-c".into(), script] };
    let mut device = Remote::connect(&address, &RemoteOptions::default()).unwrap();
    let job = job(&models, &reference);
    let mut rows = Vec::new();
    let summary = run(&mut device, &job, &mut rows).unwrap();
    assert_eq!((summary.measured, summary.failed), (2, 1), "{rows:?}");
    assert!(failure(&rows, "large").contains(&folder.path().display().to_string()), "{rows:?}");
    drop(device);

    let mut more = Vec::new();
    let summary = run(&mut agent(folder.path(), &[]), &job.resume(&rows), &mut more).unwrap();
    assert_eq!((summary.measured, summary.failed, summary.skipped), (1, 0, 2));
    assert_eq!(more[0].id, "large");
}

#[test]
fn a_full_disk_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Files may have one block at most, so that writing a model fails as on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f 1; exec {AGENT} --folder {}", folder.path().display());
    let address = Address::Exec { program: "sh".into(), args: vec!["-c".into(), script] };
    let mut device = Remote::connect(&address, &RemoteOptions::default()).unwrap();
    // A model of several parts: the agent refuses it at the first and is sent the others all the same.
    let large = file(&graph(&vit(256, &[4; 6]), 0));
    assert!(large.len() > 3 * masktas_devices::agent::PART);
    let error = run(&mut device, &job(&models(1), &large), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()) && error.contains("large"), "{error}");
    assert!(device.fingerprint(1).is_ok(), "the conversation goes on");
}

#[test]
fn another_version_is_refused_by_either_side() {
    let script = r#"read line; echo '{"hello":{"protocol":99,"version":"9.9.9"}}'; cat > /dev/null"#;
    let address = Address::Exec { program: "sh".into(), args: vec!["-c".into(), script.into()] };
    let error = Remote::connect(&address, &RemoteOptions::default()).err().unwrap();
    assert!(matches!(error, Error::Refused { .. }));
    let text = error.to_string();
    assert!(text.contains("9.9.9") && text.contains("99") && text.contains("same version"), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let answer = |line: &str| {
        let mut agent = Command::new(AGENT)
            .args(["--folder", &folder.path().display().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        agent.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut text = String::new();
        agent.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        agent.wait().unwrap();
        text
    };
    let text = answer(r#"{"hello":{"protocol":99,"version":"9.9.9","token":null}}"#);
    assert!(text.contains("failed") && text.contains("protocol 99"), "{text}");
    let text = answer(r#"{"machine":{"threads":1}}"#);
    assert!(text.contains("no hello"), "{text}");
    let text = answer("GET / HTTP/1.1");
    assert!(text.contains("cannot be understood") && text.contains("GET /"), "{text}");
}

#[test]
fn a_program_that_is_no_agent_gives_its_last_words() {
    let script = "echo 'no space left on device' >&2; exit 3";
    let address = Address::Exec { program: "sh".into(), args: vec!["-c".into(), script.into()] };
    let text = Remote::connect(&address, &RemoteOptions::default()).err().unwrap().to_string();
    assert!(text.starts_with("cannot connect to exec:sh: it hung up"), "{text}");
    assert!(text.contains("no space left on device"), "{text}");
    let address = Address::Exec { program: "/nowhere/agent".into(), args: Vec::new() };
    let text = Remote::connect(&address, &RemoteOptions::default()).err().unwrap().to_string();
    assert!(text.starts_with("cannot connect to exec:/nowhere/agent"), "{text}");
}

#[test]
fn another_program_than_an_agent_is_named() {
    let options = |agent: &str| RemoteOptions { agent: Some(agent.into()), ..RemoteOptions::default() };
    let error = Remote::connect(&Address::Local, &options("/bin/pwd")).err().unwrap();
    assert!(matches!(error, Error::NoAgent { .. }) && error.given(), "{error}");
    let text = error.to_string();
    assert!(text.contains("/bin/pwd is no masktas-agent") && text.contains("in `/"), "{text}");
    // One that says nothing.
    let error = Remote::connect(&Address::Local, &options("/bin/true")).err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("see that /bin/true is a masktas-agent"), "{error}");
}

#[test]
fn this_machines_agent_is_the_one_that_was_built() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(std::env::consts::ARCH);
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::symlink(AGENT, own.join("masktas-agent")).unwrap();
    let options = RemoteOptions { folders: vec![folder.path().to_owned()], ..RemoteOptions::default() };
    assert!(Remote::connect(&Address::Local, &options).unwrap().fingerprint(1).is_ok());
}

#[test]
fn a_port_that_nobody_listens_at_was_never_connected() {
    // Bound and given back: nobody listens there.
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = connect(&format!("tcp://token@{at}#{}", "0".repeat(64))).err().unwrap().to_string();
    assert!(text.starts_with(&format!("cannot connect to tcp://{at}: ")), "{text}");
    assert!(text.contains("masktas-agent --listen") && !text.contains("lost"), "{text}");
}

/// A listening agent, and the address that it printed.
struct Listening {
    agent: Child,
    address: String,
}

impl Listening {
    fn start(folder: &Path) -> Self {
        let mut agent = Command::new(AGENT)
            .args(["--listen", "127.0.0.1:0", "--folder", &folder.display().to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(agent.stdout.take().unwrap());
        let mut address = String::new();
        std::io::BufRead::read_line(&mut output, &mut address).unwrap();
        Self { agent, address: address.trim().to_owned() }
    }

    fn at(&self) -> &str {
        let rest = self.address.split_once('@').unwrap().1;
        rest.split_once('#').unwrap().0
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn connect(address: &str) -> masktas_devices::Result<Remote> {
    Remote::connect(&Address::parse(address)?, &RemoteOptions::default())
}

#[test]
fn a_listening_agent_wants_its_token_and_is_known_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let listening = Listening::start(folder.path());
    let (token, rest) = listening.address.strip_prefix("tcp://").unwrap().split_once('@').unwrap();
    let (at, pin) = rest.split_once('#').unwrap();
    let wrong_token = connect(&format!("tcp://{}@{at}#{pin}", "0".repeat(32))).err().unwrap();
    assert!(wrong_token.to_string().contains("the token is wrong"), "{wrong_token}");
    assert!(!wrong_token.to_string().contains(token), "no secret is told");
    let wrong_pin = connect(&format!("tcp://{token}@{at}#{}", "0".repeat(64))).err().unwrap();
    assert!(matches!(wrong_pin, Error::Refused { .. }), "{wrong_pin}");
    assert!(wrong_pin.to_string().contains("certificate"), "{wrong_pin}");
    // A client that speaks no TLS gets nothing, and does not keep the next one out.
    let mut stranger = TcpStream::connect(at).unwrap();
    stranger.write_all(b"{\"hello\":{}}\n").unwrap();
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer);
    assert!(!answer.contains(&b'{'));
    let mut device = connect(&listening.address).unwrap();
    let mut rows = Vec::new();
    let summary = run(&mut device, &job(&models(2), &reference()), &mut rows).unwrap();
    assert_eq!((summary.measured, summary.failed), (2, 0));
    drop(device);
    // The address stays right over a restart.
    let address = listening.address.clone();
    drop(listening);
    let again = Listening::start(folder.path());
    let secret = |address: &str| {
        let (token, rest) = address.split_once('@').unwrap();
        (token.to_owned(), rest.split_once('#').unwrap().1.to_owned())
    };
    assert_eq!(secret(&again.address), secret(&address));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let key = std::fs::metadata(folder.path().join("secrets/key.der")).unwrap();
        assert_eq!(key.permissions().mode() & 0o077, 0, "others cannot read the key");
    }
}

/// Passes bytes on between a client and the agent, and cuts the wire when it is told to.
fn wire(to: String, cut: Arc<AtomicBool>, connections: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            connections.fetch_add(1, Ordering::SeqCst);
            let server = TcpStream::connect(&to).unwrap();
            for (mut from, mut into) in
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
            {
                let cut = Arc::clone(&cut);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = from.read(&mut buffer) {
                        if cut.swap(false, Ordering::SeqCst) || into.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = into.shutdown(Shutdown::Both);
                });
            }
        }
    });
    at
}

#[test]
fn a_cut_connection_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let listening = Listening::start(folder.path());
    let (cut, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let at = wire(listening.at().to_owned(), Arc::clone(&cut), Arc::clone(&connections));
    let mut device = connect(&listening.address.replace(listening.at(), &at)).unwrap();
    let (models, reference) = (models(5), reference());
    let mut slow_job = job(&models, &reference);
    slow_job.bench.protocol = long();
    let rows = RefCell::new(Vec::new());
    let mut done = false;
    let summary = profile_models(
        &mut device,
        &slow_job,
        &mut |progress| {
            if progress.done == 3 && progress.rounds == 1 && !done {
                done = true;
                cut.store(true, Ordering::SeqCst);
            }
            ControlFlow::Continue(())
        },
        &mut |row| {
            rows.borrow_mut().push(row);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((summary.measured, summary.failed), (5, 0));
    assert!(connections.load(Ordering::SeqCst) >= 2, "it was cut");
    assert_eq!(rows.into_inner().len(), 5);
}

#[test]
fn a_device_that_stays_away_is_an_error_that_keeps_what_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let mut listening = Some(Listening::start(folder.path()));
    let mut device = connect(&listening.as_ref().unwrap().address).unwrap();
    let (models, reference) = (models(5), reference());
    let mut rows = Vec::new();
    let mut away = 0;
    let error = profile_models(
        &mut device,
        &job(&models, &reference),
        &mut |progress| {
            if progress.done == 3 {
                listening = None;
                away += 1;
            }
            // The waits between the tries grow; somebody who has seen enough stops them.
            if away > 12 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        &mut |row| {
            rows.push(row);
            Ok(())
        },
    )
    .unwrap_err();
    assert!(matches!(error, Error::Interrupted { done: 3, total: 5 } | Error::Lost { .. }), "{error}");
    assert_eq!(rows.len(), 3);
}

#[test]
fn a_batch_is_stopped_between_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), &[]);
    let (models, reference) = (models(3), reference());
    let mut job = job(&models, &reference);
    job.bench.protocol = Protocol { max_rounds: 100_000, spread_s: 3000.0, ..quick() };
    let error = profile_models(
        &mut device,
        &job,
        &mut |progress| if progress.rounds >= 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) },
        &mut |_| Ok(()),
    );
    assert!(matches!(error, Err(Error::Interrupted { done: 0, total: 3 })));
    assert!(device.fingerprint(1).is_ok(), "the agent is there for the next request");
}
