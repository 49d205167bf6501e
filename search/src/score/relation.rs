//! The label-free score of MaskTAS: how well a subnet's token relations agree with the teacher's,
//! beside how well it guesses masked patches (BWSS-TAS fuses both).
//!
//! All candidates are read on one frozen list of images and masks, so that their differences are
//! theirs and not the list's.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Component, Score};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::objective::terms;
use crate::rand::{Draw, stream};
use crate::recipe;
use crate::space::{Genes, VitSpace};
use crate::supernet::params::to_host;
use crate::supernet::{Leaves, Mask, MaskedBatch, Supernet};
use crate::teacher::Teacher;
use crate::train::Lanes;

/// Divergence of the subnet's token relations from the teacher's, in nats; lower is better.
pub const RELATION: &str = "relation";
/// Squared error of the guessed patches, each normalised to variance 1; lower is better.
pub const RECONSTRUCTION: &str = "reconstruction";

/// Rates members of a [`VitSpace`] with a trained supernet.
pub struct RelationConsistency {
    supernet: Supernet,
    leaves: Leaves,
    space: VitSpace,
    list: Vec<Entry>,
    images: usize,
    tau: f64,
    reconstruction: bool,
    lanes: Arc<Lanes>,
}

/// A batch of the frozen list.
struct Entry {
    batch: MaskedBatch,
    /// The teacher's features, `[batch, seen, width]`.
    teacher: Tensor<3>,
    /// Which image of the list each row shows.
    image: Vec<usize>,
}

impl RelationConsistency {
    /// Freezes the list: `settings.images` val images drawn by `seed`, `settings.masks` masks each,
    /// and the teacher's view of them.
    ///
    /// # Errors
    /// When there are no val images or the device fails.
    pub fn new(
        supernet: Supernet,
        teacher: &dyn Teacher,
        space: VitSpace,
        images: &Images,
        settings: &recipe::Score,
        seed: u64,
        lanes: Arc<Lanes>,
    ) -> Result<Self> {
        let arch = supernet.encoder.arch().clone();
        let mut chosen = images.split().val.clone();
        stream(seed, "score/images", 0).shuffle(&mut chosen);
        chosen.truncate(settings.images.max(1));
        let mut rows: Vec<(usize, u32, Mask)> = Vec::new();
        for mask in 0..settings.masks.max(1) {
            let mut rng = stream(seed, "score/masks", mask as u64);
            for (place, index) in chosen.iter().enumerate() {
                rows.push((place, *index, Mask::draw(&mut rng, arch.patches(), settings.mask_ratio)));
            }
        }
        let device = supernet.params.device().clone();
        let parts: Vec<&[(usize, u32, Mask)]> = rows.chunks(settings.batch.max(1)).collect();
        let list = lanes.map(parts, |rows| {
            let indices: Vec<u32> = rows.iter().map(|(_, index, _)| *index).collect();
            let masks: Vec<Mask> = rows.iter().map(|(.., mask)| mask.clone()).collect();
            let mut pixels = vec![0.0; indices.len() * images.numbers()];
            images.plain(&indices, &mut pixels)?;
            let batch = MaskedBatch::new(&pixels, &masks, &arch, &device);
            let teacher = teacher.features(&batch.visible)?.last;
            Ok(Entry { batch, teacher, image: rows.iter().map(|(place, ..)| *place).collect() })
        })?;
        let leaves = supernet.params.frozen();
        let (images, tau) = (chosen.len(), settings.temperature);
        Ok(Self { supernet, leaves, space, list, images, tau, reconstruction: true, lanes })
    }

    /// The same without the second component.
    pub fn without_reconstruction(self) -> Self {
        Self { reconstruction: false, ..self }
    }

    /// Relation divergence and reconstruction error, row by row of the list.
    fn rate_one(&self, genes: &Genes) -> Result<Vec<Component>> {
        let arch = self.space.vit(genes);
        let read = |entry: &Entry| -> Result<(Vec<f32>, Vec<f32>)> {
            let encoded = self.supernet.encode(&self.leaves, &arch, &entry.batch.visible, false);
            let relation = terms::relation_each(encoded.patches(), entry.teacher.clone(), self.tau);
            if !self.reconstruction {
                return Ok((to_host(&relation)?, Vec::new()));
            }
            let guess = self.supernet.decode(&self.leaves, &encoded, &entry.batch);
            let [batch, masked, width] = guess.dims();
            let error = (guess - entry.batch.target.clone()).square();
            let error = error.reshape([batch, masked * width]).mean_dim(1).reshape([batch]);
            Ok((to_host(&relation)?, to_host(&error)?))
        };
        let rows = self.lanes.map(self.list.iter().collect(), read)?;
        let mut relation = vec![0.0; self.images];
        let mut reconstruction = vec![0.0; self.images];
        for (entry, (a, b)) in self.list.iter().zip(&rows) {
            for (sums, values) in [(&mut relation, a), (&mut reconstruction, b)] {
                for (image, value) in entry.image.iter().zip(values) {
                    sums[*image] += f64::from(*value);
                }
            }
        }
        let masks =
            self.list.iter().map(|entry| entry.image.len()).sum::<usize>() as f64 / self.images as f64;
        let component = |name: &str, sums: &[f64]| -> Result<Component> {
            let (value, error) = mean_and_error(sums, masks);
            if !value.is_finite() {
                return Err(Error::Backend(format!("{name} of {} became {value}", self.space_id(genes))));
            }
            Ok(Component { name: name.to_string(), value, error, higher_is_better: false })
        };
        let mut components = vec![component(RELATION, &relation)?];
        if self.reconstruction {
            components.push(component(RECONSTRUCTION, &reconstruction)?);
        }
        Ok(components)
    }

    fn space_id(&self, genes: &Genes) -> String {
        use crate::space::Space as _;
        self.space.id(genes)
    }
}

impl Score for RelationConsistency {
    fn components(&self) -> Vec<&'static str> {
        if self.reconstruction { vec![RELATION, RECONSTRUCTION] } else { vec![RELATION] }
    }

    fn rate(&mut self, batch: &[Genes]) -> Result<Vec<Vec<Component>>> {
        batch.iter().map(|genes| self.rate_one(genes)).collect()
    }
}

/// Mean over images of each image's mean over masks, and its standard error over images.
fn mean_and_error(sums: &[f64], masks: f64) -> (f64, f64) {
    let n = sums.len() as f64;
    let mean = sums.iter().sum::<f64>() / n / masks;
    let variance = sums.iter().map(|sum| (sum / masks - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}
