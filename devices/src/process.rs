//! A child process that carries a line, and what it said when it died.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Last lines of standard error that are kept.
const WORDS: usize = 3;
/// Longest such line that is kept, in characters.
const WORD_LENGTH: usize = 300;

/// A child process whose standard error is read for its last words. It is killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    program: String,
    words: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with pipes for input, output and error.
    pub(crate) fn start(command: &mut Command) -> std::io::Result<(Self, ChildStdin, ChildStdout)> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let missing = || std::io::Error::other("it has no pipes");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let error = child.stderr.take().ok_or_else(missing)?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&words);
        let reader = std::thread::spawn(move || {
            // To its end whatever comes: a closed pipe would kill the child. No line is kept beyond a few kilobytes.
            let mut error = BufReader::new(error);
            let mut bytes = Vec::new();
            while error.by_ref().take(8 << 10).read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                let line = String::from_utf8_lossy(&bytes).into_owned();
                bytes.clear();
                let Ok(mut kept) = kept.lock() else { continue };
                if !line.trim().is_empty() {
                    kept.push_back(line.trim().chars().take(WORD_LENGTH).collect::<String>());
                }
                if kept.len() > WORDS {
                    kept.pop_front();
                }
            }
        });
        let program = command.get_program().to_string_lossy().into_owned();
        Ok((Self { child, program, words, reader: Some(reader) }, input, output))
    }

    /// Its program, as it was named.
    pub(crate) fn program(&self) -> String {
        self.program.clone()
    }

    /// How it ended; waits a little for one that is about to. `None`: it runs on.
    pub(crate) fn status(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }

    /// Ends it, and returns its last lines of standard error.
    pub(crate) fn last_words(&mut self) -> String {
        if self.status(Duration::from_millis(500)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // Its own children may hold the pipe open, so the reader gets a moment, no more.
        let deadline = Instant::now() + Duration::from_millis(500);
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(reader) = self.reader.take_if(|reader| reader.is_finished()) {
            let _ = reader.join();
        }
        let words = self.words.lock().map(|words| words.iter().cloned().collect::<Vec<_>>().join(" / "));
        words.unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
