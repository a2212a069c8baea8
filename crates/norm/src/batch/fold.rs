//! Folding batch normalization into the layer before it.

use gradus_autograd::{DType, Tensor};

use super::BatchNorm;
use crate::NormError;

impl BatchNorm {
    /// Weight and bias of one linear layer or convolution that does what the given one and this layer after it do in
    /// evaluation: `w' = w scale`, `b' = (b - mean) scale + bias` with `scale = weight / sqrt(var + eps)`.
    ///
    /// # Shapes
    /// `weight` `[C, ...]`: `[out, in]` of a linear layer, `[out, in / groups, k...]` of a convolution; `bias` `[C]`. The
    /// results are of the same shapes, in the type of `weight`.
    ///
    /// # Errors
    /// [`NormError::NoRunningStats`] when this layer keeps none, [`NormError::OutOfRange`] for a running variance
    /// below 0.
    ///
    /// # Panics
    /// When `weight` does not have this layer's number of channels along its first dimension, or `bias` is not `[C]`.
    ///
    /// ```
    /// use gradus_autograd::{Layer, Tape, Tensor};
    /// use gradus_norm::BatchNorm;
    ///
    /// let norm = BatchNorm::new(1);
    /// let _ = norm.forward(&Tape::training(0, 0).constant(Tensor::from_slice(&[4f32, 8.0], &[2, 1])));
    /// let (weight, bias) = norm.fold_into(&Tensor::from_slice(&[2f32, 3.0], &[1, 2]), None)?;
    /// let (tape, x) = (Tape::evaluation(), Tensor::from_slice(&[1f32, 1.0], &[1, 2]));
    /// let folded = tape.constant(x.linear(&weight, Some(&bias))).item();
    /// let apart = norm.forward(&tape.constant(Tensor::from_slice(&[5f32], &[1, 1]))).item();
    /// assert!((folded - apart).abs() < 1e-6);
    /// # Ok::<(), gradus_norm::NormError>(())
    /// ```
    #[track_caller]
    pub fn fold_into(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor), NormError> {
        let lines = self.inference()?;
        let channels = [lines.len()];
        assert_eq!(
            weight.shape().get(..1),
            Some(&channels[..]),
            "fold_into: a weight of shape {:?} before {} channels",
            weight.shape(),
            lines.len()
        );
        if let Some(bias) = bias {
            assert_eq!(bias.shape(), channels, "fold_into: the shape of the bias");
        }
        let wide = |t: &Tensor| t.to_dtype(DType::F64).to_vec::<f64>();
        let (mut w, mut b) = (wide(weight), bias.map_or(vec![0.0; lines.len()], wide));
        let row = weight.shape()[1..].iter().product::<usize>().max(1);
        for ((w, b), (scale, shift)) in w.chunks_exact_mut(row).zip(&mut b).zip(lines) {
            w.iter_mut().for_each(|w| *w *= scale);
            *b = *b * scale + shift;
        }
        let narrow =
            |v: &[f64], shape: &[usize]| Tensor::from_slice(v, shape).to_dtype(weight.dtype());
        Ok((narrow(&w, weight.shape()), narrow(&b, &channels)))
    }

    /// As [`fold_into`](Self::fold_into), for a transposed convolution, whose weight is `[in, C / groups, k...]`.
    ///
    /// # Errors
    /// As [`fold_into`](Self::fold_into).
    ///
    /// # Panics
    /// When `weight` is not `[in, C / groups, ...]` with `in` a multiple of `groups`, or `bias` is not `[C]`.
    #[track_caller]
    pub fn fold_into_transposed(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        groups: usize,
    ) -> Result<(Tensor, Tensor), NormError> {
        let shape = weight.shape();
        assert!(
            shape.len() >= 2 && groups > 0 && shape[0].is_multiple_of(groups),
            "fold_into_transposed: a weight of shape {shape:?} in {groups} groups"
        );
        // [groups, in / groups, C / groups, ...] to [groups, C / groups, in / groups, ...], and back.
        let apart = [&[groups, shape[0] / groups], &shape[1..]].concat();
        let swapped = weight.view(&apart).transpose(1, 2).contiguous();
        let kept = swapped.shape().to_vec();
        let flat = [&[groups * shape[1]], &kept[2..]].concat();
        let (weight, bias) = self.fold_into(&swapped.view(&flat), bias)?;
        Ok((weight.view(&kept).transpose(1, 2).contiguous().view(shape), bias))
    }
}
