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

    /// Takes note of a term's value and returns what to multiply it by.
    pub fn factor(&mut self, term: &str, value: f64) -> f64 {
        if self.steps == 0 {
            return 1.0;
        }
        let mean = self.terms.entry(term.to_string()).or_default();
        if (self.step < self.steps || mean.count == 0) && value.is_finite() {
            mean.sum += value;
            mean.count += 1;
        }
        if mean.sum > 0.0 { mean.count as f64 / mean.sum } else { 1.0 }
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
        for value in [4.0, 2.0] {
            scale.factor("pixel", value);
            scale.end_step();
        }
        for _ in 2..100 {
            scale.end_step();
        }
        assert_eq!(scale.factor("pixel", 100.0), 1.0 / 3.0);
        // A term first seen late is still scaled by itself.
        assert_eq!(scale.factor("relation", 0.5), 2.0);
        assert_eq!(scale.factor("relation", 8.0), 2.0);
    }
}
