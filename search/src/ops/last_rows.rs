//! The last rows of each image: the masked tokens, or all but the class token.

use std::borrow::Cow;

/// Sizes of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastRows {
    pub(crate) images: usize,
    pub(crate) tokens: usize,
    /// Tokens at the beginning of each image that are passed over.
    pub(crate) skip: usize,
}

impl LastRows {
    /// The rows that are not passed over.
    pub(crate) fn each(self) -> usize {
        self.tokens - self.skip
    }

    /// Those of all images.
    pub(crate) fn count(self) -> usize {
        self.images * self.each()
    }

    /// The last rows of each image, side by side.
    pub(crate) fn gather(self, x: &[f32]) -> Cow<'_, [f32]> {
        if self.skip == 0 {
            return Cow::Borrowed(x);
        }
        let width = x.len() / (self.images * self.tokens);
        let mut out = Vec::with_capacity(self.count() * width);
        for image in x.chunks_exact(self.tokens * width) {
            out.extend_from_slice(&image[self.skip * width..]);
        }
        Cow::Owned(out)
    }

    /// Rows back to their places, zeros where tokens were passed over.
    pub(crate) fn scatter(self, rows: Vec<f32>) -> Vec<f32> {
        if self.skip == 0 {
            return rows;
        }
        let width = rows.len() / self.count();
        let mut out = Vec::with_capacity(self.images * self.tokens * width);
        for image in rows.chunks_exact(self.each() * width) {
            out.resize(out.len() + self.skip * width, 0.0);
            out.extend_from_slice(image);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_out_and_put_back() {
        let x: Vec<f32> = (1..=12).map(|i| i as f32).collect();
        let last = LastRows { images: 2, tokens: 3, skip: 2 };
        assert_eq!(*last.gather(&x), [5.0, 6.0, 11.0, 12.0]);
        let back = last.scatter(vec![5.0, 6.0, 11.0, 12.0]);
        assert_eq!(back, [0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 11.0, 12.0]);
        let all = LastRows { skip: 0, ..last };
        assert_eq!(all.scatter(all.gather(&x).into_owned()), x);
    }
}
