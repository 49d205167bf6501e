//! Matrix products on strided views, on one thread.
//!
//! The `gemm` crate does those in f32; pairs of bf16, which it does not know, are ours (`bf16.rs`).

#[cfg(target_arch = "x86_64")]
use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::precision::Precision;

/// How fast matrix products are on this machine, in floating-point operations a second.
#[derive(Clone, Copy, Debug)]
pub struct ProductRate {
    /// Of the fastest product.
    pub best: f64,
    /// Over all of them.
    pub mean: f64,
}

/// Times products of `[rows, columns, inner]` on this thread for about `time`: what training cannot be faster than.
pub fn product_rate(precision: Precision, [m, n, k]: [usize; 3], time: Duration) -> ProductRate {
    let [a, b] = [m * k, k * n].map(|size| (0..size).map(|i| (i % 13) as f32 - 6.0).collect::<Vec<_>>());
    let flops = 2.0 * (m * n * k) as f64;
    let begun = Instant::now();
    let (mut fastest, mut count) = (f64::INFINITY, 0.0);
    while begun.elapsed() < time || count == 0.0 {
        let one = Instant::now();
        let out = fresh(View::new(&a, m, k, k), View::new(&b, k, n, n), Onto::Nothing, precision);
        std::hint::black_box(out);
        fastest = fastest.min(one.elapsed().as_secs_f64());
        count += 1.0;
    }
    ProductRate { best: flops / fastest, mean: count * flops / begun.elapsed().as_secs_f64() }
}

/// A matrix somewhere in a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    /// Elements from one row to the next, and from one column to the next.
    strides: [usize; 2],
}

impl<'a> View<'a> {
    /// Rows of `columns`, one row every `stride` elements.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * stride + columns <= data.len(),
            "a view beyond its data"
        );
        Self { data, rows, columns, strides: [stride, 1] }
    }

    /// Its transpose.
    pub(crate) fn transposed(self) -> Self {
        let [row, column] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [column, row], ..self }
    }
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Onto<'a> {
    /// Nothing: what lies there is overwritten.
    Nothing,
    /// What lies there.
    There,
    /// This row, the same for all.
    Row(&'a [f32]),
}

/// `out = onto + factor * a b`; `out` has a row every `stride` elements.
pub(crate) fn product(
    out: &mut [f32],
    stride: usize,
    a: View<'_>,
    b: View<'_>,
    factor: f32,
    onto: Onto<'_>,
    precision: Precision,
) {
    let (m, n) = (a.rows, b.columns);
    assert!(m == 0 || n == 0 || (m - 1) * stride + n <= out.len(), "a product beyond its output");
    // SAFETY: `out` holds every element of the product and is borrowed alone.
    unsafe { write(out.as_mut_ptr(), stride, a, b, factor, onto, precision) };
}

/// `onto + a b` in memory of its own, row by row.
pub(crate) fn fresh(a: View<'_>, b: View<'_>, onto: Onto<'_>, precision: Precision) -> Vec<f32> {
    let (m, n) = (a.rows, b.columns);
    let mut out: Vec<f32> = Vec::with_capacity(m * n);
    assert!(!matches!(onto, Onto::There), "there is nothing there");
    // SAFETY: there is room for every element, and `write` reads none of it and writes all of it.
    unsafe {
        write(out.as_mut_ptr(), n, a, b, 1.0, onto, precision);
        out.set_len(m * n);
    }
    out
}

#[cfg(target_arch = "x86_64")]
thread_local! {
    /// What both inputs of a bf16 product are packed into.
    static PAIRS: RefCell<[Vec<u32>; 2]> = RefCell::default();
}

/// # Safety
/// `out` has room for `a`'s rows, one every `stride` elements, of `b`'s columns, and nobody else looks at it.
unsafe fn write(
    out: *mut f32,
    stride: usize,
    a: View<'_>,
    b: View<'_>,
    factor: f32,
    onto: Onto<'_>,
    precision: Precision,
) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes differ");
    if let Onto::Row(row) = onto {
        assert!(row.len() >= n, "a row of {} for {n} columns", row.len());
    }
    if m == 0 || n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if precision == Precision::Bf16 && super::bf16::available() {
        use super::bf16::{self, Source, Target};
        let source = |view: View<'_>| Source {
            data: view.data.as_ptr(),
            row: view.strides[0] as isize,
            column: view.strides[1] as isize,
        };
        let onto = match onto {
            Onto::Nothing => bf16::Onto::Nothing,
            Onto::There => bf16::Onto::Target,
            Onto::Row(row) => bf16::Onto::Row(row.as_ptr()),
        };
        let target = Target { data: out, stride, factor, onto };
        return PAIRS.with_borrow_mut(|[left, right]| {
            // SAFETY: the processor was asked; views were checked to lie within their slices.
            unsafe { bf16::product(target, source(a), source(b), [m, n, k], left, right) };
        });
    }
    assert_eq!(
        precision,
        Precision::F32,
        "this processor has no bf16 products; `Precision::by_name` would have said so"
    );
    if let Onto::Row(bias) = onto {
        for row in 0..m {
            // SAFETY: row and bias have `n` elements.
            unsafe { std::ptr::copy_nonoverlapping(bias.as_ptr(), out.add(row * stride), n) };
        }
    }
    // SAFETY: views were checked to lie within their slices; the caller vouches for `out`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            stride as isize,
            !matches!(onto, Onto::Nothing),
            a.data.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.data.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            // `out = alpha out + beta a b`.
            1.0,
            factor,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
