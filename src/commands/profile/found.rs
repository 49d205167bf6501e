//! What was measured of files, as tables for people, Markdown, CSV and JSON.

use masktas_devices::{Fingerprint, Measurement, Outcome as Measured, Row, Steadiness, Sustained, Trace};
use serde_json::{Value, json};

use super::output;
use crate::style::{Paint, Style};
use crate::table::{Cell, Table, bytes};

/// What was measured.
pub struct Found {
    pub device: String,
    pub machine: Fingerprint,
    /// Engine and row.
    pub rows: Vec<(String, Row)>,
    /// Model and its operations.
    pub traces: Vec<(String, Trace)>,
    /// Model, engine and its minutes.
    pub sustained: Vec<(String, String, Sustained)>,
    /// Seconds that each of those was to take.
    pub seconds: f64,
}

/// Head of the Markdown. `ms` is the paired value, the columns from `median` to `MAD` are of the raw runs.
const HEAD: [&str; 16] = [
    "model",
    "engine",
    "ms",
    "+-",
    "median",
    "p90",
    "p95",
    "p99",
    "min",
    "MAD",
    "runs",
    "load ms",
    "first ms",
    "peak memory",
    "mJ",
    "verdict",
];

/// The columns that a terminal shows; energy where there is any.
const SHOWN: [&str; 11] =
    ["model", "engine", "ms", "+-", "p90", "p99", "load ms", "first ms", "peak memory", "mJ", "verdict"];

/// Head of the CSV: numbers alone below it, nothing where there is none.
const CSV: [&str; 19] = [
    "model",
    "engine",
    "ms",
    "half_width_fraction",
    "median_ms",
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "min_ms",
    "mad_ms",
    "runs",
    "load_ms",
    "first_ms",
    "peak_bytes",
    "energy_mj",
    "verdict",
    "sustained_s",
    "sustained_first_ms",
    "sustained_last_ms",
];

impl Found {
    fn cells(engine: &str, row: &Row) -> Vec<Cell> {
        let m = match &row.outcome {
            Measured::Measured(m) => m,
            Measured::Imported { .. } | Measured::Failed(_) => {
                let mut cells: Vec<Cell> = vec![row.id.as_str().into(), engine.into()];
                cells.extend((2..HEAD.len() - 1).map(|_| Cell::from("-")));
                cells.push(Cell::painted("failed", Paint::Bad));
                return cells;
            }
        };
        let ms = |value: f64| Cell::from(format!("{value:.3}"));
        let paint = if m.verdict == Steadiness::Steady { Paint::Good } else { Paint::Warn };
        vec![
            row.id.as_str().into(),
            engine.into(),
            ms(m.ms),
            format!("{:.1} %", 100.0 * m.half_width).into(),
            ms(m.median_ms),
            ms(m.p90_ms),
            ms(m.p95_ms),
            ms(m.p99_ms),
            ms(m.min_ms),
            ms(m.mad_ms),
            m.n.to_string().into(),
            format!("{:.1}", m.cold_load_ms).into(),
            format!("{:.2}", m.first_run_ms).into(),
            m.peak_bytes.map_or_else(|| "-".to_owned(), bytes).into(),
            m.energy.as_ref().map_or_else(|| "-".to_owned(), |e| format!("{:.2}", e.millijoules)).into(),
            Cell::painted(m.verdict.to_string(), paint),
        ]
    }

    fn fields(&self, engine: &str, row: &Row) -> Vec<String> {
        let mut fields = vec![row.id.clone(), engine.to_owned()];
        match row.measurement() {
            None => {
                fields.extend((2..15).map(|_| String::new()));
                fields.push("failed".to_owned());
            }
            Some(m) => {
                let ms = |value: f64| format!("{value:.4}");
                fields.extend([
                    ms(m.ms),
                    ms(m.half_width),
                    ms(m.median_ms),
                    ms(m.p90_ms),
                    ms(m.p95_ms),
                    ms(m.p99_ms),
                    ms(m.min_ms),
                    ms(m.mad_ms),
                    m.n.to_string(),
                    ms(m.cold_load_ms),
                    ms(m.first_run_ms),
                    m.peak_bytes.map(|peak| peak.to_string()).unwrap_or_default(),
                    m.energy.as_ref().map(|energy| ms(energy.millijoules)).unwrap_or_default(),
                    m.verdict.to_string(),
                ]);
            }
        }
        let run = self.sustained.iter().find(|(model, of, _)| *model == row.id && of == engine);
        let numbers = run.map(|(_, _, run)| {
            let seconds = run.windows.last().map_or(0.0, |window| window.at_s);
            [format!("{seconds:.1}"), format!("{:.4}", run.first_ms), format!("{:.4}", run.last_ms)]
        });
        fields.extend(numbers.unwrap_or_default());
        fields
    }

