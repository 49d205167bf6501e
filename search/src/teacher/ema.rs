//! The exponential moving average of the largest subnet: a teacher for when there is none (POA, ECCV 2024).

use super::{Features, NamedMatrix, Teacher};
use crate::error::Result;
use crate::ops::Precision;
use crate::recipe::Labels;
use crate::supernet::{Supernet, Visible, block_at, without_class};

/// Follows the supernet's weights slowly.
pub struct Ema {
    average: Supernet,
    decay: f64,
    taps: Vec<usize>,
}

impl Ema {
    /// Starts at the supernet's weights; each step keeps `decay` of the average.
    pub fn new(supernet: &Supernet, decay: f64, layers: &[f64]) -> Self {
        let depth = supernet.encoder.arch().blocks.len();
        let taps = layers.iter().map(|share| block_at(*share, depth)).collect();
        Self { average: supernet.clone(), decay, taps }
    }
}

impl Teacher for Ema {
    fn name(&self) -> &'static str {
        "ema"
    }

    fn width(&self) -> usize {
        self.average.encoder.arch().embed
    }

    fn labels(&self) -> Labels {
        Labels::None
    }

    fn features(&self, visible: &Visible, precision: Precision) -> Result<Features> {
        let encoder = &self.average.encoder;
        let leaves = self.average.params.frozen_in(precision);
        let (last, tapped) = encoder.encode_with(&leaves, encoder.arch(), visible, &self.taps, None);
        Ok(Features { last: without_class(last), layers: tapped.into_iter().map(without_class).collect() })
    }

    fn follow(&mut self, supernet: &Supernet) {
        for slot in self.average.params.slots() {
            let old = self.average.params.value(slot).clone();
            let new = supernet.params.value(slot).clone();
            self.average.params.set(slot, old * self.decay + new * (1.0 - self.decay));
        }
    }

    fn state(&self) -> Result<Vec<NamedMatrix>> {
        self.average.params.to_host()
    }

    fn restore(&mut self, find: &mut dyn FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        self.average.params.load_host(find)
    }
}
