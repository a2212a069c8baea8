//! Dividing items into parts.

use std::collections::BTreeMap;

use crate::{
    DataError,
    order::{Purpose, permutation},
};

/// Divides the items `0..n` at random into parts of these fractions; every item is in exactly one part.
///
/// The parts are functions of the arguments alone and come in random order. A part's size differs from
/// `fraction * n` by less than one. Where rounding down leaves items over, they go to the parts with the
/// largest remainders (PyTorch's `random_split` gives them to the first parts, so that 0.29 of 100 may
/// become 28).
///
/// ```
/// let parts = gradus_data::split(10, &[0.8, 0.2], 42).unwrap();
/// assert_eq!((parts[0].len(), parts[1].len()), (8, 2));
/// ```
///
/// # Errors
/// [`DataError::Fractions`] when there is none, one is negative or not finite, or they do not add up to 1
/// (within 1e-6).
pub fn split(n: usize, fractions: &[f64], seed: u64) -> Result<Vec<Vec<usize>>, DataError> {
    stratified_split(&vec![0; n], fractions, seed)
}

/// As [`split`], with the items of each label divided in these fractions too.
///
/// A part's share of each label differs from `fraction * count` by at most one; what rounding leaves over
/// goes to the parts that lag behind most, so that rare labels do not all end in the same part.
///
/// # Errors
/// As [`split`].
pub fn stratified_split(
    labels: &[i64],
    fractions: &[f64],
    seed: u64,
) -> Result<Vec<Vec<usize>>, DataError> {
    let sum: f64 = fractions.iter().sum();
    // Written so that NaN fails.
    if !(fractions.iter().all(|&f| f >= 0.0) && (sum - 1.0).abs() <= 1e-6) {
        return Err(DataError::Fractions { fractions: fractions.to_vec() });
    }
    let fractions: Vec<f64> = fractions.iter().map(|f| f / sum).collect();

    let mut quotas = quotas(labels, &fractions);
    let mut parts = vec![Vec::new(); fractions.len()];
    for i in permutation(labels.len(), seed, Purpose::Split, 0) {
        parts[take_place(&mut quotas, labels[i])].push(i);
    }
    Ok(parts)
}

/// The first part that has a place left for an item of this label; the place is taken then.
fn take_place(quotas: &mut BTreeMap<i64, Vec<usize>>, label: i64) -> usize {
    let left = quotas.get_mut(&label).expect("every label has quotas");
    let part = left.iter().position(|&q| q > 0).expect("quotas add up to the label's items");
    left[part] -= 1;
    part
}

/// How many items of each label every part gets.
fn quotas(labels: &[i64], fractions: &[f64]) -> BTreeMap<i64, Vec<usize>> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for &label in labels {
        *counts.entry(label).or_default() += 1;
    }
    // What each part has so far less than its due.
    let mut lag = vec![0.0; fractions.len()];
    let mut divide = |count: usize| {
        let shares: Vec<f64> = fractions.iter().map(|f| f * count as f64).collect();
        let mut quota: Vec<usize> = shares.iter().map(|&s| s as usize).collect();
        for (lag, share) in lag.iter_mut().zip(&shares) {
            *lag += share.fract();
        }
        // A part whose share is whole has got it; of the others the one that lags most comes first.
        let mut order: Vec<usize> = (0..fractions.len()).collect();
        order.sort_by(|&a, &b| {
            let whole = |p: usize| shares[p].fract() == 0.0;
            whole(a).cmp(&whole(b)).then(lag[b].total_cmp(&lag[a]))
        });
        for &p in order.iter().cycle().take(count - quota.iter().sum::<usize>()) {
            quota[p] += 1;
            lag[p] -= 1.0;
        }
        quota
    };
    counts.into_iter().map(|(label, count)| (label, divide(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(parts: &[Vec<usize>]) -> Vec<usize> {
        parts.iter().map(Vec::len).collect()
    }

    #[test]
    fn the_parts_are_pinned() {
        let parts = split(10, &[0.5, 0.3, 0.2], 7).unwrap();
        assert_eq!(parts, [vec![3, 5, 6, 1, 7], vec![2, 4, 9], vec![0, 8]]);
        let labels = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1];
        let parts = stratified_split(&labels, &[0.6, 0.4], 7).unwrap();
        assert_eq!(parts, [vec![3, 5, 6, 1, 2, 4], vec![7, 9, 0, 8]]);
    }

    #[test]
    fn what_is_left_over_goes_to_the_largest_remainders() {
        assert_eq!(sizes(&split(100, &[0.71, 0.29], 0).unwrap()), [71, 29]);
        assert_eq!(sizes(&split(10, &[1.0 / 3.0; 3], 0).unwrap()), [4, 3, 3]);
        assert_eq!(sizes(&split(3, &[0.1, 0.9, 0.0], 0).unwrap()), [0, 3, 0]);
        assert_eq!(sizes(&split(0, &[0.5, 0.5], 0).unwrap()), [0, 0]);
        assert_eq!(sizes(&split(1, &[1.0], 0).unwrap()), [1]);
    }

    #[test]
    fn rare_labels_do_not_all_end_in_one_part() {
        // 100 labels of 3 items each: halves of 150, not 200 and 100.
        let labels: Vec<i64> = (0..300).map(|i| i % 100).collect();
        assert_eq!(sizes(&stratified_split(&labels, &[0.5, 0.5], 1).unwrap()), [150, 150]);
        let labels: Vec<i64> = (0..300).collect();
        assert_eq!(sizes(&stratified_split(&labels, &[0.7, 0.2, 0.1], 1).unwrap()), [210, 60, 30]);
    }

    #[test]
    fn bad_fractions_are_refused() {
        for bad in [&[][..], &[0.5], &[1.5, -0.5], &[f64::NAN, 1.0], &[f64::INFINITY], &[0.6, 0.6]]
        {
            assert!(matches!(split(5, bad, 0), Err(DataError::Fractions { .. })), "{bad:?}");
        }
        assert!(split(5, &[0.8f32.into(), 0.2f32.into()], 0).is_ok());
    }
}
