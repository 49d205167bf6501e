//! Register tiles of a matrix product of bf16 pairs, summed in f32, under AVX512-BF16.
//!
//! Inputs are f32 matrices by strides. Each is rounded and packed into pairs of neighbours along the inner size, a pair
//! a word, because one instruction multiplies and sums sixteen pairs. A tile holds up to [`ROWS`] x [`COLUMNS`] sums in
//! registers over the whole inner size, so an element of the answer is stored once.

use std::arch::x86_64::*;

/// Rows of a tile.
const ROWS: usize = 6;
/// Columns of a tile: four vectors.
const COLUMNS: usize = 4 * VECTOR;
const VECTOR: usize = 16;

/// A matrix for a tile to read: a pointer and the elements from row to row and from column to column.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) data: *const f32,
    pub(super) row: isize,
    pub(super) column: isize,
}

/// Where a product goes, and what it is added to.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) data: *mut f32,
    pub(super) stride: usize,
    pub(super) factor: f32,
    pub(super) onto: Onto,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(super) enum Onto {
    Nothing,
    /// What lies in the target.
    Target,
    /// One row, the same for all.
    Row(*const f32),
}

impl Target {
    /// The part from column `j` on.
    unsafe fn columns_from(self, j: usize) -> Self {
        // SAFETY: the caller stays inside the target's rows.
        let onto = match self.onto {
            Onto::Row(row) => Onto::Row(unsafe { row.add(j) }),
            other => other,
        };
        Self { data: unsafe { self.data.add(j) }, onto, ..self }
    }
}

/// Sizes: rows, columns, inner.
pub(super) type Sizes = [usize; 3];

/// Whether this processor runs [`product`].
pub(super) fn available() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512bf16")
}

/// Mask of the columns in the last vector.
fn tail(columns: usize) -> __mmask16 {
    match columns % VECTOR {
        0 => u16::MAX,
        rest => (1 << rest) - 1,
    }
}

/// Transposes sixteen vectors of sixteen.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(block: &mut [__m512; VECTOR]) {
    let mut t = [_mm512_setzero_ps(); VECTOR];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(block[2 * i], block[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(block[2 * i], block[2 * i + 1]);
    }
    for i in 0..4 {
        for half in 0..2 {
            let (x, y) = (_mm512_castps_pd(t[4 * i + half]), _mm512_castps_pd(t[4 * i + 2 + half]));
            block[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            block[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    }
    // Quarters of the vectors are now in place within groups of four; move the quarters.
    for i in 0..4 {
        let [a, b, c, d] = [block[i], block[i + 4], block[i + 8], block[i + 12]];
        t[i] = _mm512_shuffle_f32x4::<0x88>(a, b);
        t[i + 4] = _mm512_shuffle_f32x4::<0xdd>(a, b);
        t[i + 8] = _mm512_shuffle_f32x4::<0x88>(c, d);
        t[i + 12] = _mm512_shuffle_f32x4::<0xdd>(c, d);
    }
    for i in 0..4 {
        block[i] = _mm512_shuffle_f32x4::<0x88>(t[i], t[i + 8]);
        block[i + 4] = _mm512_shuffle_f32x4::<0x88>(t[i + 4], t[i + 12]);
        block[i + 8] = _mm512_shuffle_f32x4::<0xdd>(t[i], t[i + 8]);
        block[i + 12] = _mm512_shuffle_f32x4::<0xdd>(t[i + 4], t[i + 12]);
    }
}

/// Stores the sums of a tile. Spelled out in each, because sums that are handed to a function leave their registers.
macro_rules! finish {
    ($out:expr, $sums:expr, $vectors:expr, $store:expr) => {
        let factor = _mm512_set1_ps($out.factor);
        for (r, sums) in $sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                let mask = if v + 1 == $vectors { $store } else { u16::MAX };
                let to = $out.data.add(r * $out.stride + v * VECTOR);
                let before = match $out.onto {
                    Onto::Nothing => _mm512_setzero_ps(),
                    Onto::Target => _mm512_maskz_loadu_ps(mask, to),
                    Onto::Row(row) => _mm512_maskz_loadu_ps(mask, row.add(v * VECTOR)),
                };
                _mm512_mask_storeu_ps(to, mask, _mm512_fmadd_ps(factor, *sum, before));
            }
        }
    };
}

/// `out = onto + factor * a b`, of both inputs rounded to bf16: twice the products a second, sums in f32.
///
/// # Safety
/// The processor has what [`available`] asks for; all elements that sizes and strides name lie in their buffers; `out`
/// overlaps neither input.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn product(
    out: Target,
    a: Source,
    b: Source,
    [m, n, k]: Sizes,
    left: &mut Vec<u32>,
    panel: &mut Vec<u32>,
) {
    unsafe {
        let pairs = k.div_ceil(2);
        // Pairs of neighbours along the inner size, one pair a word.
        let (x, row, column) = if a.column == 1 || a.row != 1 {
            left.clear();
            left.reserve(m * pairs + VECTOR);
            for i in 0..m {
                along(a.data.offset(i as isize * a.row), a.column, left.as_mut_ptr().add(i * pairs), k);
            }
            (left.as_ptr(), pairs as isize, 1)
        } else {
            let width = m.next_multiple_of(VECTOR);
            left.clear();
            left.reserve(pairs * width);
            for p in 0..pairs {
                let from = a.data.offset(2 * p as isize * a.column);
                across(from, a.column, left.as_mut_ptr().add(p * width), m, 2 * p + 1 < k);
            }
            (left.as_ptr(), 1, width as isize)
        };
        for j in (0..n).step_by(COLUMNS) {
            let columns = COLUMNS.min(n - j);
            let width = columns.next_multiple_of(VECTOR);
            panel.clear();
            panel.reserve(pairs * width + VECTOR);
            let from = b.data.wrapping_offset(j as isize * b.column);
            if b.column == 1 {
                for p in 0..pairs {
                    let from = from.offset(2 * p as isize * b.row);
                    across(from, b.row, panel.as_mut_ptr().add(p * width), columns, 2 * p + 1 < k);
                }
            } else {
                pack_words(Source { data: from, ..b }, panel.as_mut_ptr(), columns, width, k);
            }
            let to = out.columns_from(j);
            for i in (0..m).step_by(ROWS) {
                let x = x.offset(i as isize * row);
                let to = Target { data: to.data.add(i * to.stride), ..to };
                let words = Words { left: x, row, column, panel: panel.as_ptr(), width, pairs };
                let height = ROWS.min(m - i);
                match width / VECTOR {
                    1 => tile_of_height::<1>(height, to, words, tail(columns)),
                    2 => tile_of_height::<2>(height, to, words, tail(columns)),
                    3 => tile_of_height::<3>(height, to, words, tail(columns)),
                    _ => tile_of_height::<4>(height, to, words, tail(columns)),
                }
            }
        }
    }
}

