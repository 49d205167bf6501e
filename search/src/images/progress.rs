//! How far reading a source has come, for whoever wants to show it.

use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Where progress is told. Called from many threads, with done never above total.
#[derive(Default)]
pub struct Progress(Option<Box<Sink>>);

impl Progress {
    /// Tells nobody.
    pub fn none() -> Progress {
        Progress(None)
    }

    /// Calls `sink(stage, done, total)`.
    pub fn new(sink: impl Fn(Stage, usize, usize) + Send + Sync + 'static) -> Progress {
        Progress(Some(Box::new(sink)))
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
    /// One more is done.
    pub fn one(&self) {
        self.tell(self.done.fetch_add(1, Ordering::Relaxed) + 1);
    }

    fn tell(&self, done: usize) {
        if let Some(sink) = &self.progress.0 {
            sink(self.stage, done.min(self.total), self.total);
        }
    }
}
