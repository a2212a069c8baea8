//! Gradient centralization.

use gradus_core::FloatElement;

use crate::{
    lanes::sum1,
    param::Value,
    pieces::{Rows, in_rows},
    rule::{Layout, Rule, Turn, transform},
    slots::Slots,
};

/// Takes the mean out of the gradient of each output: of every row of a matrix, of every output channel of a
/// convolution kernel. Parameters of fewer than two dimensions are left alone.
///
/// Before the optimizer, as in the paper; it needs no values and has neither state nor hyper-parameters.
///
/// # References
/// Yong, Huang, Hua, Zhang: Gradient centralization: a new optimization technique for deep neural networks (2020),
/// arXiv:2004.01461.
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::Centralize;
///
/// let mut params = vec![VecParam::new("w", &[2, 2], vec![0.0f32; 4]).with_grad(vec![1.0, 3.0, 5.0, 5.0])];
/// Centralize::new().step(0.1, &mut params)?;
/// assert_eq!(params[0].grad, Some(vec![-1.0, 1.0, 0.0, 0.0]));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Centralize {
    rule: RowMeans,
    slots: Slots,
}

#[derive(Clone, Debug)]
struct RowMeans;

impl Centralize {
    /// The stage.
    #[must_use]
    pub fn new() -> Self {
        Self { rule: RowMeans, slots: Slots::none() }
    }
}

impl Default for Centralize {
    fn default() -> Self {
        Self::new()
    }
}
transform!(Centralize { rule }, "Nothing.");

impl Layout for RowMeans {
    fn fields(&self) -> Option<&'static [&'static str]> {
        None
    }
}

impl Rule for RowMeans {
    const NEEDS_VALUE: bool = false;

    fn update<T: Value>(&self, Turn { site, grad, .. }: Turn<'_, T>) {
        let [_, inner @ ..] = site.shape else { return };
        if inner.is_empty() || grad.is_empty() {
            return;
        }
        let width: usize = inner.iter().product();
        in_rows(Rows { data: grad, width }, width, move |rows: Rows<'_, T>| {
            for row in rows.data.chunks_mut(width) {
                let mean = sum1(row, T::load) / width as f64;
                let mean = T::Work::from_f64(mean);
                row.iter_mut().for_each(|g| *g = T::store(g.load() - mean));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    #[test]
    fn kernels_are_centred_by_output_channel_and_vectors_are_not() {
        let kernel =
            VecParam::new("k", &[2, 1, 2], vec![0.0f64; 4]).with_grad(vec![2.0, 4.0, -1.0, 1.0]);
        let vector = VecParam::new("b", &[2], vec![0.0f64; 2]).with_grad(vec![2.0, 4.0]);
        let empty = VecParam::new("e", &[0, 2], vec![]).with_grad(vec![]);
        let mut params = vec![kernel, vector, empty];
        Centralize::new().step(0.1, &mut params).unwrap();
        assert_eq!(params[0].grad, Some(vec![-1.0, 1.0, -1.0, 1.0]));
        assert_eq!(params[1].grad, Some(vec![2.0, 4.0]));
    }
}
