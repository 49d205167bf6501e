//! Budgets: limits on latency, parameters and operations, and what a space can do under them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::rand::stream;
use crate::recipe::BudgetChoice;
use crate::sampler::Budget;
use crate::space::{Genes, Space};

/// Random members measured, beside the corners, to bound a cost that need not be monotone.
pub const INTERVAL_SAMPLES: usize = 256;

/// Members from which a member within all limits is descended to.
const DESCENTS: usize = 3;

/// Steps of one descent.
const STEPS: usize = 64;

/// Least gain of a step: what is smaller is rounding.
const GAIN: f64 = 1e-9;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Predicted latency, in milliseconds.
    Latency,
    /// Parameters of the encoder.
    Params,
    /// Floating-point operations of one image, two per multiply-add.
    Flops,
}

impl Kind {
    /// The command line's word, without dashes.
    pub fn key(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Params => "params",
            Self::Flops => "flops",
        }
    }

    /// A value of this kind as people read it, three significant digits: `5.00 ms`, `2.33M parameters`.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Latency => format!("{} ms", digits(value)),
            Self::Params => format!("{} parameters", scaled(value)),
            Self::Flops => format!("{}FLOP", scaled(value)),
        }
    }

    /// The same as the command line takes it: `5.00ms`, `2.33M`.
    pub fn write(self, value: f64) -> String {
        match self {
            Self::Latency => format!("{}ms", digits(value)),
            Self::Params | Self::Flops => scaled(value),
        }
    }
}

/// Three significant digits and a letter for thousands, millions and so on.
fn scaled(value: f64) -> String {
    let scales = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What would round to 1000 of one letter is 1.00 of the next.
    let (scale, letter) = scales.into_iter().find(|(scale, _)| value >= *scale * 0.9995).unwrap_or((1.0, ""));
    format!("{}{letter}", digits(value / scale))
}

/// Three significant digits, without an exponent.
fn digits(value: f64) -> String {
    let exponent = format!("{value:.2e}");
    let magnitude: i32 = exponent.rsplit('e').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let decimals = (2 - magnitude).clamp(0, 9) as usize;
    format!("{value:.decimals$}")
}

/// The most that one kind of cost may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited.
    pub kind: Kind,
    /// The most allowed, in the kind's unit.
    pub most: f64,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{} {}", self.kind.key(), self.kind.write(self.most))
    }
}

impl Limit {
    /// Reads `5ms`, `800us`, `0.01s`; `2.1M`, `800k`, `2100000`; `0.3G`, `300MFLOPs`.
    ///
    /// # Errors
    /// Without a number above 0, or with a unit of another kind.
    pub fn parse(kind: Kind, text: &str) -> Result<Self> {
        let text = text.trim();
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let unit = unit.trim();
        let example = match kind {
            Kind::Latency => "--latency 5ms (us, ms or s)",
            Kind::Params => "--params 2.1M (k, M or G)",
            Kind::Flops => "--flops 0.3G (k, M, G or T; two per multiply-add)",
        };
        let refuse = |problem: String| Error::Invalid {
            thing: format!("--{} {text}", kind.key()),
            problem,
            next: format!("write {example}"),
        };
        let Ok(number) = number.parse::<f64>() else {
            return Err(refuse("it does not begin with a number above 0".to_owned()));
        };
        let scale = match kind {
            Kind::Latency => match unit {
                "us" | "µs" | "μs" => 1e-3,
                "ms" => 1.0,
                "s" => 1e3,
                "" => return Err(refuse("it has no unit".to_owned())),
                _ => return Err(refuse(format!("`{unit}` is not a unit of time"))),
            },
            Kind::Params | Kind::Flops => {
                let lower = unit.to_ascii_lowercase();
                let bare = match kind {
                    Kind::Flops => {
                        lower.strip_suffix("flops").or(lower.strip_suffix("flop")).unwrap_or(&lower)
                    }
                    _ => &lower,
                };
                match bare.trim_end() {
                    "" => 1.0,
                    "k" => 1e3,
                    "m" => 1e6,
                    "g" | "b" => 1e9,
                    "t" if kind == Kind::Flops => 1e12,
                    _ => return Err(refuse(format!("`{unit}` is not a multiple"))),
                }
            }
        };
        let most = number * scale;
        if !(most > 0.0 && most.is_finite()) {
            return Err(refuse(format!("{number} is not a number above 0")));
        }
        Ok(Self { kind, most })
    }

