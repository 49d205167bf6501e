//! Matrix products against sums in f64: odd sizes, strides, transposes, every way to begin, both precisions.

use super::super::precision::{Precision, bf16_available};
use super::super::product::{Onto, View, product};
use super::noise;

/// `value` with 8 bits of mantissa, ties to even.
fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

#[test]
fn products_are_sums() {
    let sizes = [
        [1, 1, 1],
        [7, 17, 5],
        [6, 64, 33],
        [13, 65, 100],
        [17, 17, 32],
        [5, 130, 71],
        [40, 48, 2],
        [3, 16, 129],
    ];
    for [m, n, k] in sizes {
        for [turn_a, turn_b] in [[false, false], [false, true], [true, false], [true, true]] {
            for precision in [Precision::F32, Precision::Bf16] {
                if precision == Precision::Bf16 && !bf16_available() {
                    eprintln!("skipped: this processor has no AVX512-BF16");
                    continue;
                }
                for start in 0..3 {
                    check([m, n, k], [turn_a, turn_b], precision, start);
                }
            }
        }
    }
}

fn check([m, n, k]: [usize; 3], [turn_a, turn_b]: [bool; 2], precision: Precision, start: usize) {
    // Rows three elements further apart than they are long.
    let stored =
        |rows: usize, columns: usize, turn: bool| if turn { [columns, rows] } else { [rows, columns] };
    let ([ar, ac], [br, bc]) = (stored(m, k, turn_a), stored(k, n, turn_b));
    let (a, b) = (noise("a", ar * (ac + 3)), noise("b", br * (bc + 3)));
    let view = |data, rows, columns, turn| {
        let view = View::new(data, rows, columns, columns + 3);
        if turn { view.transposed() } else { view }
    };
    let (there, row) = (noise("there", m * (n + 2)), noise("row", n));
    let mut out = there.clone();
    let onto = [Onto::Nothing, Onto::There, Onto::Row(&row)][start];
    product(&mut out, n + 2, view(&a, ar, ac, turn_a), view(&b, br, bc, turn_b), 0.7, onto, precision);
    let read = |value: f32| f64::from(if precision == Precision::Bf16 { rounded(value) } else { value });
    for i in 0..m {
        for j in 0..n {
            let left = |d: usize| read(if turn_a { a[d * (ac + 3) + i] } else { a[i * (ac + 3) + d] });
            let right = |d: usize| read(if turn_b { b[j * (bc + 3) + d] } else { b[d * (bc + 3) + j] });
            let sum: f64 = (0..k).map(|d| left(d) * right(d)).sum();
            let begun = [0.0, there[i * (n + 2) + j], row[j]][start];
            let expected = f64::from(begun) + 0.7 * sum;
            let got = f64::from(out[i * (n + 2) + j]);
            assert!(
                (got - expected).abs() < 3e-5,
                "[{m}, {n}, {k}] at {i}, {j}, {precision:?}, transposed {turn_a} {turn_b}, start {start}: \
                 {got}, not {expected}"
            );
        }
        let between = i * (n + 2) + n..((i + 1) * (n + 2)).min(out.len());
        assert_eq!(out[between.clone()], there[between], "what lies between rows was written");
    }
}

/// Sums do not depend on where a product begins in memory, nor on what was packed before.
#[test]
fn products_repeat() {
    let (a, b) = (noise("a", 30 * 70), noise("b", 70 * 50));
    let once = |shift: usize| {
        let mut moved = vec![0.0; shift];
        moved.extend(&b);
        let mut out = vec![0.0; 30 * 50];
        let right = View::new(&moved[shift..], 70, 50, 50);
        product(&mut out, 50, View::new(&a, 30, 70, 70), right, 1.0, Onto::Nothing, Precision::F32);
        out
    };
    assert_eq!(once(0), once(3));
}
