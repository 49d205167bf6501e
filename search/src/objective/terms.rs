//! The terms a supernet loss is made of. Each is a mean, so batch and token counts do not scale it.

use burn::tensor::{Tensor, activation};

use crate::ops;

/// Added to squared norms before dividing.
const EPSILON: f64 = 1e-6;
/// Stands for minus infinity where a token must not relate to itself; finite, so that 0 · it is 0.
const EXCLUDED: f64 = -1e9;

/// Mean squared error of guessed patches, both `[batch, masked, pixels]`.
pub fn pixel(guess: Tensor<3>, target: Tensor<3>) -> Tensor<1> {
    if ops::serves(&guess.device()) {
        return ops::pixel(guess, &target);
    }
    composed::pixel(guess, target)
}

/// Smooth-L1 (Huber with threshold 1) between the student's features and the teacher's, `[batch, tokens, width]`,
/// the latter whitened per token: mean 0, variance 1 over the width, no affine part.
pub fn smooth_l1(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
    if ops::serves(&student.device()) {
        return ops::smooth_l1(student, &teacher, EPSILON as f32);
    }
    composed::smooth_l1(student, teacher)
}

/// Kullback–Leibler divergence of the student's relations from the teacher's, mean over tokens: each token's
/// relations are a softmax over its cosine similarities to the other tokens, at temperature `tau`.
/// Differs from the cross-entropy by the teacher's entropy, which no student changes.
pub fn relation(student: Tensor<3>, teacher: Tensor<3>, tau: f64) -> Tensor<1> {
    if ops::serves(&student.device()) {
        return ops::relation(student, &teacher, tau as f32, EPSILON as f32);
    }
    composed::relation_each(student, teacher, tau).mean()
}

/// As [`relation`], image by image and without gradient: `[batch]`.
pub fn relation_each(student: Tensor<3>, teacher: Tensor<3>, tau: f64) -> Tensor<1> {
    if ops::serves(&student.device()) {
        return ops::relation_each(student, &teacher, tau as f32, EPSILON as f32);
    }
    composed::relation_each(student, teacher, tau)
}

/// The terms composed of tensor operations: what devices other than the CPU run.
pub(crate) mod composed {
    use super::{EPSILON, EXCLUDED, Tensor, activation};

    pub(crate) fn pixel(guess: Tensor<3>, target: Tensor<3>) -> Tensor<1> {
        (guess - target).square().mean()
    }

    pub(crate) fn smooth_l1(student: Tensor<3>, teacher: Tensor<3>) -> Tensor<1> {
        let (variance, mean) = teacher.clone().var_mean_bias(2);
        let white = (teacher - mean) / (variance + EPSILON).sqrt();
        let distance = (student - white).abs();
        // Quadratic up to 1, linear beyond: 0.5 m² + (d - m) with m = min(d, 1).
        let near = distance.clone().clamp_max(1.0);
        (near.clone().square() * 0.5 + (distance - near)).mean()
    }

    /// Logarithms of each token's relation distribution, `[batch, tokens, tokens]`; the diagonal is excluded.
    pub(crate) fn log_relations(features: Tensor<3>, tau: f64) -> Tensor<3> {
        let norm = (features.clone().square().sum_dim(2) + EPSILON).sqrt();
        let unit = features / norm;
        let similarity = unit.clone().matmul(unit.swap_dims(1, 2)) * (1.0 / tau);
        let [_, tokens, _] = similarity.dims();
        let own = Tensor::<2>::eye(tokens, &similarity.device().inner()).unsqueeze::<3>() * EXCLUDED;
        activation::log_softmax(similarity + own, 2)
    }

    pub(crate) fn relation_each(student: Tensor<3>, teacher: Tensor<3>, tau: f64) -> Tensor<1> {
        let [batch, tokens, _] = student.dims();
        let teacher = log_relations(teacher, tau);
        let student = log_relations(student, tau);
        let divergence = teacher.clone().exp() * (teacher - student);
        divergence.sum_dim(2).reshape([batch, tokens]).mean_dim(1).reshape([batch])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn tensor(values: &[f32], shape: [usize; 3]) -> Tensor<3> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    fn scalar(tensor: Tensor<1>) -> f32 {
        tensor.into_scalar::<f32>()
    }

    #[test]
    fn smooth_l1_is_quadratic_near_and_linear_far() {
        // The teacher's row is white already, but for the epsilon.
        let teacher = tensor(&[1.0, -1.0], [1, 1, 2]);
        let student = tensor(&[1.5, 2.0], [1, 1, 2]);
        assert!((scalar(smooth_l1(student, teacher)) - (0.125 + 2.5) / 2.0).abs() < 1e-5);
    }

    /// By hand: three tokens, each relating to the two others.
    #[test]
    fn relations_exclude_the_token_itself() {
        let z = tensor(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [1, 3, 2]);
        let logs = composed::log_relations(z, 0.5).try_to_vec_as::<f32>().unwrap();
        let other = (1.0f64 / 2f64.sqrt() / 0.5).exp();
        let expected = (1.0 / (1.0 + other)).ln() as f32;
        assert!((logs[1] - expected).abs() < 1e-5, "{logs:?}");
        assert!(logs[0] < -1e6);
    }

    #[test]
    fn divergence_is_zero_only_for_equal_relations() {
        let values: Vec<f32> = (0..24).map(|i| ((i * 7 % 11) as f32) - 5.0).collect();
        let a = tensor(&values, [2, 3, 4]);
        // Relations do not depend on scale, nor on the width they are measured in.
        assert!(scalar(relation(a.clone() * 3.0, a.clone(), 0.1)).abs() < 1e-5);
        let wide = Tensor::cat(vec![a.clone(), a.clone()], 2);
        assert!(scalar(relation(wide, a.clone(), 0.1)).abs() < 1e-4);
        let other = tensor(&values.iter().rev().copied().collect::<Vec<_>>(), [2, 3, 4]);
        assert!(scalar(relation(other, a, 0.1)) > 1e-3);
    }
}
