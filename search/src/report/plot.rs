//! A chart with two axes, drawn as SVG by hand. Colours come from the page's style sheet, so a chart
//! follows light, dark and print.

use std::fmt::Write as _;

/// Width and height of a chart that has the page's width, in its own units.
pub const WIDE: [f64; 2] = [900.0, 400.0];
/// The same of one of two charts side by side.
pub const HALF: [f64; 2] = [500.0, 330.0];
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;

/// A chart under construction.
pub struct Plot {
    width: f64,
    height: f64,
    x: [f64; 2],
    y: [f64; 2],
    body: String,
    title: String,
}

impl Plot {
    /// A chart whose axes span at least `x` and `y`; `title` is read to those who cannot see it.
    pub fn new(title: &str, [width, height]: [f64; 2], x: [f64; 2], y: [f64; 2]) -> Plot {
        Plot { width, height, x: room(x), y: room(y), body: String::new(), title: title.to_owned() }
    }

    fn px(&self, x: f64) -> f64 {
        LEFT + (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.width - LEFT - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        self.height - BOTTOM - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.height - TOP - BOTTOM)
    }

    /// The drawn range of x.
    pub fn span(&self) -> [f64; 2] {
        self.x
    }

    /// A dot with a text that shows when it is pointed at.
    pub fn dot(&mut self, x: f64, y: f64, radius: f64, class: &str, text: &str) {
        if x.is_finite() && y.is_finite() {
            let (x, y) = (self.px(x), self.py(y));
            let text = escape(text);
            self.put(format_args!(
                "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"><title>{text}</title></circle>"
            ));
        }
    }

    /// A line through points; points that are not numbers interrupt it.
    pub fn line(&mut self, points: &[(f64, f64)], class: &str) {
        for part in points.split(|(x, y)| !(x.is_finite() && y.is_finite())) {
            let mut path = String::new();
            for (at, (x, y)) in part.iter().enumerate() {
                let command = if at == 0 { 'M' } else { 'L' };
                // Writing to a string cannot fail, here and below.
                let _ = write!(path, "{command}{:.1} {:.1}", self.px(*x), self.py(*y));
            }
            if !path.is_empty() {
                self.put(format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
            }
        }
    }

    /// A closed area.
    pub fn area(&mut self, points: &[(f64, f64)], class: &str) {
        let mut list = String::new();
        for (x, y) in points {
            let _ = write!(list, "{:.1},{:.1} ", self.px(*x), self.py(*y));
        }
        self.put(format_args!("<polygon class=\"{class}\" points=\"{}\"/>", list.trim_end()));
    }

    /// A word above a point, or below it; it turns to the left near the right edge.
    pub fn word(&mut self, x: f64, y: f64, below: bool, text: &str) {
        let (x, y) = (self.px(x), self.py(y) + if below { 19.0 } else { -10.0 });
        let anchor = if x > self.width - 110.0 { "end" } else { "start" };
        let y = y.max(TOP + 4.0);
        let text = escape(text);
        self.put(format_args!(
            "<text class=\"note\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{text}");
    }

    /// The chart with axes, ticks and their names.
    pub fn finish(self, x_name: &str, y_name: &str) -> String {
        let (width, height, title) = (self.width, self.height, escape(&self.title));
        let mut axes = String::new();
        let (left, right, base) = (LEFT, width - RIGHT, height - BOTTOM);
        for value in ticks(self.y) {
            let y = self.py(value);
            let _ = writeln!(
                axes,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            );
            let (x, y) = (left - 8.0, y + 4.0);
            let _ = writeln!(
                axes,
                "<text class=\"tick\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
                tick(value, self.y)
            );
        }
        for value in ticks(self.x) {
            let x = self.px(value);
            let y = base + 18.0;
            let _ = writeln!(
                axes,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                tick(value, self.x)
            );
        }
        let _ =
            writeln!(axes, "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{base}\" y2=\"{base}\"/>");
        let (middle, low) = ((left + right) / 2.0, height - 6.0);
        let _ = writeln!(
            axes,
            "<text class=\"name\" x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">{}</text>",
            escape(x_name)
        );
        let half = (TOP + base) / 2.0;
        let _ = writeln!(
            axes,
            "<text class=\"name\" x=\"14\" y=\"{half}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {half})\">{}</text>",
            escape(y_name)
        );
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\" xmlns=\"http://www.w3.org/2000/svg\">\n{axes}{}</svg>",
            self.body
        )
    }
}

/// A little more than the range, so that no point lies on the frame; never empty.
fn room([low, high]: [f64; 2]) -> [f64; 2] {
    if !(low.is_finite() && high.is_finite()) || low > high {
        return [0.0, 1.0];
    }
    let more = if high > low { 0.06 * (high - low) } else { 0.1 * high.abs().max(1e-9) };
    [low - more, high + more]
}

/// The range of some values; empty gives an inverted range, which [`Plot::new`] mends.
pub fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values
        .filter(|value| value.is_finite())
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)])
}

/// Steps of 1, 2 or 5 times a power of ten: four to eight round values in the range.
fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let step = step([low, high]);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last.min(first + 20)).map(|at| at as f64 * step).collect()
}

fn step([low, high]: [f64; 2]) -> f64 {
    let raw = (high - low) / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= raw).unwrap_or(raw)
}

/// A tick's text, with as many decimals as the step needs and a letter for thousands.
fn tick(value: f64, range: [f64; 2]) -> String {
    let step = step(range);
    let largest = range[0].abs().max(range[1].abs());
    let (scale, letter) = match largest {
        l if l >= 1e9 => (1e9, "G"),
        l if l >= 1e6 => (1e6, "M"),
        l if l >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step / scale).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{:.decimals$}", value / scale);
    let zero = value.abs() < step / 1e3;
    if zero { "0".to_owned() } else { format!("{text}{letter}") }
}

/// Text as it may stand in XML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML allows no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks([0.0, 1.0]), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(tick(0.6000000000000001, [0.0, 1.0]), "0.6");
        assert_eq!(tick(1_500_000.0, [1_000_000.0, 2_500_000.0]), "1.5M");
        assert_eq!(tick(-1e-17, [-1.0, 1.0]), "0");
        for range in [[0.013, 0.0131], [-5.0, 900.0], [1e9, 2e9]] {
            let found = ticks(range);
            assert!((3..=9).contains(&found.len()), "{range:?} {found:?}");
            assert!(found.iter().all(|t| *t >= range[0] && *t <= range[1]));
        }
    }

    #[test]
    fn empty_and_hostile_data_draw() {
        let mut plot = Plot::new("a & <b>", HALF, range(std::iter::empty()), [f64::NAN, 1.0]);
        plot.dot(f64::NAN, 0.5, 3.0, "x", "never");
        plot.dot(0.5, 0.5, 3.0, "x", "\u{1}<script>");
        plot.line(&[(0.0, 0.0), (0.1, f64::INFINITY), (0.2, 0.2)], "y");
        let svg = plot.finish("x", "y");
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("<script>"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 1);
        assert_eq!(svg.matches("<path").count(), 2);
    }
}
