//! Mean and standard deviation of the channels.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Per channel (red, green, blue), of values in 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Mean.
    pub mean: [f32; 3],
    /// Population standard deviation; at least 1/255, so that images of one colour can be divided
    /// by it.
    pub std: [f32; 3],
}

impl Stats {
    /// Over all pixels of interleaved RGB images. Summed in integers: exact, so the same in any order.
    pub(crate) fn of<'a>(images: impl IntoParallelIterator<Item = &'a [u8]>) -> Stats {
        #[derive(Clone, Copy, Default)]
        struct Sums {
            count: u64,
            value: [u64; 3],
            square: [u128; 3],
        }
        let sums = images
            .into_par_iter()
            .map(|rgb| {
                let (mut value, mut square) = ([0u64; 3], [0u64; 3]);
                for pixel in rgb.as_chunks::<3>().0 {
                    for c in 0..3 {
                        value[c] += u64::from(pixel[c]);
                        square[c] += u64::from(pixel[c]).pow(2);
                    }
                }
                Sums { count: (rgb.len() / 3) as u64, value, square: square.map(u128::from) }
            })
            .reduce(Sums::default, |a, b| Sums {
                count: a.count + b.count,
                value: std::array::from_fn(|c| a.value[c] + b.value[c]),
                square: std::array::from_fn(|c| a.square[c] + b.square[c]),
            });
        let n = sums.count.max(1) as f64;
        let mean = sums.value.map(|v| v as f64 / n);
        let variance = |c: usize| (sums.square[c] as f64 / n - mean[c] * mean[c]).max(0.0);
        Stats {
            mean: mean.map(|m| (m / 255.0) as f32),
            std: std::array::from_fn(|c| (variance(c).sqrt().max(1.0) / 255.0) as f32),
        }
    }

    /// Per channel, what a byte is multiplied with and what is then added to normalise it.
    pub(crate) fn line(&self) -> [(f32, f32); 3] {
        std::array::from_fn(|c| (1.0 / (255.0 * self.std[c]), -self.mean[c] / self.std[c]))
    }
}
