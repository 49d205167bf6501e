//! Brings loss terms to comparable size: each is divided by its own mean over the first steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Running means of the terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    terms: BTreeMap<String, Mean>,
    /// Steps the means are taken over; afterwards they stay. 0: terms are left as they are.
    steps: u64,
    step: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Scale {
    /// Means over the first `steps` steps.
    pub fn new(steps: u64) -> Self {
        Self { terms: BTreeMap::new(), steps, step: 0 }
    }

    /// Whether there is a scale: always, but before the first step.
    pub fn known(&self) -> bool {
        self.steps == 0 || !self.terms.is_empty()
    }

    /// Whether a term's value would be taken note of: it is early enough, or the term is new.
    pub fn wants(&self, term: &str) -> bool {
        let new = self.terms.get(term).is_none_or(|mean| mean.count == 0);
        self.steps > 0 && (self.step < self.steps || new)
    }

    /// Takes note of a term's value, if it is wanted.
    pub fn note(&mut self, term: &str, value: f64) {
        if self.wants(term) && value.is_finite() {
            let mean = self.terms.entry(term.to_string()).or_default();
            mean.sum += value;
            mean.count += 1;
        }
    }

    /// What to multiply a term by: one over the mean of what was noted, 1 for a term that was not.
    pub fn factor(&self, term: &str) -> f64 {
        match self.terms.get(term) {
            Some(mean) if mean.sum > 0.0 => mean.count as f64 / mean.sum,
            _ => 1.0,
        }
    }

    /// One optimiser step has passed.
    pub fn end_step(&mut self) {
        self.step += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_become_about_one_and_then_the_scale_stays() {
        let mut scale = Scale::new(100);
        assert!(!scale.known());
        for value in [4.0, 2.0] {
            scale.note("pixel", value);
            assert!(scale.known());
            scale.end_step();
        }
        for _ in 2..100 {
            scale.end_step();
        }
        scale.note("pixel", 100.0);
        assert_eq!(scale.factor("pixel"), 1.0 / 3.0);
        // A term first seen late is scaled by what it was then.
        assert_eq!(scale.factor("relation"), 1.0);
        scale.note("relation", 0.5);
        scale.note("relation", 8.0);
        assert_eq!(scale.factor("relation"), 2.0);
    }
}
