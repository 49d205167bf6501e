//! The operations once more, as plainly as they can be written, in f64.

/// Rows normalised, with gain and bias.
pub(super) fn norm(x: &[f64], gain: &[f64], bias: &[f64], width: usize) -> Vec<f64> {
    let epsilon = f64::from(masktas_export::arch::NORM_EPSILON);
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let scale = (variance + epsilon).sqrt().recip();
        out.extend(row.iter().enumerate().map(|(i, x)| (x - mean) * scale * gain[i] + bias[i]));
    }
    out
}

/// `x W + b` with the leading `input x output` of a weight with `stride` columns.
pub(super) fn linear(
    x: &[f64],
    weight: &[f64],
    bias: &[f64],
    [input, output, stride]: [usize; 3],
) -> Vec<f64> {
    let mut out = Vec::new();
    for row in x.chunks(input) {
        for j in 0..output {
            out.push(bias[j] + row.iter().enumerate().map(|(i, x)| x * weight[i * stride + j]).sum::<f64>());
        }
    }
    out
}

/// erf by its Maclaurin series near zero, and by the continued fraction of erfc beyond.
pub(in crate::ops) fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = 0.0;
        for n in (1..200).rev() {
            fraction = f64::from(n) / 2.0 / (a + fraction);
        }
        1.0 - (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction)
    };
    value.copysign(x)
}

pub(super) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn softmax(row: &mut [f64]) {
    let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}

/// Softmax attention of `[images, tokens, heads * width]`.
pub(super) fn attention([q, k, v]: [&[f64]; 3], images: usize, heads: usize, width: usize) -> Vec<f64> {
    let all = heads * width;
    let tokens = q.len() / images / all;
    let mut out = vec![0.0; q.len()];
    for image in 0..images {
        for head in 0..heads {
            let at = |token: usize, i: usize| (image * tokens + token) * all + head * width + i;
            for i in 0..tokens {
                let score = |j: usize| (0..width).map(|d| q[at(i, d)] * k[at(j, d)]).sum::<f64>();
                let mut row: Vec<f64> = (0..tokens).map(|j| score(j) / (width as f64).sqrt()).collect();
                softmax(&mut row);
                for d in 0..width {
                    out[at(i, d)] = (0..tokens).map(|j| row[j] * v[at(j, d)]).sum();
                }
            }
        }
    }
    out
}

/// Mean squared difference.
pub(super) fn pixel(guess: &[f64], target: &[f64]) -> f64 {
    guess.iter().zip(target).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / guess.len() as f64
}

/// Mean Huber distance from whitened rows.
pub(super) fn smooth_l1(student: &[f64], teacher: &[f64], width: usize) -> f64 {
    let white = norm(teacher, &vec![1.0; width], &vec![0.0; width], width);
    let distance = |(a, b): (&f64, &f64)| {
        let d = (a - b).abs();
        if d < 1.0 { 0.5 * d * d } else { d - 0.5 }
    };
    student.iter().zip(&white).map(distance).sum::<f64>() / student.len() as f64
}

/// Divergence of token relations, mean over tokens and images.
pub(super) fn relation(student: &[f64], teacher: &[f64], images: usize, tokens: usize, tau: f64) -> f64 {
    let relations = |features: &[f64], own: usize| {
        let width = features.len() / tokens;
        let row = |i: usize| &features[i * width..(i + 1) * width];
        let norm = |i: usize| (row(i).iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
        let cosine =
            |j: usize| row(own).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f64>() / norm(own) / norm(j);
        let mut row: Vec<f64> = (0..tokens).filter(|j| *j != own).map(|j| cosine(j) / tau).collect();
        softmax(&mut row);
        row
    };
    let parts = student.chunks(student.len() / images).zip(teacher.chunks(teacher.len() / images));
    let mut sum = 0.0;
    for (student, teacher) in parts {
        for own in 0..tokens {
            let pairs = relations(teacher, own).into_iter().zip(relations(student, own));
            sum += pairs.map(|(t, s)| t * (t / s).ln()).sum::<f64>();
        }
    }
    sum / (images * tokens) as f64
}
