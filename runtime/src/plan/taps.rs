//! Which elements of an axis a resized axis is made of, and with what weights, as the ONNX standard's `Resize` says.

use crate::error::Result;
use crate::graph::Node;
use crate::tensor::Tensor;

/// Largest matrix of weights, in elements.
const MATRIX_MAX: usize = 1 << 24;

/// One axis that is resized.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Along {
    /// Elements there are.
    pub given: usize,
    /// Elements wanted.
    pub wanted: usize,
    /// By what coordinates are scaled.
    pub scale: f64,
    /// Start and end of the region of interest, as shares of the axis.
    pub part: Option<(f32, f32)>,
}

/// For every tap, the element it takes and its weight at each element wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Taps {
    pub places: Vec<Vec<i64>>,
    pub weights: Vec<Vec<f32>>,
    /// Where the element wanted lies outside the axis and has the extrapolation value.
    pub outside: Vec<bool>,
}

impl Taps {
    /// The weights as a matrix, elements given by elements wanted.
    pub fn matrix(&self, given: usize) -> Result<Tensor> {
        let wanted = self.outside.len();
        let total = given.checked_mul(wanted).filter(|total| *total <= MATRIX_MAX);
        let total = total.ok_or_else(|| crate::error::Error::Limit {
            what: "the number of weights of a resized axis".into(),
            got: (given as u64).saturating_mul(wanted as u64),
            limit: MATRIX_MAX as u64,
        })?;
        let mut all = vec![0.0f32; total];
        for (places, weights) in self.places.iter().zip(&self.weights) {
            for (column, (place, weight)) in places.iter().zip(weights).enumerate() {
                let row = usize::try_from(*place).unwrap_or(0);
                if let Some(slot) = all.get_mut(row * wanted + column) {
                    *slot += *weight;
                }
            }
        }
        Tensor::f32([given, wanted], all)
    }
}

/// The taps of one axis of the `Resize` `node`.
pub(crate) fn taps(node: &Node, along: &Along) -> Result<Taps> {
    let mode = node.text("mode").unwrap_or("nearest");
    let transform = node.text("coordinate_transformation_mode").unwrap_or("half_pixel");
    let antialias = node.int("antialias").unwrap_or(0) != 0 && along.scale < 1.0 && mode != "nearest";
    let exclude = node.int("exclude_outside").unwrap_or(0) != 0;
    let sharp = if antialias { along.scale } else { 1.0 };
    let reach = match mode {
        "nearest" => 0.0,
        "linear" => 1.0 / sharp,
        "cubic" => 2.0 / sharp,
        other => return Err(node.unsupported(format!("attribute 'mode' is '{other}'"))),
    };
    let first = (-reach).floor() as i64 + 1;
    // Far more taps than elements would all lie on the two ends.
    let count = if mode == "nearest" { 1 } else { usize::try_from(2 - 2 * first).unwrap_or(1) };
    if count > 4 * along.given + 16 {
        return Err(node.unsupported(format!("{count} taps over {} elements", along.given)));
    }
    let cubic = f64::from(node.float("cubic_coeff_a").unwrap_or(-0.75));
    let last = along.given as i64 - 1;
    let mut taps =
        Taps { places: vec![Vec::new(); count], weights: vec![Vec::new(); count], outside: Vec::new() };
    for i in 0..along.wanted {
        let at = coordinate(transform, along, i as f64).ok_or_else(|| {
            node.unsupported(format!("attribute 'coordinate_transformation_mode' is '{transform}'"))
        })?;
        taps.outside.push(transform == "tf_crop_and_resize" && (at < 0.0 || at > last as f64));
        if mode == "nearest" {
            let place = nearest(node.text("nearest_mode").unwrap_or("round_prefer_floor"), at);
            let place = place.ok_or_else(|| node.invalid("attribute 'nearest_mode' is unknown"))?;
            if let (Some(places), Some(weights)) = (taps.places.first_mut(), taps.weights.first_mut()) {
                places.push((place as i64).clamp(0, last));
                weights.push(1.0);
            }
            continue;
        }
        let floor = at.floor();
        let weigh = |tap: usize| {
            let distance = ((first + tap as i64) as f64 - (at - floor)) * sharp;
            if mode == "linear" {
                (1.0 - distance.abs()).clamp(0.0, 1.0)
            } else {
                keys(distance.abs(), cubic)
            }
        };
        let place = |tap: usize| (floor as i64).saturating_add(first + tap as i64);
        let counts = |tap: usize| !exclude || (0..=last).contains(&place(tap));
        let weights: Vec<f64> = (0..count).map(|tap| if counts(tap) { weigh(tap) } else { 0.0 }).collect();
        let total: f64 = weights.iter().sum();
        let total = if antialias || exclude { total } else { 1.0 };
        for (tap, weight) in weights.iter().enumerate() {
            if let (Some(places), Some(list)) = (taps.places.get_mut(tap), taps.weights.get_mut(tap)) {
                places.push(place(tap).clamp(0, last));
                list.push((weight / total) as f32);
            }
        }
    }
    Ok(taps)
}

/// Where element `i` of the resized axis lies on the axis given.
fn coordinate(transform: &str, along: &Along, i: f64) -> Option<f64> {
    let (given, wanted) = (along.given as f64, along.wanted as f64);
    Some(match transform {
        "half_pixel" => (i + 0.5) / along.scale - 0.5,
        "half_pixel_symmetric" => {
            let share = wanted / (along.scale * given);
            given / 2.0 * (1.0 - share) + (i + 0.5) / along.scale - 0.5
        }
        "pytorch_half_pixel" if along.wanted <= 1 => 0.0,
        "pytorch_half_pixel" => (i + 0.5) / along.scale - 0.5,
        "align_corners" if along.wanted <= 1 => 0.0,
        // The length before it is rounded down, as the standard's tests have it.
        "align_corners" => i * (given - 1.0) / (along.scale * given - 1.0),
        "asymmetric" => i / along.scale,
        "tf_crop_and_resize" => {
            let (start, end) = along.part.map_or((0.0, 1.0), |(s, e)| (f64::from(s), f64::from(e)));
            if along.wanted > 1 {
                (start + i * (end - start) / (wanted - 1.0)) * (given - 1.0)
            } else {
                0.5 * (start + end) * (given - 1.0)
            }
        }
        _ => return None,
    })
}

fn nearest(mode: &str, at: f64) -> Option<f64> {
    Some(match mode {
        "round_prefer_floor" => (at - 0.5).ceil(),
        "round_prefer_ceil" => (at + 0.5).floor(),
        "floor" => at.floor(),
        "ceil" => at.ceil(),
        _ => return None,
    })
}

/// Cubic convolution (R. Keys, "Cubic convolution interpolation for digital image processing", 1981) at distance `d`.
fn keys(d: f64, a: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        (((d - 5.0) * d + 8.0) * d - 4.0) * a
    } else {
        0.0
    }
}
