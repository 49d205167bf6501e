//! The label-free score of MaskTAS: how well a subnet's token relations agree with the teacher's,
//! beside how well it guesses masked patches (BWSS-TAS fuses both).
//!
//! All candidates are read on one frozen list of images and masks, so that their differences are
//! theirs and not the list's.

use std::sync::Arc;

use burn::tensor::Tensor;
use masktas_export::VitArch;

use super::{Component, Score};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::objective::terms;
use crate::ops::Precision;
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
        // A row's values depend on the rows beside it by rounding at most, and a run keeps its number of lanes: the list is
        // cut as lanes and caches like it.
        let share = rows.len().div_ceil(lanes.count()).max(1);
        let parts: Vec<&[(usize, u32, Mask)]> = rows.chunks(settings.batch.clamp(1, share)).collect();
        let list = lanes.map(parts, |rows| {
            let indices: Vec<u32> = rows.iter().map(|(_, index, _)| *index).collect();
            let masks: Vec<Mask> = rows.iter().map(|(.., mask)| mask.clone()).collect();
            let mut pixels = vec![0.0; indices.len() * images.numbers()];
            images.plain(&indices, &mut pixels)?;
            let batch = MaskedBatch::new(&pixels, &masks, &arch, &device);
            let teacher = teacher.features(&batch.visible, Precision::F32)?.last;
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

    /// Relation divergence and reconstruction error of each row of one batch of the list.
    fn read(&self, arch: &VitArch, entry: &Entry) -> Result<(Vec<f32>, Vec<f32>)> {
        let encoded = self.supernet.encode(&self.leaves, arch, &entry.batch.visible, false);
        let relation = terms::relation_each(encoded.patches(), entry.teacher.clone(), self.tau);
        if !self.reconstruction {
            return Ok((to_host(&relation)?, Vec::new()));
        }
        let guess = self.supernet.decode(&self.leaves, &encoded, &entry.batch);
        let [batch, masked, width] = guess.dims();
        let error = (guess - entry.batch.target.clone()).square();
        let error = error.reshape([batch, masked * width]).mean_dim(1).reshape([batch]);
        Ok((to_host(&relation)?, to_host(&error)?))
    }

    /// The components of one candidate, from what was read of each batch of the list.
    fn gather(&self, genes: &Genes, rows: &[(Vec<f32>, Vec<f32>)]) -> Result<Vec<Component>> {
        let mut relation = vec![0.0; self.images];
        let mut reconstruction = vec![0.0; self.images];
        for (entry, (a, b)) in self.list.iter().zip(rows) {
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
        // All candidates at once: lanes meet when everything is read.
        let archs: Vec<VitArch> = batch.iter().map(|genes| self.space.vit(genes)).collect();
        let work: Vec<(&VitArch, &Entry)> =
            archs.iter().flat_map(|arch| self.list.iter().map(move |entry| (arch, entry))).collect();
        let rows = self.lanes.map(work, |(arch, entry)| self.read(arch, entry))?;
        let each = rows.chunks(self.list.len().max(1));
        batch.iter().zip(each).map(|(genes, rows)| self.gather(genes, rows)).collect()
    }
}

/// Mean over images of each image's mean over masks, and its standard error over images.
fn mean_and_error(sums: &[f64], masks: f64) -> (f64, f64) {
    let n = sums.len() as f64;
    let mean = sums.iter().sum::<f64>() / n / masks;
    let variance = sums.iter().map(|sum| (sum / masks - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}
