//! Prints means over draws, and writes draws.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use masktas_devices::HeldOut;

use crate::trial::{Choice, Trial};

/// A column: heading, factor, decimals and what it shows.
type Column = (&'static str, f64, usize, fn(&HeldOut) -> f64);

const COLUMNS: [Column; 6] = [
    ("MAPE %", 100.0, 2, |h| h.mape),
    ("<= 10 %", 100.0, 1, |h| h.within_10),
    ("<= 5 %", 100.0, 1, |h| h.within_5),
    ("Spearman", 1.0, 3, |h| h.spearman.unwrap_or(f64::NAN)),
    ("covered %", 100.0, 1, |h| if h.width.is_nan() { f64::NAN } else { h.coverage }),
    ("width %", 100.0, 1, |h| h.width),
];

/// Writes one line to standard output; ends the program quietly when nobody reads on.
pub fn say(line: &str) {
    use std::io::Write as _;
    if writeln!(std::io::stdout().lock(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Prints one line a model and choice: mean over draws, and their standard deviation.
pub fn print(trials: &[Trial]) {
    let mut groups: BTreeMap<(Choice, usize), (String, Vec<&HeldOut>)> = BTreeMap::new();
    let mut order: Vec<&str> = Vec::new();
    for trial in trials {
        let place = order.iter().position(|model| *model == trial.model).unwrap_or_else(|| {
            order.push(trial.model);
            order.len() - 1
        });
        let group = groups.entry((trial.choice, place)).or_insert_with(|| (trial.label(), Vec::new()));
        group.1.push(&trial.result);
    }
    let headings: String = COLUMNS.iter().map(|(heading, ..)| format!(" {heading:>15}")).collect();
    say(&format!("  {:<40}{headings}", "model (samples, choice)"));
    for (label, results) in groups.values() {
        let mut line = format!("  {label:<40}");
        for (_, factor, decimals, get) in COLUMNS {
            let values: Vec<f64> = results.iter().map(|result| factor * get(result)).collect();
            let _ = write!(line, " {:>15}", shown(&values, decimals));
        }
        say(&line);
    }
}

/// `mean ± deviation`; a dash where there is no number.
fn shown(values: &[f64], decimals: usize) -> String {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if !mean.is_finite() {
        return if mean.is_nan() { "-".into() } else { "unbounded".into() };
    }
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt();
    format!("{mean:.decimals$} ± {deviation:.decimals$}")
}

/// Prints which regimes the model chose.
pub fn regimes(trials: &[Trial]) {
    let mut counts: BTreeMap<(Choice, &str, String), usize> = BTreeMap::new();
    for trial in trials.iter().filter(|trial| trial.model.starts_with("masktas")) {
        if let Some(regime) = trial.regime {
            *counts.entry((trial.choice, trial.model, regime.to_string())).or_default() += 1;
        }
    }
    say("\nregimes that weighed most");
    for ((choice, model, regime), count) in counts {
        let choice = format!("{choice:?}").to_lowercase();
        say(&format!("  {model}, {choice} samples: {regime} in {count} draws"));
    }
}

/// Writes one line a draw and model.
pub fn write(path: &Path, trials: &[Trial]) -> Result<(), String> {
    let mut text = String::from(
        "target,seed,choice,model,samples,regime,tests,mape,within_10,within_5,spearman,coverage,width\n",
    );
    for trial in trials {
        let h = &trial.result;
        let regime = trial.regime.map_or(String::new(), |regime| regime.to_string());
        let number = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.6}") };
        let _ = writeln!(
            text,
            "{},{},{:?},\"{}\",{},{regime},{},{},{},{},{},{},{}",
            trial.target,
            trial.seed,
            trial.choice,
            trial.model,
            trial.samples,
            h.n,
            number(h.mape),
            number(h.within_10),
            number(h.within_5),
            number(h.spearman.unwrap_or(f64::NAN)),
            number(if h.width.is_nan() { f64::NAN } else { h.coverage }),
            number(h.width)
        );
    }
    std::fs::write(path, text)
        .map_err(|error| format!("{}: {error}; give another path to --csv", path.display()))
}
