//! The agent that runs on a device: it takes ONNX files, measures them, and tells the results.
//!
//! Without options it speaks on its standard input and output with the program that started it, over `ssh`, `adb shell` or
//! `docker exec`. With `--listen` it waits for clients.

// It is a program, and prints.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use lexopt::prelude::*;
use masktas_devices::agent::{AgentOptions, Listener, Secrets, serve};
use masktas_devices::{EngineOptions, Limits, WorkerCommand, wire, worker};

const HELP: &str = "\
Measures ONNX models on this device for a masktas program elsewhere.

Usage: masktas-agent [OPTIONS]

Without --listen it speaks on standard input and output with the program that started it.

Options:
      --listen ADDRESS     Wait for clients at this address, over TLS, with a token; say 127.0.0.1:7171
      --folder DIR         Keep models, certificate and token here [default: ~/.cache/masktas/agent]
      --ort-lib FILE       ONNX Runtime's shared library [default: beside this program, then ~/.cache/masktas/ort]
      --adapter NAME       Part of the name of the GPU adapter
      --model-max BYTES    Most bytes of one model [default: 1073741824]
      --total-max BYTES    Most bytes of all models that are kept [default: 1073741824]
      --memory-max BYTES   Most memory that one measured model may allocate [default: three quarters of the device's]
      --load-max SECONDS   Longest time to load and warm up one model [default: 600]
      --round-max SECONDS  Longest time for the runs of one round [default: 300]
      --launcher COMMAND   Start the processes that run models with this command, as an emulator needs
  -h, --help               Print this help
  -V, --version            Print the version
";

/// What the command line says.
struct Told {
    listen: Option<SocketAddr>,
    launcher: Vec<String>,
    limits: Limits,
    options: AgentOptions,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("masktas-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // The process that runs one model: not for people.
    if std::env::args_os().nth(1).is_some_and(|first| first == worker::ARGUMENT) {
        worker::serve(std::io::stdin(), &mut wire::own_stdout()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(mut told) = command_line().map_err(|error| format!("{error}; see masktas-agent --help"))? else {
        return Ok(ExitCode::SUCCESS);
    };
    let own = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut words = told.launcher.into_iter().chain([own, worker::ARGUMENT.to_owned()]);
    let program = words.next().ok_or("there is no program to start")?.into();
    told.options.engines.worker = Some(WorkerCommand { program, args: words.collect(), limits: told.limits });
    match told.listen {
        None => serve(&told.options, std::io::stdin(), wire::own_stdout()?)?,
        Some(address) => {
            let folder = told.options.folder.join("secrets");
            let listener = Listener::bind(address, &Secrets::open(&folder)?, &folder)?;
            eprintln!("masktas-agent {} listens; connect with:", env!("CARGO_PKG_VERSION"));
            println!("{}", listener.address());
            listener.serve(&told.options, &mut |line| eprintln!("{line}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `None`: what was asked for is printed already.
fn command_line() -> Result<Option<Told>, lexopt::Error> {
    let mut told = Told {
        listen: None,
        launcher: Vec::new(),
        limits: Limits { memory_bytes: memory().map(|bytes| bytes / 4 * 3), ..Limits::default() },
        options: AgentOptions {
            folder: folder(),
            model_max: 1 << 30,
            total_max: 1 << 30,
            engines: EngineOptions::default(),
            token: None,
        },
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => told.listen = Some(parser.value()?.parse()?),
            Long("folder") => told.options.folder = parser.value()?.into(),
            Long("ort-lib") => told.options.engines.ort_lib = Some(parser.value()?.into()),
            Long("adapter") => told.options.engines.adapter = Some(parser.value()?.string()?),
            Long("model-max") => told.options.model_max = parser.value()?.parse()?,
            Long("total-max") => told.options.total_max = parser.value()?.parse()?,
            Long("memory-max") => told.limits.memory_bytes = Some(parser.value()?.parse()?),
            Long("load-max") => told.limits.load_s = parser.value()?.parse()?,
            Long("round-max") => told.limits.round_s = parser.value()?.parse()?,
            Long("launcher") => {
                told.launcher = parser.value()?.string()?.split_whitespace().map(str::to_owned).collect();
            }
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Short('V') | Long("version") => {
                println!("masktas-agent {}", env!("CARGO_PKG_VERSION"));
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(told))
}

/// Memory of this device, in bytes.
fn memory() -> Option<u64> {
    masktas_devices::Fingerprint::read(1).memory_bytes
}

fn folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("masktas").join("agent")
}
