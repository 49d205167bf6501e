//! One conversation with a client.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::message::{ALIVE_S, EngineState, PROTOCOL, Reply, Request, WireGolden, WireSubject};
use super::store::Store;
use crate::engine::{EngineOptions, engine, engines};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::measure::{Bench, BenchJob, Golden, Measure, Subject};
use crate::parity::parity_apart;
use crate::sustained::{Window, sustain};
use crate::trace::trace;
use crate::wire::{Heard, Lines, send};

/// What an agent may do.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Folder for models.
    pub folder: PathBuf,
    /// Most bytes of one model.
    pub model_max: u64,
    /// Most bytes of all models that are kept.
    pub total_max: u64,
    /// What the engines need to start; with a worker command, each model is measured in a process of its own.
    pub engines: EngineOptions,
    /// The secret that a client must know.
    pub token: Option<String>,
}

/// Seconds without a request after which a conversation is over: a client asks when it has something to do, and comes back
/// otherwise.
const IDLE_S: u64 = 5 * 60;

/// Seconds that a client has to say hello. A listening agent serves one client at a time, so one that says nothing must not
/// keep the others out.
const HELLO_S: u64 = 30;

/// The client's end of the line, shared with the thread that says that the agent is alive.
type Out = Arc<Mutex<Box<dyn Write + Send>>>;

/// Answers the requests that come from `input` on `output` until they end.
///
/// # Errors
/// [`Error::Io`] when the folder for models cannot be made; [`Error::Garbled`] when the client is none.
pub fn serve(
    options: &AgentOptions,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<()> {
    let store = Store::new(&options.folder, options.model_max, options.total_max)?;
    let out: Out = Arc::new(Mutex::new(Box::new(output)));
    let busy = Arc::new(AtomicBool::new(false));
    // Dropped at the end of this function, which ends the thread.
    let (_alive, ended) = channel::<()>();
    let (heartbeat, working) = (Arc::clone(&out), Arc::clone(&busy));
    std::thread::spawn(move || {
        while matches!(ended.recv_timeout(Duration::from_secs(ALIVE_S)), Err(RecvTimeoutError::Timeout)) {
            if working.load(Ordering::Relaxed) && tell(&heartbeat, &Reply::Alive {}).is_err() {
                break;
            }
        }
    });
    let lines = Lines::of_stranger(input);
    let mut agent = Agent { options, store, lines, out, welcome: false, bench: None };
    loop {
        let patience = if agent.welcome { IDLE_S } else { HELLO_S };
        let request: Request = match agent.lines.hear(Duration::from_secs(patience)) {
            Ok(Heard::Message(request)) => request,
            Ok(Heard::Nothing | Heard::Gone) => return Ok(()),
            Err(error) => {
                let _ = tell(&agent.out, &Reply::failed(&error));
                return Err(error);
            }
        };
        busy.store(true, Ordering::Relaxed);
        let answer = agent.answer(request);
        busy.store(false, Ordering::Relaxed);
        let told = match &answer {
            Ok(Some(reply)) => tell(&agent.out, reply),
            Ok(None) => Ok(()),
            Err(error) => tell(&agent.out, &Reply::failed(error)),
        };
        // A stranger gets one try.
        if told.is_err() || !agent.welcome {
            return Ok(());
        }
    }
}

fn tell(out: &Out, reply: &Reply) -> std::io::Result<()> {
    let mut out = out.lock().map_err(|_| std::io::Error::other("a thread that wrote panicked"))?;
    send(&mut **out, reply)
}

struct Agent<'o> {
    options: &'o AgentOptions,
    store: Store,
    lines: Lines,
    out: Out,
    welcome: bool,
    /// The bench, and how many models a batch of it may have.
    bench: Option<(Bench, usize)>,
}

