//! Tokens that know their place: seen patches become the encoder's tokens, and the encoder's tokens, with mask tokens
//! for what is hidden, become the decoder's.
//!
//! Each token is a row of the answer plus the position of its patch; gradients of positions are sums over the tokens
//! that stood there.

use super::linear::{self, Linear, column_sums};

/// A table of positions with `stride` columns, the class token's first, and its leading `width`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Positions<'a> {
    pub(crate) table: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) width: usize,
}

impl<'a> Positions<'a> {
    fn class(self) -> &'a [f32] {
        &self.table[..self.width]
    }

    fn of(self, place: usize) -> &'a [f32] {
        &self.table[(1 + place) * self.stride..][..self.width]
    }
}

/// Sums of gradients; only the leading columns are added to.
#[derive(Debug)]
pub(crate) struct Gradients<'a> {
    pub(crate) linear: linear::Gradient<'a>,
    /// Of the class token, or the mask token.
    pub(crate) token: &'a mut [f32],
    pub(crate) positions: &'a mut [f32],
}

fn sum_of<'a>(a: &'a [f32], b: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    a.iter().zip(b).map(|(a, b)| a + b)
}

fn add(sums: &mut [f32], row: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}

/// Which patches each image shows; `None`: all of them, in order.
fn place(places: Option<&[u32]>, index: usize, count: usize) -> usize {
    places.map_or(index % count, |places| places[index] as usize)
}

/// Patches `[images * count, pixels]` to `[images, 1 + count, width]`, the class token first.
pub(crate) fn embed(
    patches: &[f32],
    count: usize,
    linear: Linear<'_>,
    token: &[f32],
    positions: Positions<'_>,
    places: Option<&[u32]>,
) -> Vec<f32> {
    let (width, all) = (positions.width, patches.len() / linear.input);
    let rows = linear.forward(patches, all);
    let mut out = Vec::with_capacity((all + all / count) * width);
    for (index, row) in rows.chunks_exact(width).enumerate() {
        if index % count == 0 {
            out.extend(sum_of(token, positions.class()));
        }
        out.extend(sum_of(row, positions.of(place(places, index, count))));
    }
    out
}

/// Adds the gradients of [`embed`]'s weights.
pub(crate) fn embed_backward(
    gradient: &[f32],
    patches: &[f32],
    count: usize,
    linear: Linear<'_>,
    positions: Positions<'_>,
    places: Option<&[u32]>,
    of: &mut Gradients<'_>,
) {
    let (width, stride, all) = (positions.width, positions.stride, patches.len() / linear.input);
    let mut rows = Vec::with_capacity(all * width);
    for image in gradient.chunks_exact((1 + count) * width) {
        add(&mut of.token[..width], &image[..width]);
        add(&mut of.positions[..width], &image[..width]);
        rows.extend_from_slice(&image[width..]);
    }
    for (index, row) in rows.chunks_exact(width).enumerate() {
        add(&mut of.positions[(1 + place(places, index, count)) * stride..][..width], row);
    }
    linear.weight_gradient(patches, &rows, all, &mut of.linear);
}

/// What the decoder sees of `images` images: places of the seen and of the masked patches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hidden<'a> {
    pub(crate) images: usize,
    pub(crate) seen: &'a [u32],
    pub(crate) masked: &'a [u32],
}

/// The encoder's tokens `[images, 1 + seen, input]` to the decoder's `[images, 1 + seen + masked, width]`.
pub(crate) fn join(
    tokens: &[f32],
    linear: Linear<'_>,
    token: &[f32],
    positions: Positions<'_>,
    hidden: Hidden<'_>,
) -> Vec<f32> {
    let width = positions.width;
    let (seen, masked) = (hidden.seen.len() / hidden.images, hidden.masked.len() / hidden.images);
    let rows = linear.forward(tokens, hidden.images * (1 + seen));
    let mut out = Vec::with_capacity(hidden.images * (1 + seen + masked) * width);
    let images = rows.chunks_exact((1 + seen) * width);
    for ((image, seen), masked) in images.zip(hidden.seen.chunks(seen)).zip(hidden.masked.chunks(masked)) {
        out.extend(sum_of(&image[..width], positions.class()));
        for (row, place) in image[width..].chunks_exact(width).zip(seen) {
            out.extend(sum_of(row, positions.of(*place as usize)));
        }
        for place in masked {
            out.extend(sum_of(&token[..width], positions.of(*place as usize)));
        }
    }
    out
}

/// The gradient of [`join`]'s tokens; those of its weights are added.
pub(crate) fn join_backward(
    gradient: &[f32],
    tokens: &[f32],
    linear: Linear<'_>,
    positions: Positions<'_>,
    hidden: Hidden<'_>,
    of: &mut Gradients<'_>,
) -> Vec<f32> {
    let (width, stride) = (positions.width, positions.stride);
    let (seen, masked) = (hidden.seen.len() / hidden.images, hidden.masked.len() / hidden.images);
    let mut rows = Vec::with_capacity(hidden.images * (1 + seen) * width);
    let images = gradient.chunks_exact((1 + seen + masked) * width);
    for ((image, seen), masked) in images.zip(hidden.seen.chunks(seen)).zip(hidden.masked.chunks(masked)) {
        let (known, unknown) = image.split_at((1 + seen.len()) * width);
        rows.extend_from_slice(known);
        column_sums(unknown, &mut of.token[..width]);
        add(&mut of.positions[..width], &known[..width]);
        let patches = known[width..].chunks_exact(width).chain(unknown.chunks_exact(width));
        for (row, place) in patches.zip(seen.iter().chain(masked)) {
            add(&mut of.positions[(1 + *place as usize) * stride..][..width], row);
        }
    }
    let count = hidden.images * (1 + seen);
    linear.weight_gradient(tokens, &rows, count, &mut of.linear);
    linear.input_gradient(&rows, count)
}
