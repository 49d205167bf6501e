//! Tables of plain text, and numbers as people read them.

use crate::style::{Paint, Style};

/// Rows under a head. Numbers are set to the right.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// One entry of a table.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    paint: Option<Paint>,
}

impl Cell {
    /// An entry that is set off.
    pub fn painted(text: impl Into<String>, paint: Paint) -> Cell {
        Cell { text: text.into(), paint: Some(paint) }
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell { text: text.into(), paint: None }
    }
}

impl Table {
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|text| (*text).to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines, each with an end.
    pub fn show(&self, style: Style) -> String {
        let width = |column: usize| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
            cells.chain(self.head.get(column).map(|text| text.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let right: Vec<bool> = (0..self.head.len()).map(|column| self.is_numeric(column)).collect();
        let mut out = String::new();
        let head: Vec<Cell> = self.head.iter().map(|text| Cell::painted(text.clone(), Paint::Bold)).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
                let space = " ".repeat(width.saturating_sub(cell.text.chars().count()));
                let text = match cell.paint {
                    Some(paint) => style.paint(paint, &cell.text),
                    None => cell.text.clone(),
                };
                line.push_str(&if *right { format!("{space}{text}") } else { format!("{text}{space}") });
                line.push_str("  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn is_numeric(&self, column: usize) -> bool {
        let digit = |cell: &Cell| {
            cell.text == "-"
                || cell.text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        };
        !self.rows.is_empty() && self.rows.iter().filter_map(|row| row.get(column)).all(digit)
    }
}

/// A text in lines of at most `width` letters where its words allow; lines after the first begin with `indent` blanks.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        if length == 0 {
            length = letters;
        } else if length + 1 + letters <= width {
            out.push(' ');
            length += 1 + letters;
        } else {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            length = indent + letters;
        }
        out.push_str(word);
    }
    out
}

/// `1,413` for 1413.
pub fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `3.5 MB` for 3521861.
pub fn bytes(value: u64) -> String {
    let scales = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match scales.iter().find(|(scale, _)| value as f64 >= *scale) {
        Some((scale, unit)) => format!("{:.1} {unit}", value as f64 / scale),
        None => format!("{value} bytes"),
    }
}

/// `3 m 20 s` for 200 seconds.
pub fn seconds(value: f64) -> String {
    let whole = value.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_left_and_numbers_right() {
        let mut table = Table::new(&["engine", "ms"]);
        table.row(vec!["ort".into(), "10.25".into()]);
        table.row(vec!["tract".into(), "9.1".into()]);
        assert_eq!(table.show(Style::PLAIN), "engine     ms\nort     10.25\ntract     9.1\n");
    }

    #[test]
    fn long_texts_are_wrapped_between_words() {
        assert_eq!(wrap("one two  three", 7, 2), "one two\n  three");
        assert_eq!(wrap("https://long.example/ a", 5, 1), "https://long.example/\n a");
        assert_eq!(wrap("", 5, 1), "");
    }

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!([count(7), count(1413), count(1234567)], ["7", "1,413", "1,234,567"]);
        assert_eq!([bytes(12), bytes(3_521_861)], ["12 bytes", "3.5 MB"]);
        assert_eq!([seconds(59.4), seconds(200.0), seconds(7325.0)], ["59 s", "3 m 20 s", "2 h 02 m"]);
    }
}
