//! A device with an agent on it.

use std::net::{TcpStream, ToSocketAddrs};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Transport;
use super::address::Address;
use super::deploy::Shell;
use super::link::Link;
use super::unreachable::{before_hello, unreachable};
use crate::agent::{self, EngineState, Reply, Request, WireGolden, WireSubject};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::measure::{BenchJob, Calibration, Golden, Measure, Measurement, Subject};
use crate::parity::Parity;
use crate::process::Process;
use crate::sustained::{Sustained, Window};
use crate::trace::{Trace, TraceJob};
use crate::wire::Lines;

/// What it takes to reach a device besides its address.
#[derive(Clone, Debug, Default)]
pub struct RemoteOptions {
    /// The agent's file for the device's processor; `None`: it is looked for in `folders`, then, where the processor is this
    /// machine's, beside this program.
    pub agent: Option<PathBuf>,
    /// Folders with one folder a processor, such as `aarch64`, that holds an agent and perhaps ONNX Runtime's library.
    pub folders: Vec<PathBuf>,
    /// Path of ONNX Runtime's library on the device; `None`: the agent looks beside itself and in its user's cache.
    pub ort_lib: Option<String>,
}

/// A device with an agent on it.
pub struct Remote {
    address: Address,
    options: RemoteOptions,
    link: Option<Link>,
    /// Why it could not be reached again.
    away: String,
}

impl Remote {
    /// Reaches the device: puts the agent there where that is needed, starts it, and says hello.
    ///
    /// # Errors
    /// [`Error::AgentMissing`]; [`Error::Refused`]; [`Error::NoAgent`]; [`Error::Unreachable`] with the words of the program
    /// that was to reach it.
    pub fn connect(address: &Address, options: &RemoteOptions) -> Result<Self> {
        let (address, options) = (address.clone(), options.clone());
        let mut remote = Self { address, options, link: None, away: String::new() };
        remote.reconnect()?;
        Ok(remote)
    }

    /// The machine, and the engines that can be used there.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub fn machine(&mut self, threads: usize) -> Result<(Fingerprint, Vec<EngineState>)> {
        let link = self.link()?;
        match link.ask(&Request::Machine { threads })? {
            Reply::Machine { fingerprint, engines } => Ok((*fingerprint, engines)),
            _ => Err(link.strange()),
        }
    }

    fn link(&mut self) -> Result<&mut Link> {
        let (device, away) = (self.address.to_string(), &self.away);
        self.link
            .as_mut()
            .ok_or_else(|| Error::Lost { device, reason: format!("it did not come back: {away}") })
    }

    /// A new line to the device's agent.
    fn reach(&self) -> Result<Link> {
        let device = self.address.to_string();
        match &self.address {
            Address::Tcp { at, token, pin } => {
                let socket = dial(at).map_err(|error| unreachable(&self.address, error.to_string()))?;
                let (reader, writer) = agent::connect(socket, *pin, &device)?;
                Link::new(&device, Lines::read(reader), Box::new(writer), None, Some(token))
            }
            Address::Local => {
                let agent = self.options.agent_for(std::env::consts::ARCH, &device)?;
                let mut command = Command::new(agent);
                if let Some(path) = &self.options.ort_lib {
                    command.args(["--ort-lib", path]);
                }
                self.start(command)
            }
            Address::Exec { program, args } => {
                let mut command = Command::new(program);
                command.args(args);
                self.start(command)
            }
            address => match Shell::new(address) {
                Some(shell) => self.start(shell.deploy(&self.options)?),
                None => Err(unreachable(address, "no shell reaches it")),
            },
        }
    }

    fn start(&self, mut command: Command) -> Result<Link> {
        let device = self.address.to_string();
        let program = command.get_program().to_string_lossy().into_owned();
        let (process, input, output) = Process::start(&mut command)
            .map_err(|error| unreachable(&self.address, format!("`{program}` cannot be started: {error}")))?;
        Link::new(&device, Lines::read(output), Box::new(input), Some(process), None)
    }
}

impl Transport for Remote {
    fn name(&self) -> String {
        self.address.to_string()
    }

    fn fingerprint(&mut self, threads: usize) -> Result<Fingerprint> {
        Ok(self.machine(threads)?.0)
    }

    fn engines(&mut self) -> Result<Vec<EngineState>> {
        Ok(self.machine(1)?.1)
    }

