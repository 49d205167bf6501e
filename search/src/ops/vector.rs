//! Loops over `f32` slices that the compiler turns into vector instructions: erf, exp, sums.
//!
//! Each kernel is one plain body, compiled three times (baseline, AVX2, AVX-512) and chosen at run time. Within one
//! machine the choice never changes, so results repeat. Nothing here splits work over threads: lanes do that.

/// Compiles `body` for the vector instructions of this processor, chosen at run time.
macro_rules! vectorised {
    ($(#[$doc:meta])* $visible:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:path;) => {
        $(#[$doc])*
        $visible fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn widest($($arg: $type),*) {
                    $body($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $type),*) {
                    $body($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                {
                    // SAFETY: the processor has what `widest` is compiled for.
                    return unsafe { widest($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the processor has what `wide` is compiled for.
                    return unsafe { wide($($arg),*) };
                }
            }
            $body($($arg),*);
        }
    };
}
pub(super) use vectorised;

/// Partial sums of one reduction: as many as the widest vector has lanes.
const LANES: usize = 16;

/// Sum of `values[i]` over `f(i)`, in a fixed order that vectors can follow.
#[inline(always)]
fn reduce(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut partial = [0.0f32; LANES];
    let whole = count / LANES * LANES;
    let mut at = 0;
    while at < whole {
        for (lane, sum) in partial.iter_mut().enumerate() {
            *sum += term(at + lane);
        }
        at += LANES;
    }
    for (lane, i) in (whole..count).enumerate() {
        partial[lane] += term(i);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            partial[lane] += partial[lane + width];
        }
        width /= 2;
    }
    partial[0]
}

/// Sum of a row.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    reduce(row.len(), |i| row[i])
}

/// Sum of products of two rows of one length.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let count = a.len().min(b.len());
    let (a, b) = (&a[..count], &b[..count]);
    reduce(count, |i| a[i] * b[i])
}

/// Sum of products of three rows of one length.
#[inline(always)]
pub(super) fn triple(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let count = a.len().min(b.len()).min(c.len());
    let (a, b, c) = (&a[..count], &b[..count], &c[..count]);
    reduce(count, |i| a[i] * b[i] * c[i])
}

/// e^x to about 1 unit in the last place for x in [-87, 88]; 0 below, held at its value at 88 above.
///
/// Cody and Waite: x = n ln 2 + r, a polynomial for e^r, and n into the exponent's bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first with zeros at its end, so that n times it is exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting this rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.0, 88.0);
    let n = (clamped * LOG2_E + ROUND) - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let e = p * r * r + r + 1.0;
    let scale = f32::from_bits(((n as i32 + 127) << 23) as u32);
    if x < -87.0 { 0.0 } else { e * scale }
}

/// erf(x) to within 4e-7: an odd rational function, x P(x²) / Q(x²), where erf is not yet 1.
///
/// The coefficients are those of Eigen's and XLA's f32 erf.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let p = -2.726_142_3e-10f32;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_4e-5;
    let p = p * s - 7.349_906e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5f32;
    let q = q * s - 2.133_740_6e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_473_9e-2;
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "{x}: {} {exact}", exp(x));
        }
        assert_eq!(exp(-1e30), 0.0);
        assert!(exp(1e30).is_finite());
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn erf_is_close_everywhere() {
        use crate::ops::tests::plain::erf as exact;
        for i in -600..=600 {
            let x = i as f32 / 100.0;
            let difference = (f64::from(erf(x)) - exact(f64::from(x))).abs();
            assert!(difference < 4e-7, "{x}: {} {}", erf(x), exact(f64::from(x)));
        }
    }

    #[test]
    fn sums_of_any_length() {
        for count in [0usize, 1, 15, 16, 17, 64, 100] {
            let row: Vec<f32> = (0..count).map(|i| i as f32).collect();
            let expected = (0..count).sum::<usize>() as f32;
            assert_eq!(sum(&row), expected);
            assert_eq!(dot(&row, &vec![2.0; count]), 2.0 * expected);
            assert_eq!(triple(&vec![0.5; count], &row, &vec![2.0; count]), expected);
        }
    }
}
