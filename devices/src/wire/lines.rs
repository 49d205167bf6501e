//! Lines of JSON in both directions.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Longest line that is read, in bytes. A longer one ends the conversation: it is an attack or another program.
pub const MAX_LINE: usize = 64 << 20;

/// What came of waiting for a line.
#[derive(Debug)]
pub enum Heard<T> {
    /// A message.
    Message(T),
    /// Nothing yet.
    Nothing,
    /// The other side is gone; nothing more will come.
    Gone,
}

/// Longest line of somebody who is not known yet.
const STRANGER: usize = 16 << 10;

/// Messages from the other side.
pub struct Lines {
    received: Receiver<Result<String>>,
    most: Arc<AtomicUsize>,
}

impl Lines {
    /// Reads lines from `source` on a thread, which ends with the source. A few lines are read ahead, no more.
    pub fn read(source: impl Read + Send + 'static) -> Self {
        Self::reading(source, MAX_LINE)
    }

    /// The same from a stranger, whose lines must be short until [`Lines::trust`].
    pub fn of_stranger(source: impl Read + Send + 'static) -> Self {
        Self::reading(source, STRANGER)
    }

    /// Takes lines of any length up to [`MAX_LINE`] from now on.
    pub fn trust(&self) {
        self.most.store(MAX_LINE, Ordering::Relaxed);
    }

    fn reading(source: impl Read + Send + 'static, most: usize) -> Self {
        let (sender, received) = sync_channel(4);
        let most = Arc::new(AtomicUsize::new(most));
        let limit = Arc::clone(&most);
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            loop {
                let line = next_line(&mut source, &limit);
                let last = !matches!(line, Ok(Some(_)));
                let Some(line) = line.transpose() else { break };
                if sender.send(line).is_err() || last {
                    break;
                }
            }
        });
        Self { received, most }
    }

    /// The next message, waiting no longer than `patience`.
    ///
    /// # Errors
    /// [`Error::Garbled`] when a line is too long, is not text, or is no message of this kind.
    pub fn hear<T: DeserializeOwned>(&self, patience: Duration) -> Result<Heard<T>> {
        match self.received.recv_timeout(patience) {
            Ok(line) => {
                let line = line?;
                let message = serde_json::from_str(&line)
                    .map_err(|e| Error::Garbled { reason: format!("{e} in `{}`", beginning(&line)) })?;
                Ok(Heard::Message(message))
            }
            Err(RecvTimeoutError::Timeout) => Ok(Heard::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Heard::Gone),
        }
    }
}

/// The first characters of a line, for an error.
fn beginning(line: &str) -> String {
    let mut text: String = line.chars().take(80).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    text
}

/// One line without its end; `None` when there is no more. A source that breaks is one that ends.
fn next_line(source: &mut impl BufRead, limit: &AtomicUsize) -> Result<Option<String>> {
    let mut line = Vec::new();
    // In pieces: who is trusted while a line comes in may send all of it.
    loop {
        let read = source.by_ref().take(STRANGER as u64).read_until(b'\n', &mut line);
        let most = limit.load(Ordering::Relaxed);
        match read {
            Err(_) => return Ok(None),
            _ if line.len() > most => {
                return Err(Error::Garbled { reason: format!("a line is longer than {most} bytes") });
            }
            Ok(0) => break,
            Ok(_) if line.last() == Some(&b'\n') => break,
            Ok(_) => {}
        }
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        // The other side died while it wrote.
        return Ok(None);
    }
    line.pop();
    let text = String::from_utf8(line);
    text.map(Some).map_err(|_| Error::Garbled { reason: "a line is not text".into() })
}

/// Writes one message and makes sure that it is on its way.
///
/// # Errors
/// [`std::io::Error`] when the other side is gone.
pub fn send(sink: &mut (impl Write + ?Sized), message: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    sink.write_all(&line)?;
    sink.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(lines: &Lines) -> Result<Heard<Vec<u32>>> {
        lines.hear(Duration::from_secs(5))
    }

    #[test]
    fn messages_arrive_in_order_and_the_end_is_told() {
        let mut text = Vec::new();
        send(&mut text, &[1, 2]).unwrap();
        send(&mut text, &[3]).unwrap();
        text.extend_from_slice(b"[4");
        let lines = Lines::read(std::io::Cursor::new(text));
        assert!(matches!(hear(&lines), Ok(Heard::Message(m)) if m == [1, 2]));
        assert!(matches!(hear(&lines), Ok(Heard::Message(m)) if m == [3]));
        assert!(matches!(hear(&lines), Ok(Heard::Gone)), "half a line is none");
    }

    #[test]
    fn what_is_no_message_is_named() {
        let lines = Lines::read(std::io::Cursor::new(b"Segmentation fault\n".to_vec()));
        let text = hear(&lines).unwrap_err().to_string();
        assert!(text.contains("Segmentation fault"), "{text}");
        let lines = Lines::read(std::io::Cursor::new(vec![0xff, b'\n']));
        assert!(hear(&lines).is_err());
    }

    #[test]
    fn an_endless_line_ends_the_conversation() {
        let lines = Lines::read(std::io::repeat(b'['));
        let text = hear(&lines).unwrap_err().to_string();
        assert!(text.contains("longer than"), "{text}");
        assert!(matches!(hear(&lines), Ok(Heard::Gone)));
    }

    #[test]
    fn a_stranger_is_brief() {
        let long = [vec![b' '; STRANGER], b"[1]\n".to_vec()].concat();
        let lines = Lines::of_stranger(std::io::Cursor::new(long.clone()));
        assert!(hear(&lines).unwrap_err().to_string().contains("longer than"));
        let lines = Lines::of_stranger(std::io::Cursor::new(b"[1]\n".to_vec()));
        lines.trust();
        assert!(matches!(hear(&lines), Ok(Heard::Message(_))));
        assert!(matches!(hear(&Lines::read(std::io::Cursor::new(long))), Ok(Heard::Message(m)) if m == [1]));
    }

    #[test]
    fn waiting_ends() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let lines = Lines::read(reader);
        assert!(matches!(lines.hear::<u32>(Duration::from_millis(10)), Ok(Heard::Nothing)));
    }
}
