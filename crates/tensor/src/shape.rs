//! Shapes, strides and broadcasting.

use smallvec::SmallVec;

/// Dimensions of a tensor; up to six are held without an allocation.
pub(crate) type Dims = SmallVec<[usize; 6]>;
/// Elements between neighbours along each dimension; may be 0 (broadcast) or negative.
pub(crate) type Strides = SmallVec<[isize; 6]>;

/// Row-major strides of a shape.
pub(crate) fn row_major(shape: &[usize]) -> Strides {
    let mut strides: Strides = SmallVec::from_elem(0, shape.len());
    let mut step = 1isize;
    for (s, &d) in strides.iter_mut().zip(shape).rev() {
        *s = step;
        // Only the strides of a tensor without elements can overflow, and nothing is read by them.
        step = step.wrapping_mul(d.max(1) as isize);
    }
    strides
}

/// Number of elements; 0 where a dimension is, however large the others are.
///
/// # Panics
/// When the number overflows: such a shape cannot have memory behind it.
#[track_caller]
pub(crate) fn numel(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    n.unwrap_or_else(|| panic!("the number of elements of shape {shape:?} overflows usize"))
}

/// Whether elements lie densely in row-major order (dimensions of size 1 may have any stride).
pub(crate) fn is_row_major(shape: &[usize], strides: &[isize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut step = 1isize;
    for (&d, &s) in shape.iter().zip(strides).rev() {
        if d != 1 && s != step {
            return false;
        }
        step *= d as isize;
    }
    true
}

/// Walks a strided view by rows of its last dimension (which merges with the ones before it where it can):
/// `f(row-major position, position in the buffer, length, stride)`.
pub(crate) fn walk_rows(
    shape: &[usize],
    strides: &[isize],
    offset: usize,
    mut f: impl FnMut(usize, usize, usize, isize),
) {
    if shape.contains(&0) {
        return;
    }
    // Merge dimensions that lie behind each other.
    let mut dims: Vec<(usize, isize)> = Vec::with_capacity(shape.len());
    for (&d, &s) in shape.iter().zip(strides) {
        if d == 1 {
            continue;
        }
        match dims.last_mut() {
            Some((pd, ps)) if *ps == s * d as isize => (*pd, *ps) = (*pd * d, s),
            _ => dims.push((d, s)),
        }
    }
    let (n, step) = dims.pop().unwrap_or((1, 1));
    let mut index = vec![0usize; dims.len()];
    let (mut at, mut pos) = (0, offset as isize);
    loop {
        f(at, pos as usize, n, step);
        at += n;
        let mut k = dims.len();
        loop {
            if k == 0 {
                return;
            }
            k -= 1;
            index[k] += 1;
            pos += dims[k].1;
            if index[k] < dims[k].0 {
                break;
            }
            pos -= dims[k].1 * dims[k].0 as isize;
            index[k] = 0;
        }
    }
}

/// The shape two operands have together by NumPy's rules, or `None` where they do not fit.
#[must_use]
pub fn broadcast_shapes(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let n = a.len().max(b.len());
    let at = |s: &[usize], i: usize| if i + s.len() < n { 1 } else { s[i + s.len() - n] };
    (0..n)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// A dimension counted from the front, from one that may be negative.
///
/// # Panics
/// When there is no such dimension.
#[must_use]
#[track_caller]
pub fn normalize_dim(op: &str, dim: isize, ndim: usize) -> usize {
    let n = ndim as isize;
    assert!(
        (-n..n).contains(&dim),
        "{op}: dimension {dim} does not exist in a tensor of {ndim} dimensions"
    );
    dim.rem_euclid(n) as usize
}

/// Dimensions counted from the front, sorted and without repetition; none given means all. A scalar has none, but
/// may be asked for dimension 0 (or -1), as in PyTorch.
///
/// # Panics
/// When one does not exist or is named twice.
#[must_use]
#[track_caller]
pub fn normalize_dims(op: &str, dims: &[isize], ndim: usize) -> Vec<usize> {
    let mut out: Vec<usize> = if dims.is_empty() {
        (0..ndim).collect()
    } else {
        dims.iter().map(|&d| normalize_dim(op, d, ndim.max(1))).collect()
    };
    out.sort_unstable();
    assert!(out.windows(2).all(|w| w[0] != w[1]), "{op}: a dimension is named twice in {dims:?}");
    out.truncate(ndim);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_numpy() {
        assert_eq!(broadcast_shapes(&[3, 1], &[2]), Some(vec![3, 2]));
        assert_eq!(broadcast_shapes(&[], &[2, 0]), Some(vec![2, 0]));
        assert_eq!(broadcast_shapes(&[1], &[0]), Some(vec![0]));
        assert_eq!(broadcast_shapes(&[2], &[3]), None);
        assert_eq!(broadcast_shapes(&[2, 3], &[3, 2]), None);
    }

    #[test]
    fn dense_means_row_major_up_to_dimensions_of_one() {
        assert!(is_row_major(&[2, 3], &[3, 1]));
        assert!(is_row_major(&[2, 1, 3], &[3, 77, 1]));
        assert!(!is_row_major(&[2, 3], &[1, 2]));
        assert!(is_row_major(&[0, 3], &[9, 9]));
        assert_eq!(row_major(&[2, 3, 4]).as_slice(), &[12, 4, 1]);
    }

    #[test]
    fn a_dimension_of_zero_wins_over_any_other() {
        let huge = [usize::MAX, 0, usize::MAX];
        assert_eq!(numel(&huge), 0);
        assert!(is_row_major(&huge, &row_major(&huge)));
    }

    #[test]
    #[should_panic(expected = "shape [4611686018427387904, 4] overflows")]
    fn a_shape_that_overflows_panics() {
        let _ = numel(&[1 << 62, 4]);
    }

    #[test]
    fn a_scalar_may_be_asked_for_its_first_dimension() {
        assert!(normalize_dims("sum", &[0], 0).is_empty());
        assert!(normalize_dims("sum", &[-1], 0).is_empty());
        assert_eq!(normalize_dims("sum", &[-1, 0], 3), [0, 2]);
    }

    #[test]
    #[should_panic(expected = "sum: dimension 1 does not exist")]
    fn a_scalar_has_no_second_dimension() {
        let _ = normalize_dims("sum", &[1], 0);
    }

    #[test]
    #[should_panic(expected = "sum: dimension 2 does not exist")]
    fn a_missing_dimension_panics() {
        let _ = normalize_dim("sum", 2, 2);
    }
}
