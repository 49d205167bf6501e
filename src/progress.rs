//! Progress on standard error: a bar on a terminal, lines every two seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use masktas_search::images;
use masktas_search::progress::Progress;

use crate::table::seconds;

/// Longest silence of a phase where there is no terminal.
const BEAT: Duration = Duration::from_secs(2);

/// Silence that needs no explanation.
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds back the line of [`Reporter::soon`] when it is dropped.
pub struct Soon {
    _over: Sender<()>,
}

/// Shows what a long job is doing, and tells it when to stop.
#[derive(Clone)]
pub struct Reporter {
    screen: Arc<Mutex<Screen>>,
    stop: Arc<AtomicBool>,
    /// Ends the thread that keeps lines coming, when the last reporter is gone.
    _beat: Option<Sender<()>>,
}

struct Screen {
    quiet: bool,
    terminal: bool,
    phase: Option<Phase>,
    bar: Option<ProgressBar>,
    last: Instant,
}

struct Phase {
    name: String,
    total: u64,
    unit: String,
    done: u64,
    /// What was done before this process began to count; set by the first report.
    first: Option<u64>,
    note: String,
    began: Instant,
}

impl Phase {
    /// Time left at the pace so far.
    fn left(&self) -> Option<f64> {
        let done = self.done.checked_sub(self.first?)?;
        let rest = self.total.saturating_sub(self.done);
        (done > 0).then(|| self.began.elapsed().as_secs_f64() * rest as f64 / done as f64)
    }

    fn line(&self) -> String {
        let percent = 100 * self.done / self.total.max(1);
        let mut line =
            format!("{}: {}/{} {}, {percent} %", self.name, self.done, self.total, plural(&self.unit));
        match self.left().filter(|_| self.done < self.total) {
            Some(left) => line.push_str(&format!(", about {} left", seconds(left))),
            None => line.push_str(&format!(", {}", seconds(self.began.elapsed().as_secs_f64()))),
        }
        if !self.note.is_empty() {
            line.push_str(&format!("  {}", self.note));
        }
        line
    }
}

fn plural(unit: &str) -> String {
    if unit.ends_with('s') { unit.to_owned() } else { format!("{unit}s") }
}

impl Reporter {
    pub fn new(quiet: bool, stop: Arc<AtomicBool>) -> Reporter {
        let terminal = std::io::stderr().is_terminal();
        let screen = Screen { quiet, terminal, phase: None, bar: None, last: Instant::now() };
        let screen = Arc::new(Mutex::new(screen));
        let beat = (!quiet && !terminal).then(|| beat(screen.clone()));
        Reporter { screen, stop, _beat: beat }
    }

    /// Says a line unless what it tells of is over within a second, when the answer is dropped.
    pub fn soon(&self, line: String) -> Soon {
        let (over, ended) = channel::<()>();
        let screen = self.screen.clone();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                lock(&screen).say(&line);
            }
        });
        Soon { _over: over }
    }

    /// Takes the bar off the screen.
    pub fn clear(&mut self) {
        let mut screen = lock(&self.screen);
        screen.phase = None;
        if let Some(bar) = screen.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Keeps lines coming while a single unit takes long.
fn beat(screen: Arc<Mutex<Screen>>) -> Sender<()> {
    let (alive, ended) = channel::<()>();
    std::thread::spawn(move || {
        while ended.recv_timeout(BEAT / 4) == Err(RecvTimeoutError::Timeout) {
            lock(&screen).beat();
        }
    });
    alive
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    // What a panicking thread left is still a screen.
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Screen {
    fn begin(&mut self, name: &str, total: u64, unit: &str) {
        self.end("");
        self.phase = Some(Phase {
            name: name.to_owned(),
            total,
            unit: unit.to_owned(),
            done: 0,
            first: None,
            note: String::new(),
            began: Instant::now(),
        });
        if self.quiet {
            return;
        }
        if !self.terminal {
            // The line comes with the first beat: short phases need none.
            self.last = Instant::now();
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = "{spinner} {prefix}  {bar:24}  {pos}/{len}  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bar = Some(bar);
    }

    fn advance(&mut self, done: u64, note: &str) {
        let Some(phase) = &mut self.phase else { return };
        if phase.first.is_none() {
            phase.first = Some(done.saturating_sub(1));
        }
        phase.done = done;
        note.clone_into(&mut phase.note);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            let left = phase.left().map_or(String::new(), |left| format!("{} left  ", seconds(left)));
            bar.set_message(format!("{left}{note}"));
        }
        self.beat();
    }

    fn beat(&mut self) {
        let due = !self.quiet && !self.terminal && self.last.elapsed() >= BEAT;
        if let Some(phase) = self.phase.as_ref().filter(|_| due) {
            print(&phase.line());
            self.last = Instant::now();
        }
    }

    fn end(&mut self, summary: &str) {
        let phase = self.phase.take();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(phase) = phase.filter(|_| !self.quiet && !summary.is_empty()) {
            print(&format!("{}: {summary} ({})", phase.name, seconds(phase.began.elapsed().as_secs_f64())));
            self.last = Instant::now();
        }
    }

    fn say(&mut self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| print(line)),
            None => print(line),
        }
        self.last = Instant::now();
    }
}

fn print(line: &str) {
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl Progress for Reporter {
    fn begin(&mut self, phase: &str, total: u64, unit: &str) {
        lock(&self.screen).begin(phase, total, unit);
    }

    fn advance(&mut self, done: u64, note: &str) {
        lock(&self.screen).advance(done, note);
    }

    fn end(&mut self, summary: &str) {
        lock(&self.screen).end(summary);
    }

    fn say(&mut self, line: &str) {
        lock(&self.screen).say(line);
    }

    fn stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn images(&self) -> images::Progress {
        let (screen, stop) = (self.screen.clone(), self.stop.clone());
        let told = images::Progress::new(move |stage, done, total| {
            let mut screen = lock(&screen);
            let name = match stage {
                images::Stage::Hash => "finding images",
                images::Stage::Decode => "reading images",
                images::Stage::Check => "checking images",
            };
            if screen.phase.as_ref().is_none_or(|phase| phase.name != name) {
                screen.begin(name, total as u64, "file");
            }
            screen.advance(done as u64, "");
            if done == total {
                screen.end("");
            }
        });
        told.until(move || stop.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_counts_only_what_this_process_did() {
        let began = Instant::now() - Duration::from_secs(10);
        let mut phase = Phase {
            name: "search".into(),
            total: 100,
            unit: "trial".into(),
            done: 60,
            first: Some(50),
            note: "best 0.5".into(),
            began,
        };
        let left = phase.left().expect("ten were done");
        assert!((40.0..41.0).contains(&left), "{left}");
        assert!(
            phase.line().starts_with("search: 60/100 trials, 60 %, about 40 s left  best"),
            "{}",
            phase.line()
        );
        phase.first = None;
        assert_eq!(phase.left(), None);
    }
}