impl Agent<'_> {
    /// The reply to a request; `None` for a part of a model that is not the last.
    fn answer(&mut self, request: Request) -> Result<Option<Reply>> {
        if !self.welcome && !matches!(request, Request::Hello { .. }) {
            return Err(Error::Refused {
                device: "the agent".into(),
                reason: "the first request was no hello; connect with masktas".into(),
            });
        }
        Ok(Some(match request {
            Request::Hello { protocol, version, token } => {
                self.hello(protocol, &version, token.as_deref())?
            }
            Request::Machine { threads } => Reply::Machine {
                fingerprint: Box::new(Fingerprint::read(threads)),
                engines: engine_states(&self.options.engines),
            },
            Request::Model { hash, bytes } => Reply::Send { wanted: self.store.announce(&hash, bytes)? },
            Request::Part { data } => {
                return Ok(self.store.part(&data.0)?.then_some(Reply::Stored {}));
            }
            Request::Bench { job, reference } => self.prepare(&job, &reference)?,
            Request::Batch { subjects, budget_s } => self.batch(&subjects, budget_s)?,
            Request::Trace { model, job } => {
                let trace = trace(&job, &self.store.read(&model)?, &self.options.engines)?;
                Reply::Traced { trace: Box::new(trace) }
            }
            Request::Sustain { subject, job, seconds } => self.sustain(&subject, &job, seconds)?,
            // It came after the batch was done.
            Request::Stop {} => return Ok(None),
            Request::Parity { model, golden, engines } => self.parity(&model, &golden, &engines)?,
        }))
    }

    fn hello(&mut self, protocol: u32, version: &str, token: Option<&str>) -> Result<Reply> {
        let own = env!("CARGO_PKG_VERSION");
        let refuse = |reason| Err(Error::Refused { device: "the agent".into(), reason });
        if !same_secret(self.options.token.as_deref(), token) {
            let given = if token.is_some() { "the token is wrong" } else { "a token is needed" };
            return refuse(format!(
                "{given}; connect with the address that the agent printed when it started"
            ));
        }
        if protocol != PROTOCOL {
            return refuse(format!(
                "masktas {version} speaks protocol {protocol} and this agent ({own}) speaks {PROTOCOL}; install the \
                 same version on both"
            ));
        }
        self.welcome = true;
        self.lines.trust();
        Ok(Reply::Hello { protocol: PROTOCOL, version: own.into() })
    }

    fn prepare(&mut self, job: &BenchJob, reference: &str) -> Result<Reply> {
        // The old reference network's memory is given back before the new one takes its own.
        self.bench = None;
        let job = self.own(job);
        let bench = Bench::new(&job, &self.store.read(reference)?, &self.options.engines)?;
        let calibration = bench.calibration().clone();
        self.bench = Some((bench, job.protocol.batch));
        Ok(Reply::Bench { calibration })
    }

    /// The job with what only the agent decides.
    fn own(&self, job: &BenchJob) -> BenchJob {
        let mut job = job.clone();
        job.protocol.isolated = self.options.engines.worker.is_some();
        job
    }

    /// Tells the client how far something is, and whether to go on: not after a stop, not when the client is gone, and not
    /// for one that does not wait its turn.
    fn tell_and_hear(&self, reply: &Reply) -> ControlFlow<()> {
        match self.lines.hear::<Request>(Duration::ZERO) {
            Ok(Heard::Nothing) if tell(&self.out, reply).is_ok() => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    fn sustain(&self, subject: &WireSubject, job: &BenchJob, seconds: f64) -> Result<Reply> {
        let (bytes, golden) = self.subject(subject)?;
        let subject = Subject { id: &subject.id, bytes: &bytes, golden: golden.as_ref() };
        let mut progress = |window: &Window| self.tell_and_hear(&Reply::Window { window: window.clone() });
        let sustained = sustain(&self.own(job), &subject, &self.options.engines, seconds, &mut progress)?;
        Ok(Reply::Sustained { sustained: Box::new(sustained) })
    }

    fn subject(&self, subject: &WireSubject) -> Result<(Vec<u8>, Option<Golden>)> {
        let golden = subject.golden.as_ref().map(WireGolden::golden).transpose()?;
        Ok((self.store.read(&subject.model)?, golden))
    }

    fn batch(&mut self, subjects: &[WireSubject], budget_s: Option<f64>) -> Result<Reply> {
        // Taken out, so that the rest of the agent can be told and heard meanwhile.
        let Some((mut bench, most)) = self.bench.take() else {
            return Err(Error::Garbled { reason: "a batch came before its reference network".into() });
        };
        let answer = if subjects.len() <= most {
            self.measure(&mut bench, subjects, budget_s)
        } else {
            // Each is a process; their number is agreed on beforehand.
            let reason =
                format!("a batch has {} models and its protocol says at most {most}", subjects.len());
            Err(Error::Garbled { reason })
        };
        self.bench = Some((bench, most));
        answer
    }

    fn measure(&self, bench: &mut Bench, subjects: &[WireSubject], budget_s: Option<f64>) -> Result<Reply> {
        let loaded = subjects.iter().map(|subject| self.subject(subject)).collect::<Result<Vec<_>>>()?;
        let subjects: Vec<Subject<'_>> = subjects
            .iter()
            .zip(&loaded)
            .map(|(subject, (bytes, golden))| Subject { id: &subject.id, bytes, golden: golden.as_ref() })
            .collect();
        let budget =
            budget_s.filter(|s| s.is_finite() && *s >= 0.0).map(|s| Duration::from_secs_f64(s.min(1e6)));
        let mut progress = |rounds: usize| self.tell_and_hear(&Reply::Round { rounds });
        Ok(match bench.measure(&subjects, budget, &mut progress)? {
            None => Reply::Stopped {},
            Some(results) => {
                let words =
                    |result: Result<_>| result.map(Box::new).map_err(|error: Error| error.to_string());
                Reply::Measured { results: results.into_iter().map(words).collect() }
            }
        })
    }

    fn parity(&self, model: &str, golden: &WireGolden, names: &[String]) -> Result<Reply> {
        let model = self.store.read(model)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(Reply::Parity { parity: parity_apart(&model, &golden.golden()?, &names, &self.options.engines)? })
    }
}

/// Every engine and whether it can be used here.
pub(crate) fn engine_states(options: &EngineOptions) -> Vec<EngineState> {
    let state = |name: &str| {
        let version = engine(name, options).and_then(|engine| {
            engine.check()?;
            engine.version()
        });
        let missing = version.as_ref().err().map(ToString::to_string);
        EngineState { name: name.to_owned(), version: version.ok(), missing }
    };
    engines().into_iter().map(state).collect()
}

/// Whether the client knows the secret. Takes as long for a nearly right answer as for a wrong one.
fn same_secret(want: Option<&str>, given: Option<&str>) -> bool {
    match (want, given) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(want), Some(given)) => {
            let (want, given) = (want.as_bytes(), given.as_bytes());
            let differ = want.iter().zip(given).fold(0u8, |differ, (a, b)| differ | (a ^ b));
            differ == 0 && want.len() == given.len()
        }
    }
}