    fn bench<'a>(&'a mut self, job: &BenchJob, reference: &[u8]) -> Result<Box<dyn Measure + 'a>> {
        let link = self.link()?;
        let reference = link.model(reference)?;
        match link.ask(&Request::Bench { job: Box::new(job.clone()), reference })? {
            Reply::Bench { calibration } => Ok(Box::new(RemoteBench { link, calibration })),
            _ => Err(link.strange()),
        }
    }

    fn parity(&mut self, model: &[u8], golden: &Golden, engines: &[&str]) -> Result<Parity> {
        let link = self.link()?;
        let model = link.model(model)?;
        let golden = WireGolden::new(golden)?;
        let engines = engines.iter().map(|name| (*name).to_owned()).collect();
        match link.ask(&Request::Parity { model, golden, engines })? {
            Reply::Parity { parity } => Ok(parity),
            _ => Err(link.strange()),
        }
    }

    fn trace(&mut self, model: &[u8], job: &TraceJob) -> Result<Trace> {
        let link = self.link()?;
        let model = link.model(model)?;
        match link.ask(&Request::Trace { model, job: job.clone() })? {
            Reply::Traced { trace } => Ok(*trace),
            _ => Err(link.strange()),
        }
    }

    fn sustain(
        &mut self,
        subject: &Subject<'_>,
        job: &BenchJob,
        seconds: f64,
        progress: &mut dyn FnMut(&Window) -> ControlFlow<()>,
    ) -> Result<Sustained> {
        let link = self.link()?;
        let model = link.model(subject.bytes)?;
        let golden = subject.golden.map(WireGolden::new).transpose()?;
        let subject = WireSubject { id: subject.id.to_owned(), model, golden };
        link.send(&Request::Sustain { subject, job: Box::new(job.clone()), seconds })?;
        let mut stopping = false;
        loop {
            match link.hear()? {
                Reply::Window { window } => {
                    if progress(&window).is_break() && !stopping {
                        stopping = true;
                        link.send(&Request::Stop {})?;
                    }
                }
                Reply::Sustained { sustained } => return Ok(*sustained),
                _ => return Err(link.strange()),
            }
        }
    }

    fn reconnect(&mut self) -> Result<()> {
        self.link = None;
        let agent = self.options.agent.as_deref();
        match self.reach().map_err(|error| before_hello(&self.address, agent, error)) {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                if let Error::Unreachable { reason, .. } = &error {
                    self.away.clone_from(reason);
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Connects to the first of a name's addresses that answers.
fn dial(at: &str) -> std::io::Result<TcpStream> {
    let mut last = None;
    for address in at.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("the name has no address")))
}

struct RemoteBench<'l> {
    link: &'l mut Link,
    calibration: Calibration,
}

impl Measure for RemoteBench<'_> {
    fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    fn measure(
        &mut self,
        subjects: &[Subject<'_>],
        budget: Option<Duration>,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Result<Measurement>>>> {
        // A model that the agent does not take is a failed row; the others are measured without it.
        let mut sent = Vec::with_capacity(subjects.len());
        let mut refused: Vec<Option<Error>> = Vec::with_capacity(subjects.len());
        for subject in subjects {
            match self.link.model(subject.bytes) {
                Ok(model) => {
                    let golden = subject.golden.map(WireGolden::new).transpose()?;
                    sent.push(WireSubject { id: subject.id.to_owned(), model, golden });
                    refused.push(None);
                }
                Err(error @ Error::Told { .. }) => refused.push(Some(error)),
                Err(error) => return Err(error),
            }
        }
        let count = sent.len();
        let budget_s = budget.map(|budget| budget.as_secs_f64());
        self.link.send(&Request::Batch { subjects: sent, budget_s })?;
        let mut stopping = false;
        let results = loop {
            match self.link.hear()? {
                Reply::Round { rounds } => {
                    if progress(rounds).is_break() && !stopping {
                        stopping = true;
                        self.link.send(&Request::Stop {})?;
                    }
                }
                Reply::Stopped {} => return Ok(None),
                Reply::Measured { .. } if stopping => return Ok(None),
                Reply::Measured { results } if results.len() == count => break results,
                _ => return Err(self.link.strange()),
            }
        };
        let mut results = results.into_iter();
        let told = |text| Error::Told { text, given: false };
        let lost = || Error::Caller("the agent lost it".into());
        let all = refused.into_iter().map(|refused| match refused {
            Some(error) => Err(error),
            None => results.next().ok_or_else(lost)?.map(|measurement| *measurement).map_err(told),
        });
        Ok(Some(all.collect()))
    }
}
