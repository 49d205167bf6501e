//! One number from several components: each is placed among the reference subnets, and the places
//! are averaged.
//!
//! The references are scored once before the search and kept, so a score depends on nothing that
//! comes later, and a committed score never changes. Rank fusion of consistency and reconstruction
//! follows BWSS-TAS (2025).

use serde::{Deserialize, Serialize};

use super::Component;
use crate::error::{Error, Result};

/// Where reference subnets lie, component by component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    axes: Vec<Axis>,
}

/// One component among the references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Axis {
    name: String,
    higher_is_better: bool,
    /// References' values, turned so that higher is better, ascending.
    #[serde(with = "exact")]
    values: Vec<f64>,
}

/// Numbers as text: JSON readers may round a number's last bit, and a score must come back as it was.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

impl Fusion {
    /// Fits to the components of the reference subnets.
    ///
    /// # Errors
    /// Without references, when they differ in their components, or with values that are not finite.
    pub fn fit(references: &[Vec<Component>]) -> Result<Self> {
        let first = references.first().filter(|first| !first.is_empty()).ok_or_else(|| Error::Invalid {
            thing: "score fusion".to_owned(),
            problem: "there are 0 reference subnets with components".to_owned(),
            next: "set score.reference_subnets to at least 2".to_owned(),
        })?;
        let mut axes: Vec<Axis> = first
            .iter()
            .map(|component| Axis {
                name: component.name.clone(),
                higher_is_better: component.higher_is_better,
                values: Vec::with_capacity(references.len()),
            })
            .collect();
        for reference in references {
            same_components(&axes, reference)?;
            for (axis, component) in axes.iter_mut().zip(reference) {
                let value = axis.turned(component)?;
                axis.values.push(value);
            }
        }
        for axis in &mut axes {
            axis.values.sort_by(f64::total_cmp);
        }
        Ok(Self { axes })
    }

    /// The fused score in (0, 1), higher is better: the mean of the components' places.
    ///
    /// A place is the empirical quantile among the references: mid-ranks (rank - 1/2) / n at the
    /// references, ties at their mean, straight lines between. Beyond the last reference the place
    /// goes on rising towards 1 (beyond the first, falling towards 0), with the references' spread as
    /// its scale, so a subnet better than all references still ranks by how much.
    ///
    /// # Errors
    /// When the components are not those of the references, or a value is not finite.
    pub fn fuse(&self, components: &[Component]) -> Result<f64> {
        same_components(&self.axes, components)?;
        let mut sum = 0.0;
        for (axis, component) in self.axes.iter().zip(components) {
            sum += axis.place(axis.turned(component)?);
        }
        Ok(sum / self.axes.len() as f64)
    }
}

impl Axis {
    /// The value with higher as better.
    fn turned(&self, component: &Component) -> Result<f64> {
        if !component.value.is_finite() {
            return Err(Error::Unusable {
                thing: format!("score component {}", component.name),
                problem: format!("its value is {}", component.value),
                next: "train the supernet longer or with a lower supernet.learning_rate".to_owned(),
            });
        }
        // Adding zero turns -0 into 0, so that equal values are equal in every order.
        Ok(if self.higher_is_better { component.value } else { -component.value } + 0.0)
    }

    /// Mid-rank of the references equal to `values[at]`, as a quantile.
    fn quantile(&self, at: usize) -> f64 {
        let value = self.values[at];
        let below = self.values.partition_point(|other| *other < value);
        let through = self.values.partition_point(|other| *other <= value);
        (below + through) as f64 / 2.0 / self.values.len() as f64
    }

    fn place(&self, value: f64) -> f64 {
        let (Some(&low), Some(&high)) = (self.values.first(), self.values.last()) else { return 0.5 };
        let last = self.values.len() - 1;
        let spread = high - low;
        let scale = if spread > 0.0 && spread.is_finite() { spread } else { low.abs().max(1.0) };
        // t / (1 + t) instead of an exponential: it keeps rising where that would be 1 already.
        let beyond = |distance: f64| {
            let t = distance / scale;
            if t.is_finite() { t / (1.0 + t) } else { 1.0 }
        };
        if value > high {
            let top = self.quantile(last);
            return top + (1.0 - top) * beyond(value - high);
        }
        if value < low {
            let bottom = self.quantile(0);
            return bottom * (1.0 - beyond(low - value));
        }
        let right = self.values.partition_point(|other| *other < value);
        if right == 0 || self.values[right] == value {
            return self.quantile(right);
        }
        let (a, b) = (self.values[right - 1], self.values[right]);
        let (qa, qb) = (self.quantile(right - 1), self.quantile(right));
        qa + (qb - qa) * ((value - a) / (b - a))
    }
}

