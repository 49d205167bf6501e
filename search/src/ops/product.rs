//! Matrix products on strided views, on one thread.

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

/// `out = factor * a b`, or `out += factor * a b` under `add`; `out` has a row every `stride` elements.
pub(crate) fn product(out: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, factor: f32, add: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes differ");
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * stride + n <= out.len(), "a product beyond its output");
    // SAFETY: views and output were checked to lie within their slices, and `out` is borrowed alone.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
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
