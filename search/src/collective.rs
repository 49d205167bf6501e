//! The seam for training on several ranks: every reduction of the training loop goes through it.

/// A group of ranks that train one supernet.
pub trait Collective: Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn size(&self) -> usize;
    /// Overwrites `values` with rank 0's.
    fn broadcast(&self, values: &mut [f32]);
    /// Replaces `values` by their mean over ranks.
    fn all_reduce_mean(&self, values: &mut [f32]);
    /// Everyone's values, in rank order.
    fn all_gather(&self, values: &[f32]) -> Vec<f32>;
    /// Waits for everyone.
    fn barrier(&self);
}

/// One rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Collective for Solo {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn broadcast(&self, _values: &mut [f32]) {}
    fn all_reduce_mean(&self, _values: &mut [f32]) {}
    fn all_gather(&self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }
    fn barrier(&self) {}
}