    /// The limits of a recipe: latency first, then parameters, then operations.
    ///
    /// # Errors
    /// Those of [`Limit::parse`].
    pub fn all(choice: &BudgetChoice) -> Result<Vec<Self>> {
        let given =
            [(Kind::Latency, &choice.latency), (Kind::Params, &choice.params), (Kind::Flops, &choice.flops)];
        given.into_iter().filter_map(|(kind, text)| Some(Self::parse(kind, text.as_ref()?))).collect()
    }
}

/// What the members of a space cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The kind of cost.
    pub kind: Kind,
    /// The least, in the kind's unit.
    pub low: f64,
    /// The most, in the kind's unit.
    pub high: f64,
    /// Id of a member that costs the least.
    pub low_id: String,
    /// Id of a member that costs the most.
    pub high_id: String,
    /// Whether no member lies outside. False for a latency: it is taken from the corners and a random
    /// sample.
    pub exact: bool,
}

/// Where a limit lies in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing fits.
    Below,
    /// Some members fit, or all but the costliest.
    Inside,
    /// Everything fits: the limit limits nothing.
    Above,
}

impl Interval {
    /// Where `limit` lies.
    pub fn place(&self, limit: f64) -> Place {
        if limit < self.low {
            Place::Below
        } else if limit >= self.high {
            Place::Above
        } else {
            Place::Inside
        }
    }
}

/// Says what a member costs; a latency model, bound to its target.
pub type Cost<'a> = dyn Fn(&Genes) -> Result<f64> + 'a;

/// What looking for a member within all limits came to.
#[derive(Clone)]
enum Met {
    /// A member within all of them.
    Within(Genes),
    /// The one that comes nearest, of `looked` members.
    Nearest { genes: Genes, looked: usize },
}

/// The limits of a search on one space, and the cost its front is drawn over.
pub struct SearchBudget<'a> {
    space: &'a dyn Space,
    axis: Kind,
    limits: Vec<Limit>,
    latency: Option<&'a Cost<'a>>,
    /// Of the last look: what was promised before the training is what the sampler begins with.
    met: RefCell<Option<Met>>,
}

impl<'a> SearchBudget<'a> {
    /// All of `limits` must hold. The front's cost is the latency when a model is given, else what
    /// the first limit speaks of, else parameters.
    ///
    /// # Errors
    /// With a limit on latency but no latency model.
    pub fn new(space: &'a dyn Space, limits: Vec<Limit>, latency: Option<&'a Cost<'a>>) -> Result<Self> {
        if let (Some(limit), None) = (limits.iter().find(|limit| limit.kind == Kind::Latency), latency) {
            return Err(Error::Invalid {
                thing: limit.to_string(),
                problem: "there is no latency model".to_owned(),
                next: "profile the target first".to_owned(),
            });
        }
        let first = limits.first().map_or(Kind::Params, |limit| limit.kind);
        let axis = if latency.is_some() { Kind::Latency } else { first };
        Ok(Self { space, axis, limits, latency, met: RefCell::new(None) })
    }

    /// The cost the front is drawn over.
    pub fn axis(&self) -> Kind {
        self.axis
    }

    /// The limits.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// One kind of cost of a member, in that kind's unit.
    ///
    /// # Errors
    /// The latency model's, a cost that is not a number of at least 0, and a space without that cost.
    pub fn measure(&self, kind: Kind, genes: &Genes) -> Result<f64> {
        let cost = match kind {
            Kind::Latency => match self.latency {
                Some(latency) => Some(latency(genes)?),
                None => None,
            },
            Kind::Params => self.space.parameters(genes).map(|count| count as f64),
            Kind::Flops => self.space.flops(genes).map(|count| count as f64),
        };
        let Some(cost) = cost else {
            return Err(Error::NotSupported {
                thing: format!("--{}", kind.key()),
                reason: format!("space {} does not say what its members cost", self.space.name()),
                next: "limit something else".to_owned(),
            });
        };
        if !(cost.is_finite() && cost >= 0.0) {
            return Err(Error::Unusable {
                thing: format!("{} of {}", kind.key(), self.space.id(genes)),
                problem: format!("{cost} is not a number of at least 0"),
                next: "profile the target again".to_owned(),
            });
        }
        Ok(cost)
    }

