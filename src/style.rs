//! Colour and weight of words in a terminal.

use std::io::IsTerminal as _;

use crate::cli::When;

/// Whether words are dressed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    on: bool,
}

/// A way to set a word off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Bold,
    Good,
    Warn,
    Bad,
}

impl Style {
    /// Without any.
    pub const PLAIN: Style = Style { on: false };

    /// For standard output.
    pub fn stdout(when: When) -> Style {
        Style { on: wanted(when, std::io::stdout().is_terminal()) }
    }

    /// For standard error.
    pub fn stderr(when: When) -> Style {
        Style { on: wanted(when, std::io::stderr().is_terminal()) }
    }

    /// Whether words are dressed up.
    pub fn is_on(self) -> bool {
        self.on
    }

    /// A word, dressed up where that is wanted.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Bold => "1",
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "1;31",
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn wanted(when: When, terminal: bool) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => terminal && !no_color && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
    }
}