    pub fn text(&self, style: Style) -> String {
        let energy = self.measurements().any(|m| m.energy.is_some());
        let shown = |name: &&str| SHOWN.contains(name) && (energy || *name != "mJ");
        let mut table = Table::new(&HEAD.iter().copied().filter(shown).collect::<Vec<_>>());
        for (engine, row) in &self.rows {
            let cells = Self::cells(engine, row).into_iter().zip(&HEAD);
            table.row(cells.filter(|(_, name)| shown(name)).map(|(cell, _)| cell).collect());
        }
        let mut text = format!("{}{}\n", table.show(style), self.notes());
        for (model, trace) in &self.traces {
            text.push_str(&output::trace(model, trace, style));
        }
        for (model, engine, run) in &self.sustained {
            text.push_str(&output::sustained(model, engine, self.seconds, run));
        }
        text.push_str(&format!("{}: {}\n", self.device, self.machine.line()));
        let threads = self.measurements().next().map_or(1, |m| m.threads);
        let engines = output::engines(self.measurements());
        let plural = if threads == 1 { "" } else { "s" };
        text.push_str(
            "ms: paired with a reference network, over all rounds; +-: half of its 95 % interval; p90, p99: of single runs\n",
        );
        text.push_str(&format!("batch as exported, {threads} thread{plural}, no spinning, {engines}\n"));
        text
    }

    /// One line a note: what holds for several rows is said once, and so is the machine's load, by its highest.
    fn notes(&self) -> String {
        let mut notes: Vec<(String, Vec<String>)> = Vec::new();
        let mut load: Option<(f64, String)> = None;
        for (engine, row) in &self.rows {
            let who = format!("{} under {engine}", row.id);
            let said: Vec<String> = match &row.outcome {
                Measured::Measured(m) => {
                    let own = m.load_note();
                    if let Some((now, note)) = m.fingerprint.state.load_1m.zip(own.clone())
                        && load.as_ref().is_none_or(|(most, _)| now > *most)
                    {
                        load = Some((now, note));
                    }
                    m.notes.iter().filter(|note| Some(*note) != own.as_ref()).cloned().collect()
                }
                Measured::Failed(why) => vec![why.clone()],
                Measured::Imported { .. } => Vec::new(),
            };
            for note in said {
                match notes.iter_mut().find(|(text, _)| *text == note) {
                    Some((_, of)) => of.push(who.clone()),
                    None => notes.push((note, vec![who.clone()])),
                }
            }
        }
        let mut text = String::new();
        for (note, of) in notes {
            let who =
                if of.len() == self.rows.len() && of.len() > 1 { "all".to_owned() } else { of.join(", ") };
            text.push_str(&format!("{who}: {note}\n"));
        }
        text.extend(load.map(|(_, note)| format!("{note}\n")));
        text
    }

    fn measurements(&self) -> impl Iterator<Item = &Measurement> {
        self.rows.iter().filter_map(|(_, row)| row.measurement())
    }

    pub fn csv(&self) -> String {
        output::csv(&CSV, self.rows.iter().map(|(engine, row)| self.fields(engine, row)))
    }

    pub fn markdown(&self) -> String {
        let rows = self.rows.iter().map(|(engine, row)| Self::cells(engine, row));
        let mut text = format!("{}\n", output::markdown(&HEAD, rows));
        for (model, trace) in &self.traces {
            text.push_str(&output::trace_markdown(model, trace));
        }
        for (model, engine, run) in &self.sustained {
            text.push_str(&output::sustained(model, engine, self.seconds, run));
        }
        text.push_str(&format!("{}: {}\n", self.device, self.machine.line()));
        text
    }

    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(engine, row)| {
                let outcome = serde_json::to_value(&row.outcome).unwrap_or(Value::Null);
                json!({ "model": row.id, "engine": engine, "outcome": outcome })
            })
            .collect();
        json!({
            "device": self.device,
            "machine": serde_json::to_value(&self.machine).unwrap_or(Value::Null),
            "rows": rows,
            "operations": serde_json::to_value(&self.traces).unwrap_or(Value::Null),
            "sustained": serde_json::to_value(&self.sustained).unwrap_or(Value::Null),
        })
    }
}

