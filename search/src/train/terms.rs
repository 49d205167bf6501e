//! What a step says of its loss. On the CPU that is numbers; on a GPU it stays there until somebody reads it, because
//! reading waits for everything that was asked of the GPU before.

use burn::tensor::Tensor;

use crate::device::is_cpu;
use crate::error::{Error, Result};
use crate::objective::Term;
use crate::supernet::params::to_host;

/// A number, here or on its device.
#[derive(Clone, Debug)]
enum Value {
    Here(f64),
    There(Box<Tensor<1>>),
}

/// The terms of each subnet, in the order of the objective, over a part of a batch or over all of it.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    subnets: Vec<Vec<(&'static str, Value)>>,
}

impl Terms {
    /// Those of one more subnet.
    ///
    /// # Errors
    /// [`Error::Backend`] when the CPU's backend fails.
    pub(crate) fn push(&mut self, terms: &[Term]) -> Result<()> {
        let one = |term: &Term| Ok((term.name, Value::of(&term.loss)?));
        self.subnets.push(terms.iter().map(one).collect::<Result<_>>()?);
        Ok(())
    }

    /// `self += weight * other`, where nothing counts as zeros.
    pub(crate) fn add(&mut self, other: &Self, weight: f64) {
        if self.subnets.is_empty() {
            let zeros = |terms: &Vec<(&'static str, Value)>| {
                terms.iter().map(|(name, _)| (*name, Value::Here(0.0))).collect()
            };
            self.subnets = other.subnets.iter().map(zeros).collect();
        }
        for ((_, sum), (_, value)) in self.subnets.iter_mut().flatten().zip(other.subnets.iter().flatten()) {
            sum.add(value, weight);
        }
    }

    /// One number that is not at hand.
    #[cfg(test)]
    pub(super) fn there(name: &'static str, value: f32) -> Self {
        let value = Tensor::full([1], value, &burn::tensor::Device::flex());
        Self { subnets: vec![vec![(name, Value::There(Box::new(value)))]] }
    }

    /// Whether reading them waits for nothing.
    pub fn at_hand(&self) -> bool {
        self.subnets.iter().flatten().all(|(_, value)| matches!(value, Value::Here(_)))
    }

    /// Names, as often as subnets have the term.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.subnets.iter().flatten().map(|(name, _)| *name)
    }

    /// Brings all numbers here, in one transfer.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device lost them.
    pub(super) fn fetch(&mut self) -> Result<()> {
        let there = |(_, value): &(&'static str, Value)| match value {
            Value::There(tensor) => Some(Tensor::clone(tensor)),
            Value::Here(_) => None,
        };
        let tensors: Vec<Tensor<1>> = self.subnets.iter().flatten().filter_map(there).collect();
        if !tensors.is_empty() {
            let read = to_host(&Tensor::cat(tensors, 0))?;
            let there = |value: &&mut Value| matches!(value, Value::There(_));
            let values = self.subnets.iter_mut().flatten().map(|(_, value)| value);
            for (value, number) in values.filter(there).zip(read) {
                *value = Value::Here(f64::from(number));
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::Diverged`] when one that is here is no number.
    pub(crate) fn check(&self) -> Result<()> {
        let odd = self.here().find(|(_, value)| !value.is_finite());
        odd.map_or(Ok(()), |(term, value)| Err(Error::Diverged { term, value }))
    }

    /// The numbers that are here, all of them after [`Terms::fetch`].
    pub(super) fn here(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.subnets.iter().flatten().filter_map(|(name, value)| match value {
            Value::Here(number) => Some((*name, *number)),
            Value::There(_) => None,
        })
    }

    /// Puts other numbers in place of all, in their order.
    pub(super) fn replace(&mut self, numbers: impl IntoIterator<Item = f64>) {
        for ((_, value), number) in self.subnets.iter_mut().flatten().zip(numbers) {
            *value = Value::Here(number);
        }
    }

    /// Each term's mean over the subnets that have it, by name. Waits for the device where it must.
    ///
    /// # Errors
    /// [`Error::Backend`] when the device lost them, [`Error::Diverged`] when one is no number.
    pub fn read(mut self) -> Result<Vec<(&'static str, f64)>> {
        self.fetch()?;
        self.check()?;
        let mut sums: Vec<(&'static str, f64, u32)> = Vec::new();
        for (name, value) in self.here() {
            match sums.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                None => sums.push((name, value, 1)),
            }
        }
        Ok(sums.into_iter().map(|(name, sum, count)| (name, sum / f64::from(count))).collect())
    }
}

impl Value {
    fn of(loss: &Tensor<1>) -> Result<Self> {
        let loss = loss.clone().inner();
        if !is_cpu(&loss.device()) {
            return Ok(Self::There(Box::new(loss)));
        }
        let value = loss.try_into_scalar::<f32>();
        value.map(|value| Self::Here(f64::from(value))).map_err(|error| Error::Backend(format!("{error:?}")))
    }

    fn add(&mut self, other: &Self, weight: f64) {
        let there = match (&*self, other) {
            (Self::Here(sum), Self::Here(value)) => {
                *self = Self::Here(sum + weight * value);
                return;
            }
            (Self::Here(sum), Self::There(value)) => Tensor::clone(value) * weight + *sum,
            (Self::There(sum), Self::There(value)) => Tensor::clone(sum) + Tensor::clone(value) * weight,
            (Self::There(sum), Self::Here(value)) => Tensor::clone(sum) + weight * value,
        };
        *self = Self::There(Box::new(there));
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn there(value: f32) -> Value {
        Value::There(Box::new(Tensor::full([1], value, &Device::flex())))
    }

    #[test]
    fn numbers_are_read_wherever_they_are() {
        let part = |a, b, c| Terms { subnets: vec![vec![("pixel", a), ("feature", b)], vec![("pixel", c)]] };
        let mut sum = Terms::default();
        sum.add(&part(there(1.0), Value::Here(4.0), there(3.0)), 0.5);
        sum.add(&part(Value::Here(2.0), there(8.0), there(5.0)), 0.5);
        assert!(!sum.at_hand());
        assert_eq!(sum.names().collect::<Vec<_>>(), ["pixel", "feature", "pixel"]);
        assert_eq!(sum.read().unwrap(), [("pixel", (1.5 + 4.0) / 2.0), ("feature", 6.0)]);
        let mixed = part(Value::Here(1.0), there(2.0), Value::Here(3.0));
        assert_eq!(mixed.read().unwrap(), [("pixel", 2.0), ("feature", 2.0)]);
    }

    #[test]
    fn what_is_no_number_is_named() {
        let mut terms = Terms::default();
        let part = Terms { subnets: vec![vec![("pixel", there(1.0)), ("feature", there(f32::NAN))]] };
        terms.add(&part, 1.0);
        assert!(matches!(terms.read(), Err(Error::Diverged { term: "feature", .. })));
    }
}
