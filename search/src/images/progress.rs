//! How far reading a source has come, for whoever wants to show it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading every file once to know its content.
    Hash,
    /// Decoding and resizing into the cache.
    Decode,
    /// Checking an existing cache.
    Check,
}

type Sink = dyn Fn(Stage, usize, usize) + Send + Sync;
type Stop = dyn Fn() -> bool + Send + Sync;

/// Where progress is told, and who may ask to stop. Called from many threads, with done never above total.
#[derive(Default)]
pub struct Progress {
    sink: Option<Box<Sink>>,
    stop: Option<Box<Stop>>,
}

impl Progress {
    /// Tells nobody.
    pub fn none() -> Progress {
        Progress::default()
    }

    /// Calls `sink(stage, done, total)`.
    pub fn new(sink: impl Fn(Stage, usize, usize) + Send + Sync + 'static) -> Progress {
        Progress { sink: Some(Box::new(sink)), stop: None }
    }

    /// The same, ending the work early once `stop` says so.
    pub fn until(self, stop: impl Fn() -> bool + Send + Sync + 'static) -> Progress {
        Progress { stop: Some(Box::new(stop)), ..self }
    }

    /// Whether the work should end early.
    pub fn stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop())
    }

    /// For the end of a stage, whose rest is not to be used after a stop.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the work should end early.
    pub fn check(&self) -> Result<()> {
        if self.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// A counter of one stage; says at once that it begins.
    pub fn counter(&self, stage: Stage, total: usize) -> Counter<'_> {
        let counter = Counter { progress: self, stage, total, done: AtomicUsize::new(0) };
        counter.tell(0);
        counter
    }
}

/// Counts one stage.
pub struct Counter<'a> {
    progress: &'a Progress,
    stage: Stage,
    total: usize,
    done: AtomicUsize,
}

impl Counter<'_> {
    /// Whether the rest may be left undone.
    pub fn stopped(&self) -> bool {
        self.progress.stopped()
    }

    /// One more is done.
    pub fn one(&self) {
        self.tell(self.done.fetch_add(1, Ordering::Relaxed) + 1);
    }

    fn tell(&self, done: usize) {
        if let Some(sink) = &self.progress.sink {
            sink(self.stage, done.min(self.total), self.total);
        }
    }
}
