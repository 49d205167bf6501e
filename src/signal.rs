//! Ctrl-C: the first one asks the work to stop, the second one ends the program.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use masktas_search::Error;

use crate::exit::{Exit, Failure};

/// Watches for Ctrl-C; the flag is set by the first one.
pub fn watch() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let watching = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(Exit::Interrupted as i32);
        }
        // Written at once and unlocked: whoever holds standard error may be what is being stopped.
        let _ = std::io::stderr().write_all(b"\nstopping after this step; Ctrl-C again ends at once\n");
    });
    if let Err(error) = watching {
        tracing::warn!("Ctrl-C cannot be caught ({error}); it ends the program at once");
    }
    stop
}

/// The failure of a command that has nothing to go on from after a stop.
pub fn nothing_kept(error: Error) -> Failure {
    match error {
        Error::Interrupted => {
            let text = "interrupted; nothing is kept, give the command again";
            Failure { exit: Exit::Interrupted, error: text.into() }
        }
        other => other.into(),
    }
}
