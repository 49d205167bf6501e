//! How a long job talks to whoever started it, and how it is asked to stop.

use crate::images;

/// Receives what a job is doing. The library prints nothing itself.
pub trait Progress {
    /// A phase begins: its name, how many units it has, and what a unit is.
    fn begin(&mut self, phase: &str, total: u64, unit: &str);
    /// `done` units of the phase are finished; `note` is the latest figure worth showing.
    fn advance(&mut self, done: u64, note: &str);
    /// The phase is over; one line to remember.
    fn end(&mut self, summary: &str);
    /// A fact outside any phase.
    fn say(&mut self, line: &str);
    /// Whether the job should save and return [`Error::Interrupted`](crate::Error::Interrupted).
    fn stop(&self) -> bool;
    /// The same for reading images, which counts from many threads.
    fn images(&self) -> images::Progress {
        images::Progress::none()
    }
}

/// Says nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _phase: &str, _total: u64, _unit: &str) {}
    fn advance(&mut self, _done: u64, _note: &str) {}
    fn end(&mut self, _summary: &str) {}
    fn say(&mut self, _line: &str) {}
    fn stop(&self) -> bool {
        false
    }
}
