//! A frozen vision transformer: pre-trained here by masked autoencoding, or read from a file.

use masktas_export::VitArch;

use super::{Features, Teacher};
use crate::error::{Error, Result};
use crate::ops::Precision;
use crate::recipe::Labels;
use crate::supernet::extract::Network;
use crate::supernet::{Visible, block_at, without_class};

/// A teacher whose weights never change.
pub struct Frozen {
    name: &'static str,
    network: Network,
    taps: Vec<usize>,
    labels: Labels,
}

impl Frozen {
    /// A teacher over `network`, read at these shares of its depth by the feature loss.
    pub fn new(name: &'static str, network: Network, layers: &[f64], labels: Labels) -> Self {
        let depth = network.encoder.arch().blocks.len();
        let taps = layers.iter().map(|share| block_at(*share, depth)).collect();
        Self { name, network, taps, labels }
    }

    /// Refuses a teacher that cannot see the student's patches.
    ///
    /// # Errors
    /// [`Error::TeacherGrid`] when image or patch size differ.
    pub fn fits(&self, student: &VitArch) -> Result<()> {
        let own = self.network.encoder.arch();
        if (own.image, own.patch) == (student.image, student.patch) {
            return Ok(());
        }
        Err(Error::TeacherGrid { teacher: (own.image, own.patch), space: (student.image, student.patch) })
    }
}

impl Teacher for Frozen {
    fn name(&self) -> &'static str {
        self.name
    }

    fn width(&self) -> usize {
        self.network.encoder.arch().embed
    }

    fn labels(&self) -> Labels {
        self.labels
    }

    fn features(&self, visible: &Visible, precision: Precision) -> Result<Features> {
        let encoder = &self.network.encoder;
        let leaves = self.network.params.frozen_in(precision);
        let (last, tapped) = encoder.encode_with(&leaves, encoder.arch(), visible, &self.taps, None);
        Ok(Features { last: without_class(last), layers: tapped.into_iter().map(without_class).collect() })
    }
}
