//! Where answers, progress and errors go.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use masktas_devices::Address;
use serde_json::{Map, Value, json};
use tracing_subscriber::EnvFilter;

use crate::cli::{Global, When};
use crate::exit::{Exit, Failure};
use crate::progress::{Reporter, Soon};
use crate::signal;
use crate::style::Style;

/// Version of the JSON objects.
pub const JSON_VERSION: u32 = 1;

/// What a command gives back.
pub struct Answer {
    /// For people; printed as it is.
    pub text: String,
    /// For programs: the object's keys beside `masktas` and `command`.
    pub json: Value,
    /// How the program ends.
    pub exit: Exit,
}

impl Answer {
    pub fn new(text: String, json: Value) -> Answer {
        Answer { text, json, exit: Exit::Ok }
    }
}

/// The answer of a command, or why there is none.
pub type Outcome = Result<Answer, Failure>;

/// The terminal, or whatever stands in its place.
pub struct Console {
    command: &'static str,
    json: bool,
    /// For words on standard output.
    pub style: Style,
    /// Progress on standard error.
    pub reporter: Reporter,
    /// What [`Console::say_once`] has said.
    said: Vec<String>,
}

impl Console {
    /// Sets up colour, logs and Ctrl-C.
    pub fn new(global: &Global, command: &'static str) -> Console {
        log(global);
        let stop: Arc<AtomicBool> = signal::watch();
        let reporter = Reporter::new(global.quiet, stop);
        errors(global.color);
        Console { command, json: global.json, style: Style::stdout(global.color), reporter, said: Vec::new() }
    }

    /// A fact for people, on standard error.
    pub fn say(&mut self, line: &str) {
        masktas_search::progress::Progress::say(&mut self.reporter, line);
    }

    /// The same, unless it was said before.
    pub fn say_once(&mut self, line: &str) {
        if !self.said.iter().any(|said| said == line) {
            self.said.push(line.to_owned());
            self.say(line);
        }
    }

    /// Says that a device is being reached when that takes longer than a second.
    pub fn connecting(&self, address: Option<&Address>) -> Option<Soon> {
        address.map(|address| self.reporter.soon(format!("connecting to {address}")))
    }

    /// Prints a command's answer or error and says how the program ends.
    pub fn finish(mut self, outcome: Outcome) -> ExitCode {
        self.reporter.clear();
        let (exit, text, json) = match outcome {
            Ok(answer) => (answer.exit, answer.text, answer.json),
            Err(failure) => {
                let chain = failure.chain();
                complain(&failure, &chain);
                let error = json!({ "message": chain.first(), "causes": chain.get(1..).unwrap_or_default() });
                (failure.exit, String::new(), json!({ "exit": failure.exit as u8, "error": error }))
            }
        };
        let out = if self.json { object(self.command.into(), json) } else { text };
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => exit.into(),
            // Whoever read this has seen enough, as `head` does.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => exit.into(),
            Err(_) => Exit::Failure.into(),
        }
    }
}

/// Says why the command line could not be read, or shows the help or version that it asks for, and says how the
/// program ends.
pub fn unread(error: &clap::Error) -> ExitCode {
    // There is nobody left to tell when a stream is closed.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Ok.into();
    }
    // Nothing was parsed, so the words themselves are asked.
    if std::env::args_os().any(|word| word == "--json") {
        let text = error.to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        let causes: [&str; 0] = [];
        let error = json!({ "message": message, "causes": causes });
        let out = object(Value::Null, json!({ "exit": Exit::Usage as u8, "error": error }));
        let _ = std::io::stdout().lock().write_all(out.as_bytes());
    }
    Exit::Usage.into()
}

/// One line of JSON: the version, the command, and the keys of `value`.
fn object(command: Value, value: Value) -> String {
    let rest = match value {
        Value::Object(keys) => keys,
        Value::Null => Map::new(),
        other => Map::from_iter([("data".to_owned(), other)]),
    };
    // By hand, so that what a reader looks for first stands first.
    let mut object = format!("{{\"masktas\":{JSON_VERSION},\"command\":{command}");
    for (key, value) in rest {
        object.push_str(&format!(",{}:{value}", Value::from(key)));
    }
    format!("{object}}}\n")
}

fn log(global: &Global) {
    let level = match global.verbose {
        0 => return,
        1 => "masktas=info,masktas_search=info,masktas_devices=info,masktas_export=info,masktas_runtime=info",
        _ => "debug",
    };
    let ansi = Style::stderr(global.color).is_on();
    let logs = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(ansi);
    logs.with_env_filter(EnvFilter::new(level)).init();
}

fn errors(when: When) {
    let color = Style::stderr(when).is_on();
    let terminal = std::io::stderr().is_terminal();
    // Fails only when there is a handler already; then that one is as good.
    let _ = miette::set_hook(Box::new(move |_| {
        let options = miette::MietteHandlerOpts::new().color(color).unicode(terminal).terminal_links(false);
        // A log or a script wants each message on one line.
        let options = if terminal { options } else { options.wrap_lines(false).width(1 << 16) };
        Box::new(options.build())
    }));
}

/// An error and its causes, as miette shows them.
#[derive(Debug)]
struct Problem {
    message: String,
    cause: Option<Box<Problem>>,
}

impl Problem {
    fn of(chain: &[String]) -> Option<Problem> {
        let (message, causes) = chain.split_first()?;
        Some(Problem { message: message.clone(), cause: Problem::of(causes).map(Box::new) })
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &dyn std::error::Error)
    }
}

impl miette::Diagnostic for Problem {}

fn complain(failure: &Failure, chain: &[String]) {
    let Some(problem) = Problem::of(chain) else { return };
    let kind = if failure.exit == Exit::Interrupted { "stopped" } else { "error" };
    let shown = format!("{:?}", miette::Report::new(problem));
    // There is nobody left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{kind}:{}", shown.trim_end());
}