    /// What the space's members cost.
    ///
    /// Parameters and operations grow with every gene, so their ends are those of the smallest and
    /// the largest member: exact. A latency is bounded by all corners and [`INTERVAL_SAMPLES`] random
    /// members of the stream `interval` under `seed`.
    ///
    /// # Errors
    /// Those of [`SearchBudget::measure`].
    pub fn interval(&self, kind: Kind, seed: u64) -> Result<Interval> {
        let exact = kind != Kind::Latency;
        let mut members = self.space.corners();
        if exact {
            members.truncate(2);
        } else {
            let mut rng = stream(seed, "interval", 0);
            members.extend((0..INTERVAL_SAMPLES).map(|_| self.space.sample(&mut rng)));
        }
        let mut interval: Option<Interval> = None;
        for genes in &members {
            let cost = self.measure(kind, genes)?;
            let id = || self.space.id(genes);
            let interval = interval.get_or_insert_with(|| Interval {
                kind,
                low: cost,
                high: cost,
                low_id: id(),
                high_id: id(),
                exact,
            });
            if cost < interval.low {
                (interval.low, interval.low_id) = (cost, id());
            }
            if cost > interval.high {
                (interval.high, interval.high_id) = (cost, id());
            }
        }
        interval.ok_or_else(|| Error::Invalid {
            thing: format!("space {}", self.space.name()),
            problem: "it has 0 corners".to_owned(),
            next: "give it at least one member".to_owned(),
        })
    }

    /// The interval of the front's cost and of every limit, before anything is trained.
    ///
    /// A limit above its interval is no error: everything fits, which [`Interval::place`] says.
    ///
    /// # Errors
    /// [`Error::Infeasible`] when nothing fits a limit, [`Error::Together`] when no member was found that fits all of
    /// them; those of [`SearchBudget::measure`].
    pub fn intervals(&self, seed: u64) -> Result<Vec<Interval>> {
        let mut kinds = vec![self.axis];
        kinds.extend(self.limits.iter().map(|limit| limit.kind).filter(|kind| *kind != self.axis));
        let intervals: Vec<Interval> =
            kinds.into_iter().map(|kind| self.interval(kind, seed)).collect::<Result<_>>()?;
        for limit in &self.limits {
            let interval = intervals.iter().find(|interval| interval.kind == limit.kind);
            if let Some(interval) = interval.filter(|interval| interval.place(limit.most) == Place::Below) {
                return Err(self.refusal(limit, interval));
            }
        }
        match self.look(seed)? {
            Some(Met::Nearest { genes, looked }) => Err(self.apart(&genes, looked)?),
            _ => Ok(intervals),
        }
    }

    /// Looks for one member within all limits, as [`SearchBudget::descent`] does, and remembers what that came to.
    /// `None` without limits or members.
    ///
    /// # Errors
    /// Those of [`SearchBudget::measure`].
    fn look(&self, seed: u64) -> Result<Option<Met>> {
        if self.limits.is_empty() {
            return Ok(None);
        }
        let met = self.descent(seed)?;
        self.met.replace(met.clone());
        Ok(met)
    }

    /// What the last look came to; looks, under seed 0, when nobody did.
    fn met(&self) -> Result<Option<Met>> {
        let met = self.met.borrow().clone();
        if met.is_some() { Ok(met) } else { self.look(0) }
    }

