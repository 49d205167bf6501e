//! How a kernel walks over a buffer: offset, extents and strides, in elements.

use serde::{Deserialize, Serialize};

/// A strided window onto a buffer of elements.
///
/// Element `(i0, i1, …)` lies at `offset + i0 * strides[0] + i1 * strides[1] + …`. Movement
/// operations (permute, slice, broadcast, most reshapes) change only the view, never the buffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Element at which index zero lies.
    pub offset: i64,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Elements to step for one step along each extent; zero repeats, negative walks backwards.
    pub strides: Vec<i64>,
}

impl View {
    /// The row-major view of a whole buffer of `shape`.
    pub fn contiguous(shape: &[usize]) -> View {
        let mut strides = vec![0; shape.len()];
        let mut step = 1i64;
        for (stride, extent) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            step = step.saturating_mul(*extent as i64);
        }
        View { offset: 0, shape: shape.to_vec(), strides }
    }

    /// Number of extents.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Product of the extents.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the view is row-major without gaps from element zero on.
    pub fn is_contiguous(&self) -> bool {
        let whole = View::contiguous(&self.shape);
        let same = |i: usize| self.shape.get(i) == Some(&1) || self.strides.get(i) == whole.strides.get(i);
        self.offset == 0 && (0..self.rank()).all(same)
    }

    /// The same elements with axis `axes[i]` at place `i`; `None` unless `axes` is a permutation.
    pub fn permute(&self, axes: &[usize]) -> Option<View> {
        let mut seen = vec![false; self.rank()];
        for axis in axes {
            if std::mem::replace(seen.get_mut(*axis)?, true) {
                return None;
            }
        }
        if axes.len() != self.rank() {
            return None;
        }
        let shape = axes.iter().filter_map(|a| self.shape.get(*a).copied()).collect();
        let strides = axes.iter().filter_map(|a| self.strides.get(*a).copied()).collect();
        Some(View { offset: self.offset, shape, strides })
    }

    /// `count` elements of `axis` from `start` on, `step` apart; `None` for an axis that is not there or a walk that no buffer is
    /// long enough for. The caller has checked the bounds.
    pub fn slice(&self, axis: usize, start: i64, step: i64, count: usize) -> Option<View> {
        let mut view = self.clone();
        let stride = view.strides.get_mut(axis)?;
        view.offset = view.offset.checked_add(start.checked_mul(*stride)?)?;
        // Where there is one element nothing steps, however far the step would lead.
        *stride = if count < 2 { *stride } else { stride.checked_mul(step)? };
        *view.shape.get_mut(axis)? = count;
        Some(view)
    }

    /// The view without `axis`, fixed at index `at`.
    pub fn select(&self, axis: usize, at: i64) -> Option<View> {
        let mut view = self.slice(axis, at, 1, 1)?;
        view.shape.remove(axis);
        view.strides.remove(axis);
        Some(view)
    }

    /// Repeats extents of one and prepends axes, by the broadcasting rule of ONNX (and numpy).
    pub fn broadcast(&self, shape: &[usize]) -> Option<View> {
        let lead = shape.len().checked_sub(self.rank())?;
        let mut strides = vec![0; shape.len()];
        for (i, (extent, stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            let want = *shape.get(lead + i)?;
            if *extent == want {
                *strides.get_mut(lead + i)? = *stride;
            } else if *extent != 1 {
                return None;
            }
        }
        Some(View { offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// The same elements in row-major order under another shape, or `None` when no view can do it.
    pub fn reshape(&self, shape: &[usize]) -> Option<View> {
        if shape.iter().product::<usize>() != self.elements() {
            return None;
        }
        // Runs of old axes that lie in memory as one axis, each as (elements, innermost stride).
        let mut runs: Vec<(usize, i64)> = Vec::new();
        for (extent, stride) in self.shape.iter().zip(&self.strides) {
            if *extent == 1 {
                continue;
            }
            match runs.last_mut() {
                Some((elements, inner)) if *inner == stride * *extent as i64 => {
                    *elements *= extent;
                    *inner = *stride;
                }
                _ => runs.push((*extent, *stride)),
            }
        }
        let mut strides = vec![0i64; shape.len()];
        let mut left = runs.pop();
        for (extent, stride) in shape.iter().zip(strides.iter_mut()).rev() {
            if *extent == 1 {
                continue;
            }
            let (elements, step) = left?;
            if elements % extent != 0 {
                return None;
            }
            *stride = step;
            left = if elements == *extent {
                runs.pop()
            } else {
                Some((elements / extent, step * *extent as i64))
            };
        }
        Some(View { offset: self.offset, shape: shape.to_vec(), strides })
    }

    /// `self` walks a row-major buffer of `inner`'s shape; the walk over the same elements where
    /// `inner` has them, or `None` when no view can do it.
    pub fn after(&self, inner: &View) -> Option<View> {
        let whole = View::contiguous(&inner.shape);
        let mut left = self.offset;
        let mut last: Vec<i64> = Vec::with_capacity(inner.rank());
        for step in &whole.strides {
            last.push(left / step);
            left %= step;
        }
        if self.offset < 0 || last.first().zip(inner.shape.first()).is_some_and(|(i, e)| *i >= *e as i64) {
            return None;
        }
        let offset = inner.offset + last.iter().zip(&inner.strides).map(|(i, s)| i * s).sum::<i64>();
        let mut strides = Vec::with_capacity(self.rank());
        for (extent, stride) in self.shape.iter().zip(&self.strides) {
            if *extent == 1 || *stride == 0 {
                strides.push(0);
                continue;
            }
            // The outermost axis that makes whole steps of it; extents of one step nowhere.
            let axis = (0..inner.rank()).find(|axis| {
                let step = whole.strides.get(*axis).copied().unwrap_or(0);
                inner.shape.get(*axis) != Some(&1) && *stride >= step && stride % step == 0
            })?;
            let steps = stride / whole.strides.get(axis)?;
            let reached = last.get_mut(axis)?;
            *reached += steps * (*extent as i64 - 1);
            if *reached >= *inner.shape.get(axis)? as i64 {
                return None;
            }
            strides.push(steps * inner.strides.get(axis)?);
        }
        Some(View { offset, shape: self.shape.clone(), strides })
    }

    /// Least and greatest element touched; `None` for an empty view.
    pub fn range(&self) -> Option<(i64, i64)> {
        let (mut least, mut greatest) = (self.offset, self.offset);
        for (extent, stride) in self.shape.iter().zip(&self.strides) {
            let reach = (i64::try_from(*extent).ok()? - 1).checked_mul(*stride)?;
            if *extent == 0 {
                return None;
            }
            least = least.checked_add(reach.min(0))?;
            greatest = greatest.checked_add(reach.max(0))?;
        }
        Some((least, greatest))
    }

    /// Whether the view touches each of the elements `0..elements` exactly once.
    pub fn is_bijection(&self, elements: usize) -> bool {
        let mut axes: Vec<(i64, usize)> =
            self.strides.iter().zip(&self.shape).filter(|(_, e)| **e != 1).map(|(s, e)| (*s, *e)).collect();
        axes.sort_unstable();
        let mut next = 1i64;
        for (stride, extent) in axes {
            if stride != next {
                return false;
            }
            next = stride.saturating_mul(extent as i64);
        }
        self.offset == 0 && next == elements as i64
    }

    /// The axes of `range` alone, with offset zero.
    pub fn part(&self, range: std::ops::Range<usize>) -> View {
        let shape = self.shape.get(range.clone()).unwrap_or_default().to_vec();
        View { offset: 0, strides: self.strides.get(range).unwrap_or_default().to_vec(), shape }
    }

    /// Whether four neighbours along the last axis can be read as one aligned vector.
    pub fn in_fours(&self) -> bool {
        let last = self.rank().wrapping_sub(1);
        let whole = |(i, (extent, stride)): (usize, (&usize, &i64))| {
            if i == last { *stride == 1 && extent % 4 == 0 } else { *extent == 1 || stride % 4 == 0 }
        };
        self.offset % 4 == 0 && self.rank() > 0 && self.shape.iter().zip(&self.strides).enumerate().all(whole)
    }

    /// The elements' positions in row-major order; for work on the host.
    pub fn positions(&self) -> Positions<'_> {
        Positions { view: self, index: vec![0; self.rank()], at: self.offset, left: self.elements() }
    }
}

/// Iterator of [`View::positions`].
#[derive(Debug)]
pub struct Positions<'a> {
    view: &'a View,
    index: Vec<usize>,
    at: i64,
    left: usize,
}

impl Iterator for Positions<'_> {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let here = self.at;
        let axes = self.index.iter_mut().zip(&self.view.shape).zip(&self.view.strides);
        for ((index, extent), stride) in axes.rev() {
            *index += 1;
            self.at += stride;
            if *index < *extent {
                break;
            }
            *index = 0;
            self.at -= stride * *extent as i64;
        }
        Some(here)
    }
}