/// Words as what the instruction calls them.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of any value.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}

/// Inputs of a tile: pairs as words.
#[derive(Clone, Copy)]
struct Words {
    left: *const u32,
    row: isize,
    column: isize,
    panel: *const u32,
    width: usize,
    pairs: usize,
}

/// Pairs along a line of `k` elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn along(from: *const f32, step: isize, to: *mut u32, k: usize) {
    unsafe {
        for at in (0..k).step_by(2 * VECTOR) {
            let rest = k - at;
            let half = |begin: usize| {
                let count = rest.saturating_sub(begin).min(VECTOR);
                if count == 0 {
                    return _mm512_setzero_ps();
                }
                let from = from.offset((at + begin) as isize * step);
                if step == 1 {
                    return _mm512_maskz_loadu_ps(tail(count), from);
                }
                let mut line = [0.0f32; VECTOR];
                for (i, value) in line.iter_mut().enumerate().take(count) {
                    *value = *from.offset(i as isize * step);
                }
                _mm512_loadu_ps(line.as_ptr())
            };
            let (low, high) = (half(0), half(VECTOR));
            let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            let mask = tail(rest.min(2 * VECTOR).div_ceil(2));
            _mm512_mask_storeu_epi32(to.add(at / 2).cast(), mask, both);
        }
    }
}

/// Pairs across two lines of `count` elements, `next` apart; without `second` the second is zero. Whole vectors are written.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn across(from: *const f32, next: isize, to: *mut u32, count: usize, second: bool) {
    unsafe {
        // Word i takes halves i and i + 16.
        let mut order = [0u16; 2 * VECTOR];
        for i in 0..VECTOR {
            (order[2 * i], order[2 * i + 1]) = (i as u16, (i + VECTOR) as u16);
        }
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        for at in (0..count).step_by(VECTOR) {
            let mask = tail((count - at).min(VECTOR));
            let low = _mm512_maskz_loadu_ps(mask, from.add(at));
            let high = if second {
                _mm512_maskz_loadu_ps(mask, from.offset(next).add(at))
            } else {
                _mm512_setzero_ps()
            };
            let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(to.add(at).cast(), _mm512_permutexvar_epi16(order, both));
        }
    }
}

/// A panel from columns whose elements lie side by side: pairs, transposed.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack_words(b: Source, panel: *mut u32, columns: usize, width: usize, k: usize) {
    unsafe {
        for group in (0..width).step_by(VECTOR) {
            for at in (0..k).step_by(2 * VECTOR) {
                let depth = (2 * VECTOR).min(k - at);
                let mut block = [_mm512_setzero_ps(); VECTOR];
                for (i, lane) in block.iter_mut().enumerate() {
                    if group + i < columns {
                        let mut line = [0u32; VECTOR];
                        let from = b.data.offset((group + i) as isize * b.column + at as isize * b.row);
                        along(from, b.row, line.as_mut_ptr(), depth);
                        *lane = _mm512_loadu_ps(line.as_ptr().cast());
                    }
                }
                transpose(&mut block);
                for (d, line) in block.iter().enumerate().take(depth.div_ceil(2)) {
                    _mm512_storeu_ps(panel.add((at / 2 + d) * width + group).cast(), *line);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tile_of_height<const V: usize>(height: usize, out: Target, words: Words, store: __mmask16) {
    unsafe {
        match height {
            1 => tile::<1, V>(out, words, store),
            2 => tile::<2, V>(out, words, store),
            3 => tile::<3, V>(out, words, store),
            4 => tile::<4, V>(out, words, store),
            5 => tile::<5, V>(out, words, store),
            _ => tile::<6, V>(out, words, store),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tile<const R: usize, const V: usize>(out: Target, words: Words, store: __mmask16) {
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        let (mut x, mut y) = (words.left, words.panel);
        for _ in 0..words.pairs {
            let mut columns = [_mm512_setzero_si512(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_loadu_si512(y.add(v * VECTOR).cast());
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_epi32(*x.offset(r as isize * words.row) as i32);
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbf16_ps(*sum, pairs(value), pairs(column));
                }
            }
            // Past the end after the last pair, where nothing is read any more.
            x = x.wrapping_offset(words.column);
            y = y.wrapping_add(words.width);
        }
        finish!(out, sums, V, store);
    }
}