#[cfg(test)]
mod tests {
    use masktas_runtime::Features;

    use super::*;

    fn measured(id: &str, notes: &[&str], load: f64) -> (String, Row) {
        let measurement = json!({
            "ms": 2.0, "ratio": 1.0, "half_width": 0.008, "verdict": "steady", "notes": notes, "median_ms": 2.0,
            "p90_ms": 2.1, "p95_ms": 2.2, "p99_ms": 2.3, "min_ms": 1.9, "mad_ms": 0.01, "n": 40, "warm_ups": 3,
            "cold_load_ms": 1.0, "first_run_ms": 3.0, "gate": { "reference": "golden", "difference": 0.0 },
            "calibration": { "reference": "r", "ms": 1.0, "half_width": 0.01 }, "protocol": "p", "engine": "ort",
            "engine_version": "1.31.1", "provider": "CPU", "threads": 1, "rounds": [],
            "fingerprint": serde_json::to_value(machine(load)).unwrap(),
            "after": serde_json::to_value(machine(load).state).unwrap(),
        });
        let outcome = Measured::Measured(Box::new(serde_json::from_value(measurement).unwrap()));
        ("ort".to_owned(), Row { id: id.to_owned(), features: nothing(), outcome })
    }

    fn nothing() -> Features {
        Features { version: 0, names: Vec::new(), units: Vec::new(), values: Vec::new() }
    }

    fn machine(load: f64) -> Fingerprint {
        let state = masktas_devices::State { load_1m: Some(load), ..Default::default() };
        Fingerprint { cores: 2, state, ..Fingerprint::default() }
    }

    fn found(rows: Vec<(String, Row)>) -> Found {
        let (device, machine) = ("host".to_owned(), Fingerprint::default());
        Found { device, machine, rows, traces: Vec::new(), sustained: Vec::new(), seconds: 60.0 }
    }

    #[test]
    fn the_csv_holds_numbers_or_nothing() {
        let failed = Row { id: "b".into(), features: nothing(), outcome: Measured::Failed("broken".into()) };
        let mut found = found(vec![measured("a", &[], 0.0), ("ort".into(), failed)]);
        let window = json!({ "at_s": 60.0, "median_ms": 2.5, "p90_ms": 2.6, "runs": 9, "khz": null,
            "temperature_c": null, "throttled": null });
        let run =
            json!({ "first_ms": 2.0, "last_ms": 2.5, "slowdown": 1.25, "slowed": true, "windows": [window] });
        found.sustained.push(("a".into(), "ort".into(), serde_json::from_value(run).unwrap()));
        let csv = found.csv();
        let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert!(lines.iter().all(|line| line.len() == CSV.len()), "{csv}");
        for (name, value) in lines[0].iter().zip(&lines[1]) {
            let word = ["model", "engine", "verdict"].contains(name);
            let empty = ["peak_bytes", "energy_mj"].contains(name);
            assert!(
                word || empty == value.is_empty() && (empty || value.parse::<f64>().is_ok()),
                "{name}: {value}"
            );
        }
        assert_eq!((lines[1][3], lines[1][18]), ("0.0080", "2.5000"));
        assert_eq!(
            lines[2].iter().filter(|value| !value.is_empty()).copied().collect::<Vec<_>>(),
            ["b", "ort", "failed"]
        );
        let markdown = found.markdown();
        assert!(
            markdown.contains("a under ort for 1.0 min") && markdown.contains("slows down"),
            "{markdown}"
        );
    }

    #[test]
    fn what_holds_for_several_rows_is_said_once() {
        let load = |load: f64| format!("the load average was {load:.1} on 2 cores");
        let rows = vec![
            measured("a", &["4 threads are more than the 2 cores", &load(3.0)], 3.0),
            measured("b", &["4 threads are more than the 2 cores", "something", &load(3.5)], 3.5),
        ];
        let expected = "all: 4 threads are more than the 2 cores\nb under ort: something\n\
                        the load average was 3.5 on 2 cores\n";
        assert_eq!(found(rows).notes(), expected);
    }
}