/// Merges neighbouring axes wherever every view walks them as one; extents of one vanish.
///
/// All views must have the same shape. The offsets stay as they are.
pub fn collapse(views: &mut [View]) {
    let Some(first) = views.first() else { return };
    let shape = first.shape.clone();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let stride = |v: &View, axis: usize| v.strides.get(axis).copied().unwrap_or(0);
    for (axis, extent) in shape.iter().enumerate().filter(|(_, e)| **e != 1) {
        let joins = |last: usize| views.iter().all(|v| stride(v, last) == stride(v, axis) * *extent as i64);
        match groups.last_mut() {
            Some(group) if group.last().is_some_and(|last| joins(*last)) => group.push(axis),
            _ => groups.push(vec![axis]),
        }
    }
    for view in views.iter_mut() {
        let extents = |g: &Vec<usize>| g.iter().filter_map(|a| shape.get(*a)).product();
        let shape = groups.iter().map(extents).collect();
        let strides = groups.iter().filter_map(|g| g.last()).map(|axis| stride(view, *axis)).collect();
        *view = View { offset: view.offset, shape, strides };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_beyond_every_buffer_is_one_element_or_nothing() {
        let view = View::contiguous(&[4, 5]);
        assert_eq!(view.slice(0, 1, i64::MAX, 1).unwrap().strides, [5, 1]);
        assert!(view.slice(0, 1, i64::MAX, 2).is_none() && view.slice(0, i64::MAX, 1, 1).is_none());
    }

    #[test]
    fn reshape_of_a_slice_splits_heads() {
        // Columns 4..8 of a [5, 12] matrix as two heads of two.
        let view = View::contiguous(&[5, 12]).slice(1, 4, 1, 4).unwrap();
        let heads = view.reshape(&[5, 2, 2]).unwrap();
        assert_eq!(heads, View { offset: 4, shape: vec![5, 2, 2], strides: vec![12, 2, 1] });
        assert_eq!(view.reshape(&[20]), None);
        assert_eq!(heads.reshape(&[1, 5, 1, 4]).unwrap().strides, vec![0, 12, 0, 1]);
    }

    #[test]
    fn a_view_of_a_view() {
        // Heads of columns 192.. of a [65, 576] matrix, copied row-major as [3, 65, 64], read turned.
        let inner = View { offset: 192, shape: vec![3, 65, 64], strides: vec![64, 576, 1] };
        let turned = View::contiguous(&[3, 65, 64]).permute(&[0, 2, 1]).unwrap();
        let both = turned.after(&inner).unwrap();
        assert_eq!((both.offset, both.strides), (192, vec![64, 1, 576]));
        // Rows 1.. of [65, 8] as one axis of a contiguous whole; a run over two axes that are not one is none.
        let rows = View::contiguous(&[65, 8]).slice(0, 1, 1, 64).unwrap();
        let inner = View { offset: 5, shape: vec![1, 65, 8], strides: vec![0, 16, 1] };
        assert_eq!(
            rows.after(&inner).unwrap(),
            View { offset: 21, shape: vec![64, 8], strides: vec![16, 1] }
        );
        assert_eq!(View::contiguous(&[520]).after(&inner), None);
        assert_eq!(View::contiguous(&[66, 8]).after(&inner), None);
    }

    #[test]
    fn a_permutation_is_a_bijection_and_a_slice_is_not() {
        let view = View::contiguous(&[2, 3, 4]);
        assert!(view.permute(&[2, 0, 1]).unwrap().is_bijection(24));
        assert!(!view.slice(0, 0, 1, 1).unwrap().is_bijection(24));
        assert!(!View::contiguous(&[3]).broadcast(&[2, 3]).unwrap().is_bijection(6));
        assert_eq!(view.permute(&[0, 0, 1]), None);
    }

    #[test]
    fn positions_follow_the_strides() {
        let view = View::contiguous(&[2, 3]).permute(&[1, 0]).unwrap();
        assert_eq!(view.positions().collect::<Vec<_>>(), [0, 3, 1, 4, 2, 5]);
        let back = View::contiguous(&[3]).slice(0, 2, -1, 3).unwrap();
        assert_eq!(back.positions().collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(back.range(), Some((0, 2)));
    }

    #[test]
    fn collapse_merges_only_where_every_view_agrees() {
        let whole = View::contiguous(&[2, 1, 3, 4]);
        let turned = View::contiguous(&[2, 1, 4, 3]).permute(&[0, 1, 3, 2]).unwrap();
        let mut one = vec![whole.clone()];
        collapse(&mut one);
        assert_eq!(one[0].shape, [24]);
        let mut two = vec![whole, turned];
        collapse(&mut two);
        assert_eq!(two[0].shape, [2, 3, 4]);
        assert_eq!(two[1].strides, [12, 1, 3]);
    }
}