    /// The first member within all limits: of the corners, the uniform members and the random ones of
    /// [`SearchBudget::interval`], then down from the nearest of these, one gene at a time.
    fn descent(&self, seed: u64) -> Result<Option<Met>> {
        let mut members = self.space.corners();
        members.extend(self.space.uniform());
        let mut rng = stream(seed, "interval", 0);
        members.extend((0..INTERVAL_SAMPLES).map(|_| self.space.sample(&mut rng)));
        let mut seen = BTreeSet::new();
        let mut starts: Vec<(f64, Genes)> = Vec::new();
        for genes in members {
            if seen.insert(genes.clone()) {
                let excess = self.excess(&genes)?;
                if excess <= 0.0 {
                    return Ok(Some(Met::Within(genes)));
                }
                starts.push((excess, genes));
            }
        }
        // Of equals the first stays first.
        starts.sort_by(|a, b| a.0.total_cmp(&b.0));
        starts.truncate(DESCENTS);
        let mut nearest: Option<(f64, Genes)> = None;
        for (mut excess, mut genes) in starts {
            for _ in 0..STEPS {
                let mut best: Option<(f64, Genes)> = None;
                for neighbour in self.space.neighbours(&genes) {
                    if !seen.insert(neighbour.clone()) {
                        continue;
                    }
                    let over = self.excess(&neighbour)?;
                    if over <= 0.0 {
                        return Ok(Some(Met::Within(neighbour)));
                    }
                    if best.as_ref().is_none_or(|(least, _)| over < *least) {
                        best = Some((over, neighbour));
                    }
                }
                match best {
                    Some((over, neighbour)) if over < excess - GAIN => (excess, genes) = (over, neighbour),
                    _ => break,
                }
            }
            if nearest.as_ref().is_none_or(|(least, _)| excess < *least) {
                nearest = Some((excess, genes));
            }
        }
        Ok(nearest.map(|(_, genes)| Met::Nearest { genes, looked: seen.len() }))
    }

    /// The refusal of limits that `nearest`, of `looked` members, comes nearest to.
    fn apart(&self, nearest: &Genes, looked: usize) -> Result<Error> {
        let (mut limits, mut costs, mut enough) = (Vec::new(), Vec::new(), Vec::new());
        for limit in &self.limits {
            let cost = self.measure(limit.kind, nearest)?;
            limits.push(limit.to_string());
            costs.push(limit.kind.show(cost));
            if cost > limit.most {
                // One digit up, as in `refusal`.
                enough.push(Limit { kind: limit.kind, most: cost * 1.01 }.to_string());
            }
        }
        Ok(Error::Together {
            space: self.space.name().into(),
            limits: limits.join(" and ").into(),
            looked,
            nearest: self.space.id(nearest),
            costs: costs.join(" and "),
            next: format!("try {}", enough.join(" and ")),
        })
    }

    /// The refusal of a limit below its interval.
    fn refusal(&self, limit: &Limit, interval: &Interval) -> Error {
        // One digit up: the interval's end is rounded for people, the advice must still work.
        let enough = Limit { kind: limit.kind, most: interval.low * 1.01 };
        Error::Infeasible {
            space: self.space.name().into(),
            limit: limit.to_string(),
            low: limit.kind.show(interval.low),
            high: limit.kind.show(interval.high),
            next: format!("try {enough}, or a smaller space"),
        }
    }

    /// Why nothing fits: one limit that nothing meets, or limits that nothing found meets together.
    fn why(&self) -> Result<Error> {
        for limit in &self.limits {
            let interval = self.interval(limit.kind, 0)?;
            if interval.place(limit.most) == Place::Below {
                return Ok(self.refusal(limit, &interval));
            }
        }
        match self.met()? {
            Some(Met::Nearest { genes, looked }) => self.apart(&genes, looked),
            _ => Ok(Error::Invalid {
                thing: format!("space {}", self.space.name()),
                problem: "it has 0 members to propose".to_owned(),
                next: "give it at least one".to_owned(),
            }),
        }
    }
}