fn same_components(axes: &[Axis], components: &[Component]) -> Result<()> {
    let alike = axes.len() == components.len()
        && axes
            .iter()
            .zip(components)
            .all(|(axis, c)| axis.name == c.name && axis.higher_is_better == c.higher_is_better);
    if alike {
        return Ok(());
    }
    let names = |names: Vec<&str>| names.join(", ");
    Err(Error::Unusable {
        thing: "score fusion".to_owned(),
        problem: format!(
            "components [{}] where the references have [{}]",
            names(components.iter().map(|component| component.name.as_str()).collect()),
            names(axes.iter().map(|axis| axis.name.as_str()).collect())
        ),
        next: "continue the run with the score it began with".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn component(name: &str, value: f64, higher_is_better: bool) -> Component {
        Component { name: name.to_owned(), value, error: 0.0, higher_is_better }
    }

    fn one(values: &[f64], higher_is_better: bool) -> Fusion {
        let references: Vec<_> =
            values.iter().map(|value| vec![component("a", *value, higher_is_better)]).collect();
        Fusion::fit(&references).expect("fits")
    }

    fn place(fusion: &Fusion, value: f64, higher_is_better: bool) -> f64 {
        fusion.fuse(&[component("a", value, higher_is_better)]).expect("fuses")
    }

    #[test]
    fn places_by_hand() {
        let up = one(&[30.0, 10.0, 20.0, 20.0], true);
        for (value, expected) in [(10.0, 0.125), (20.0, 0.5), (30.0, 0.875), (15.0, 0.3125), (25.0, 0.6875)] {
            assert_eq!(place(&up, value, true), expected, "{value}");
        }
        // Beyond by one spread: half of what is left.
        assert_eq!(place(&up, 50.0, true), 0.9375);
        assert_eq!(place(&up, -10.0, true), 0.0625);
        let down = one(&[30.0, 10.0, 20.0, 20.0], false);
        assert_eq!(place(&down, 10.0, false), 0.875);
    }

    #[test]
    fn the_mean_of_two_components_in_opposite_directions() {
        let references: Vec<_> = (0..4)
            .map(|i| vec![component("error", f64::from(i), false), component("gain", f64::from(i), true)])
            .collect();
        let fusion = Fusion::fit(&references).expect("fits");
        for reference in &references {
            assert_eq!(fusion.fuse(reference).expect("fuses"), 0.5);
        }
        let best = fusion.fuse(&[component("error", 0.0, false), component("gain", 3.0, true)]);
        assert_eq!(best.expect("fuses"), 0.875);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Fusion::fit(&[]).is_err());
        assert!(Fusion::fit(&[vec![]]).is_err());
        assert!(Fusion::fit(&[vec![component("a", f64::NAN, true)]]).is_err());
        assert!(Fusion::fit(&[vec![component("a", 1.0, true)], vec![component("b", 1.0, true)]]).is_err());
        let fusion = one(&[1.0, 2.0], true);
        for wrong in [
            vec![],
            vec![component("b", 1.0, true)],
            vec![component("a", 1.0, false)],
            vec![component("a", f64::INFINITY, true)],
        ] {
            assert!(fusion.fuse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn all_references_alike_still_rank() {
        let fusion = one(&[2.0; 5], true);
        let places: Vec<f64> = [1.0, 2.0, 3.0, 4.0].iter().map(|v| place(&fusion, *v, true)).collect();
        assert_eq!(places[1], 0.5);
        assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
    }

    proptest! {
        #[test]
        fn better_is_higher_within_and_beyond_the_references(
            values in prop::collection::vec(-100i32..100, 1..64),
            a in -300i32..300,
            b in -300i32..300,
        ) {
            prop_assume!(a < b);
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let fusion = one(&values, true);
            let (low, high) = (place(&fusion, f64::from(a), true), place(&fusion, f64::from(b), true));
            prop_assert!(low < high && low > 0.0 && high < 1.0, "{} {}", low, high);
            let mirrored = one(&values, false);
            let mirror = place(&mirrored, f64::from(a), false);
            prop_assert!((low + mirror - 1.0).abs() < 1e-12);
        }

        #[test]
        fn the_same_after_storing_it(values in prop::collection::vec(-1e6..1e6f64, 1..64), probe in -2e6..2e6f64) {
            let fusion = one(&values, true);
            let text = serde_json::to_string(&fusion).expect("json");
            let back: Fusion = serde_json::from_str(&text).expect("json");
            prop_assert_eq!(place(&fusion, probe, true).to_bits(), place(&back, probe, true).to_bits());
        }
    }
}
