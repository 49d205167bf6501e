//! Teachers: frozen networks whose features the supernet learns from.

pub mod ema;
pub mod frozen;

use burn::tensor::Tensor;

use crate::error::Result;
use crate::recipe::Labels;
use crate::supernet::{Supernet, Visible};

/// A teacher's features of the seen patches, without class token and without gradient.
#[derive(Clone, Debug)]
pub struct Features {
    /// After its last norm, `[batch, seen, width]`: what relations are computed from.
    pub last: Tensor<3>,
    /// At each depth of the feature loss, `[batch, seen, width]`.
    pub layers: Vec<Tensor<3>>,
}

/// Gives the features to learn from. Sees exactly the patches the student sees.
pub trait Teacher: Send + Sync {
    /// Name it is registered under.
    fn name(&self) -> &'static str;
    /// Width of its features.
    fn width(&self) -> usize;
    /// Whether it ever saw a label; anything but `none` ends every claim of a label-free search.
    fn labels(&self) -> Labels;
    /// Features of the seen patches.
    ///
    /// # Errors
    /// When the device fails.
    fn features(&self, visible: &Visible) -> Result<Features>;
    /// Called after each optimiser step; only teachers that follow the student do anything.
    fn follow(&mut self, _supernet: &Supernet) {}
    /// State to checkpoint: matrices by name. Empty for frozen teachers.
    ///
    /// # Errors
    /// When the device lost them.
    fn state(&self) -> Result<Vec<(String, [usize; 2], Vec<f32>)>> {
        Ok(Vec::new())
    }
    /// State from a checkpoint.
    ///
    /// # Errors
    /// When it does not fit.
    fn restore(&mut self, _find: &mut dyn FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        Ok(())
    }
}