impl Budget for SearchBudget<'_> {
    fn cost(&self, genes: &Genes) -> Result<f64> {
        self.measure(self.axis, genes)
    }

    fn allows(&self, genes: &Genes) -> Result<bool> {
        for limit in &self.limits {
            if self.measure(limit.kind, genes)? > limit.most {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The sum over the limits of ln(cost / limit) where that is above 0.
    fn excess(&self, genes: &Genes) -> Result<f64> {
        let mut sum = 0.0;
        for limit in &self.limits {
            sum += (self.measure(limit.kind, genes)? / limit.most).ln().max(0.0);
        }
        Ok(sum)
    }

    fn known(&self) -> Result<Option<Genes>> {
        Ok(match self.met()? {
            Some(Met::Within(genes)) => Some(genes),
            _ => None,
        })
    }

    fn infeasible(&self) -> Error {
        self.why().unwrap_or_else(|error| error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::VitSpace;

    fn micro() -> VitSpace {
        VitSpace::load("vit-micro").expect("space")
    }

    #[test]
    fn limits_as_people_write_them() {
        let cases = [
            (Kind::Latency, "5ms", 5.0),
            (Kind::Latency, " 5 ms ", 5.0),
            (Kind::Latency, "800us", 0.8),
            (Kind::Latency, "0.01s", 10.0),
            (Kind::Params, "2.1M", 2.1e6),
            (Kind::Params, "2100000", 2.1e6),
            (Kind::Params, "800k", 8e5),
            (Kind::Flops, "0.3G", 3e8),
            (Kind::Flops, "300 MFLOPs", 3e8),
            (Kind::Flops, "1T", 1e12),
        ];
        for (kind, text, expected) in cases {
            let limit = Limit::parse(kind, text).expect(text);
            assert!((limit.most / expected - 1.0).abs() < 1e-12, "{text}: {}", limit.most);
        }
        for (kind, text, expected) in [
            (Kind::Latency, "5", "no unit"),
            (Kind::Latency, "5M", "`M` is not a unit of time"),
            (Kind::Latency, "ms", "number above 0"),
            (Kind::Latency, "-5ms", "number above 0"),
            (Kind::Latency, "0ms", "0 is not a number above 0"),
            (Kind::Latency, "1.2.3ms", "number above 0"),
            (Kind::Params, "5ms", "`ms` is not a multiple"),
            (Kind::Params, "", "number above 0"),
            (Kind::Flops, "5GMACs", "two per multiply-add"),
            (Kind::Flops, "infG", "number above 0"),
        ] {
            let error = Limit::parse(kind, text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn values_as_people_read_them() {
        let cases = [
            (Kind::Latency, 5.0, "5.00 ms"),
            (Kind::Latency, 0.04321, "0.0432 ms"),
            (Kind::Latency, 1234.6, "1235 ms"),
            (Kind::Params, 2_330_000.0, "2.33M parameters"),
            (Kind::Params, 999_900.0, "1.00M parameters"),
            (Kind::Flops, 3.1e8, "310MFLOP"),
            (Kind::Flops, 12.0, "12.0FLOP"),
            (Kind::Latency, 0.0, "0.00 ms"),
            (Kind::Latency, 9.999, "10.0 ms"),
        ];
        for (kind, value, expected) in cases {
            assert_eq!(kind.show(value), expected);
        }
        assert_eq!(Limit { kind: Kind::Latency, most: 5.0 }.to_string(), "--latency 5.00ms");
    }

    #[test]
    fn parameter_intervals_are_exact_and_too_small_a_budget_gives_them() {
        let space = micro();
        let budget = |text: &str| {
            let limit = Limit::parse(Kind::Params, text).expect("limit");
            SearchBudget::new(&space, vec![limit], None).expect("budget")
        };
        let interval = budget("1M").interval(Kind::Params, 0).expect("interval");
        assert!(interval.exact);
        assert_eq!(interval.low as u64, space.parameters(&space.smallest()).expect("counted"));
        assert_eq!(interval.high as u64, space.parameters(&space.largest()).expect("counted"));
        assert_eq!(interval.low_id, space.id(&space.smallest()));
        assert_eq!(budget("1M").intervals(0).expect("feasible").len(), 1);
        assert_eq!(interval.place(1e9), Place::Above);
        assert_eq!(interval.place(interval.low), Place::Inside);
        let error = budget("0.1M").intervals(0).expect_err("infeasible").to_string();
        for part in
            ["vit-micro", "--params 100k:", "386k parameters", "2.33M parameters", "try --params 389k"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        // The advice works.
        assert!(budget("389k").intervals(0).is_ok());
    }

    #[test]
    fn latency_intervals_find_ends_that_are_no_corner() {
        let space = micro();
        // Dearest at mixed genes, which no corner is.
        let odd = |genes: &Genes| Ok(1.0 + genes.values.iter().filter(|value| **value == 1).count() as f64);
        let budget = SearchBudget::new(&space, vec![], Some(&odd)).expect("budget");
        let interval = budget.interval(Kind::Latency, 7).expect("interval");
        assert!(!interval.exact && interval.low == 1.0 && interval.high > 5.0, "{interval:?}");
        assert_eq!(interval, budget.interval(Kind::Latency, 7).expect("again"));
        assert_eq!(budget.axis(), Kind::Latency);
    }

    #[test]
    fn all_limits_hold_and_the_model_is_not_trusted_blindly() {
        let space = micro();
        let slow = |_: &Genes| Ok(3.0);
        let limits = ["4ms", "1M"];
        let limits = [
            Limit::parse(Kind::Latency, limits[0]).expect("limit"),
            Limit::parse(Kind::Params, limits[1]).expect("limit"),
        ];
        let budget = SearchBudget::new(&space, limits.to_vec(), Some(&slow)).expect("budget");
        assert!(budget.allows(&space.smallest()).expect("known"));
        assert!(!budget.allows(&space.largest()).expect("known"));
        assert_eq!(budget.cost(&space.largest()).expect("known"), 3.0);
        assert_eq!(budget.intervals(0).expect("feasible").len(), 2);
        assert!(SearchBudget::new(&space, limits.to_vec(), None).is_err());
        let broken = |_: &Genes| Ok(f64::NAN);
        let budget = SearchBudget::new(&space, vec![], Some(&broken)).expect("budget");
        assert!(budget.cost(&space.smallest()).expect_err("NaN").to_string().contains("NaN"));
    }

    /// A latency that falls with the parameters: what one limit allows, the other forbids.
    #[test]
    fn limits_that_hold_only_apart_are_found() {
        let space = micro();
        let falling = |genes: &Genes| Ok(1e6 / space.parameters(genes).unwrap_or(1) as f64);
        let limits = |latency: &str, params: &str| {
            vec![
                Limit::parse(Kind::Latency, latency).expect("limit"),
                Limit::parse(Kind::Params, params).expect("limit"),
            ]
        };
        // Above 833k and below 1M parameters there are many.
        let budget = SearchBudget::new(&space, limits("1.2ms", "1M"), Some(&falling)).expect("budget");
        assert_eq!(budget.intervals(0).expect("feasible").len(), 2);
        // Above 1.67M and below 1M there are none.
        let budget = SearchBudget::new(&space, limits("0.6ms", "1M"), Some(&falling)).expect("budget");
        for limit in budget.limits() {
            let alone = SearchBudget::new(&space, vec![*limit], Some(&falling)).expect("budget");
            assert!(alone.intervals(0).is_ok(), "{limit}");
        }
        let error = budget.intervals(0).expect_err("no member has both");
        let text = error.to_string();
        for part in ["vit-micro", "--latency 0.600ms and --params 1.00M together", " ms and ", "; try --"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text, budget.intervals(0).expect_err("again").to_string());
        let Error::Together { nearest, looked, .. } = &error else { panic!("{text}") };
        assert!(*looked > INTERVAL_SAMPLES && text.contains(&looked.to_string()), "{text}");
        // It is nearer than the ends of the space, and with limits that it meets there is no refusal.
        let genes = space.parse(nearest).expect("a member");
        let excess = |genes: &Genes| budget.excess(genes).expect("known");
        assert!(excess(&genes) <= excess(&space.smallest()).min(excess(&space.largest())));
        let enough = |limit: &Limit| {
            let cost = budget.measure(limit.kind, &genes).expect("known");
            Limit { kind: limit.kind, most: limit.most.max(1.01 * cost) }
        };
        let enough: Vec<Limit> = budget.limits().iter().map(enough).collect();
        let budget = SearchBudget::new(&space, enough, Some(&falling)).expect("budget");
        assert!(budget.intervals(0).is_ok());
    }

    #[test]
    fn limits_of_a_recipe_come_in_order() {
        let choice =
            BudgetChoice { latency: Some("5ms".to_owned()), params: None, flops: Some("1G".to_owned()) };
        let kinds: Vec<Kind> = Limit::all(&choice).expect("limits").iter().map(|limit| limit.kind).collect();
        assert_eq!(kinds, [Kind::Latency, Kind::Flops]);
        let wrong = BudgetChoice { latency: Some("fast".to_owned()), ..BudgetChoice::default() };
        assert!(Limit::all(&wrong).is_err());
    }
}
