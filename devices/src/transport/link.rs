//! A conversation with an agent, whatever carries it.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::agent::{ALIVE_S, PART, PROTOCOL, Reply, Request, model_hash};
use crate::error::{Error, Result};
use crate::process::Process;
use crate::wire::{Base64, Heard, Lines, send};

/// Seconds of silence after which an agent is lost: it says that it is alive far more often.
const SILENCE_S: u64 = 6 * ALIVE_S;

/// Both ends of a line to an agent that has said hello.
pub(super) struct Link {
    device: String,
    lines: Lines,
    sink: Box<dyn Write + Send>,
    /// The program that carries the line, where there is one.
    process: Option<Process>,
    silence: Duration,
}

impl Link {
    /// Says hello.
    ///
    /// # Errors
    /// [`Error::Refused`] when the agent speaks another version or wants another token; [`Error::NoAgent`] for another
    /// program; [`Error::Lost`].
    pub(super) fn new(
        device: &str,
        lines: Lines,
        sink: Box<dyn Write + Send>,
        process: Option<Process>,
        token: Option<&str>,
    ) -> Result<Self> {
        let (device, silence) = (device.to_owned(), Duration::from_secs(SILENCE_S));
        let mut link = Self { device, lines, sink, process, silence };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Request::Hello { protocol: PROTOCOL, version, token: token.map(str::to_owned) };
        // One that has ended may have said why.
        let _ = send(&mut link.sink, &hello);
        match link.hear_plainly() {
            Ok(Reply::Hello { protocol: PROTOCOL, .. }) => Ok(link),
            Ok(Reply::Hello { protocol, version }) => Err(Error::Refused {
                device: link.device,
                reason: format!(
                    "its agent ({version}) speaks protocol {protocol} and this program {PROTOCOL}; install the same \
                     version on both"
                ),
            }),
            Ok(_) => Err(link.strange()),
            Err(Error::Told { text, .. }) => Err(Error::Refused { device: link.device, reason: text }),
            // Nothing is agreed on yet, so what cannot be understood was said by another program.
            Err(Error::Garbled { reason }) => {
                let program = link.process.as_ref().map_or_else(|| "what answers".into(), Process::program);
                Err(Error::NoAgent { device: link.device, program, said: reason })
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a request without waiting for its answer.
    pub(super) fn send(&mut self, request: &Request) -> Result<()> {
        match send(&mut self.sink, request) {
            Ok(()) => Ok(()),
            // It may have said why before it went.
            Err(_) => Err(self.lost("it no longer listens")),
        }
    }

    /// The next reply that is more than a sign of life.
    ///
    /// # Errors
    /// [`Error::Told`] for a request that failed; [`Error::Lost`].
    pub(super) fn hear(&mut self) -> Result<Reply> {
        self.hear_plainly().map_err(|error| match error {
            Error::Garbled { .. } => self.lost(&error.to_string()),
            other => other,
        })
    }

    /// The same; [`Error::Garbled`] for what cannot be understood.
    fn hear_plainly(&mut self) -> Result<Reply> {
        let mut heard = Instant::now();
        loop {
            // Short waits, so that a program that died without closing the line is seen.
            match self.lines.hear(Duration::from_secs(1).min(self.silence)) {
                Ok(Heard::Message(Reply::Alive {})) => heard = Instant::now(),
                Ok(Heard::Message(Reply::Failed { error, given })) => {
                    return Err(Error::Told { text: error, given });
                }
                Ok(Heard::Message(reply)) => return Ok(reply),
                Ok(Heard::Nothing) if heard.elapsed() < self.silence => {}
                Ok(Heard::Nothing) => {
                    let seconds = self.silence.as_secs();
                    return Err(self.lost(&format!("nothing was heard of it for {seconds} s")));
                }
                Ok(Heard::Gone) => return Err(self.lost("it hung up")),
                Err(error) => return Err(error),
            }
        }
    }

    /// A request and its reply.
    ///
    /// # Errors
    /// As [`Link::hear`].
    pub(super) fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.send(request)?;
        self.hear()
    }

    /// Makes sure that the agent has a model, and returns its hash.
    ///
    /// # Errors
    /// As [`Link::hear`]; [`Error::Told`] when the agent does not take it.
    pub(super) fn model(&mut self, bytes: &[u8]) -> Result<String> {
        let hash = model_hash(bytes);
        match self.ask(&Request::Model { hash: hash.clone(), bytes: bytes.len() as u64 })? {
            Reply::Send { wanted: false } => return Ok(hash),
            Reply::Send { wanted: true } => {}
            _ => return Err(self.strange()),
        }
        for part in bytes.chunks(PART) {
            self.send(&Request::Part { data: Base64(part.to_vec()) })?;
        }
        match self.hear()? {
            Reply::Stored {} => Ok(hash),
            _ => Err(self.strange()),
        }
    }

    /// An answer to another question: the line cannot be used any more.
    pub(super) fn strange(&mut self) -> Error {
        self.lost("it gave an answer that was not asked for")
    }

    fn lost(&mut self, what: &str) -> Error {
        let words = self.process.as_mut().map(Process::last_words).unwrap_or_default();
        let reason = if words.is_empty() { what.to_owned() } else { format!("{what}; last words: {words}") };
        Error::Lost { device: self.device.clone(), reason }
    }
}
