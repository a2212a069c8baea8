//! Batches whose samples are mixed with each other.

use std::{fmt, ops::Range};

use gradus_autograd::Tensor;
use gradus_tensor::{Real, kernel, par, with_real};

use crate::{LabelError, RangeError, RateError, draws::Draws, groups::in_real};

/// A rectangle of an image; ends excluded, possibly empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutBox {
    /// Its rows.
    pub rows: Range<usize>,
    /// Its columns.
    pub columns: Range<usize>,
}

impl CutBox {
    /// CutMix's box: sides `floor(side sqrt(1 - lam))` of an image `[height, width]`, around `[row, column]`, clipped to
    /// the image.
    ///
    /// ```
    /// use gradus_regularize::CutBox;
    /// let cut = CutBox::around([32, 32], 0.9, [0, 31])?;
    /// assert_eq!((cut.rows.clone(), cut.columns.clone()), (0..5, 26..32));
    /// assert_eq!(cut.lam([32, 32]), 1.0 - 30.0 / 1024.0);
    /// # Ok::<(), gradus_regularize::RangeError>(())
    /// ```
    ///
    /// # Errors
    /// [`RangeError`] when `lam` is outside of \[0, 1\].
    pub fn around(size: [usize; 2], lam: f64, center: [usize; 2]) -> Result<Self, RangeError> {
        check_lam(lam)?;
        let [rows, columns] = [0, 1].map(|d| {
            let half = (size[d] as f64 * (1.0 - lam).sqrt()) as usize / 2;
            let clip = |at: usize| at.min(size[d]);
            clip(center[d].saturating_sub(half))..clip(center[d] + half)
        });
        Ok(Self { rows, columns })
    }

    /// A box whose sides are drawn as shares of the image within `[min, max]`, anywhere in it.
    pub(crate) fn within(size: [usize; 2], share: [f64; 2], draws: &mut Draws) -> Self {
        let [rows, columns] = size.map(|side| {
            let [low, high] = share.map(|s| (side as f64 * s) as usize);
            let cut = low + draws.below(high - low + 1);
            let start = draws.below(side - cut + 1);
            start..start + cut
        });
        Self { rows, columns }
    }

    /// Number of places.
    #[must_use]
    pub fn area(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// The share of an image `[height, width]` that is outside: `1 - area / (height width)`, 1 for an empty image.
    #[must_use]
    pub fn lam(&self, size: [usize; 2]) -> f64 {
        if size.contains(&0) { 1.0 } else { 1.0 - self.area() as f64 / (size[0] * size[1]) as f64 }
    }

    pub(crate) fn fits(&self, [height, width]: [usize; 2]) -> bool {
        self.rows.start <= self.rows.end
            && self.columns.start <= self.columns.end
            && self.rows.end <= height
            && self.columns.end <= width
    }
}

fn check_lam(lam: f64) -> Result<(), RangeError> {
    RangeError::check((0.0..=1.0).contains(&lam), "lam", lam, "in [0, 1]")
}

/// How a sample is mixed with its partner.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Blend {
    /// `lam sample + (1 - lam) partner`; not touched at all for `lam` = 1.
    Mixup {
        /// Share of the sample itself.
        lam: f64,
    },
    /// The partner's content in a box.
    CutMix {
        /// The box.
        cut: CutBox,
        /// Share of the sample's own label.
        lam: f64,
    },
}

impl Blend {
    /// Share of the sample itself in its label.
    #[must_use]
    pub fn lam(&self) -> f64 {
        match self {
            Self::Mixup { lam } | Self::CutMix { lam, .. } => *lam,
        }
    }
}

/// What is done with each sample of a batch: its partner in the same batch, and how the two are mixed.
///
/// Given explicitly, or drawn by [`Mixup`](crate::Mixup).
///
/// ```
/// use gradus_autograd::Tensor;
/// use gradus_regularize::{Mixing, Probability, smooth_labels};
///
/// let x = Tensor::from_slice(&[1f32, 1.0, 3.0, 3.0], &[2, 2]);
/// let targets = smooth_labels(&Tensor::from_slice(&[0i64, 1], &[2]), 2, Probability::ZERO)?;
/// let mixing = Mixing::mixup(&Tensor::from_slice(&[1i64, 0], &[2]), 0.75)?;
/// assert_eq!(mixing.samples(&x).to_vec::<f32>(), [1.5, 1.5, 2.5, 2.5]);
/// assert_eq!(mixing.targets(&targets).to_vec::<f32>(), [0.75, 0.25, 0.25, 0.75]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Zhang, Cisse, Dauphin, Lopez-Paz: mixup (2018), arXiv:1710.09412. Yun, Han, Oh, Chun, Choe, Yoo: CutMix (2019),
/// arXiv:1905.04899.
#[derive(Clone, PartialEq, Debug)]
pub struct Mixing {
    partners: Vec<usize>,
    blends: Vec<Blend>,
}

impl Mixing {
    /// Mixup of every sample `i` with sample `partners[i]`.
    ///
    /// # Errors
    /// [`MixError`] when `lam` is outside of \[0, 1\] or a partner is no sample of the batch.
    ///
    /// # Panics
    /// When `partners` is not i64 `[N]`.
    #[track_caller]
    pub fn mixup(partners: &Tensor, lam: f64) -> Result<Self, MixError> {
        check_lam(lam)?;
        Self::all(partners, Blend::Mixup { lam })
    }

    /// CutMix of every sample `i` of size `[height, width]` with sample `partners[i]`; the labels are mixed by the box's
    /// true area.
    ///
    /// # Errors
    /// [`MixError`] when the box does not lie in the image or a partner is no sample of the batch.
    ///
    /// # Panics
    /// When `partners` is not i64 `[N]`.
    #[track_caller]
    pub fn cutmix(partners: &Tensor, cut: CutBox, size: [usize; 2]) -> Result<Self, MixError> {
        if !cut.fits(size) {
            return Err(MixError::Box { cut, size });
        }
        let lam = cut.lam(size);
        Self::all(partners, Blend::CutMix { cut, lam })
    }

    #[track_caller]
    fn all(partners: &Tensor, blend: Blend) -> Result<Self, MixError> {
        assert_eq!(partners.ndim(), 1, "Mixing: partners of shape {:?}", partners.shape());
        let samples = partners.numel();
        let partners = partners.to_vec::<i64>().into_iter().enumerate().map(|(sample, partner)| {
            let place = usize::try_from(partner).ok().filter(|&p| p < samples);
            place.ok_or(MixError::Partner { sample, partner, samples })
        });
        Ok(Self { partners: partners.collect::<Result<_, _>>()?, blends: vec![blend; samples] })
    }

    pub(crate) fn new(partners: Vec<usize>, blends: Vec<Blend>) -> Self {
        debug_assert_eq!(partners.len(), blends.len());
        Self { partners, blends }
    }

    /// The partner of each sample.
    #[must_use]
    pub fn partners(&self) -> &[usize] {
        &self.partners
    }

    /// How each sample is mixed.
    #[must_use]
    pub fn blends(&self) -> &[Blend] {
        &self.blends
    }

    /// The mixed samples.
    ///
    /// # Shapes
    /// `x` `[N, ..]` of floats, for CutMix `[N, .., H, W]`; the result as `x`.
    ///
    /// # Panics
    /// When `x` does not have as many samples, a box does not lie in its images, or its elements are not floats.
    #[must_use]
    #[track_caller]
    pub fn samples(&self, x: &Tensor) -> Tensor {
        let size = match *x.shape() {
            [_, .., h, w] => Some([h, w]),
            _ => None,
        };
        for blend in &self.blends {
            if let Blend::CutMix { cut, .. } = blend {
                let fits = x.ndim() >= 3 && size.is_some_and(|size| cut.fits(size));
                assert!(fits, "CutMix: a box of {cut:?} for images of shape {:?}", x.shape());
            }
        }
        self.blend(x, size.unwrap_or_default(), |blend| match blend {
            Blend::Mixup { .. } => None,
            Blend::CutMix { cut, .. } => Some(cut),
        })
    }

    /// The mixed targets: `lam target + (1 - lam) partner's target`.
    ///
    /// # Shapes
    /// `targets` `[N, ..]` of floats, as of [`smooth_labels`](crate::smooth_labels); the result as they.
    ///
    /// # Panics
    /// When there are not as many targets as samples, or their elements are not floats.
    #[must_use]
    #[track_caller]
    pub fn targets(&self, targets: &Tensor) -> Tensor {
        self.blend(targets, [0, 0], |_| None)
    }

    /// Every row with its partner: the partner's content in the box that `cut` gives for images of `size`, a mean of the
    /// two where it gives none.
    #[track_caller]
    fn blend(
        &self,
        x: &Tensor,
        size: [usize; 2],
        cut: impl Fn(&Blend) -> Option<&CutBox> + Sync,
    ) -> Tensor {
        let samples = x.shape().first().copied();
        assert!(
            samples == Some(self.partners.len()),
            "Mixing: {} samples are to be mixed, found shape {:?}",
            self.partners.len(),
            x.shape()
        );
        in_real(x.contiguous(), |x| {
            let width = x.numel() / self.partners.len().max(1);
            with_real!("Mixing", x.dtype(), T => {
                let xs = x.as_slice::<T>();
                let row = |i: usize| &xs[i * width..(i + 1) * width];
                Tensor::build::<T>(x.shape(), |out| {
                    par::for_each_mut(out, width, width as f64 * 0.3, |first, out| {
                        for (i, out) in (first..).zip(out.chunks_mut(width.max(1))) {
                            let (own, partner) = (row(i), row(self.partners[i]));
                            match cut(&self.blends[i]) {
                                None => mean::<T>(self.blends[i].lam(), own, partner, out),
                                Some(cut) => paste::<T>(cut, size, own, partner, out),
                            }
                        }
                    });
                })
            })
        })
    }
}

/// `lam own + (1 - lam) partner`. At the ends one of the two is copied, whatever stands in the other.
fn mean<T: Real>(lam: f64, own: &[T], partner: &[T], out: &mut [T]) {
    if lam == 1.0 {
        out.copy_from_slice(own);
    } else if lam == 0.0 {
        out.copy_from_slice(partner);
    } else {
        weigh(T::lit(lam), T::lit(1.0 - lam), own, partner, out);
    }
}

kernel! {
    fn weigh['a, T: Real]['a, T](a: T, b: T, x: &'a [T], y: &'a [T], out: &'a mut [T]) -> () {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *out = a * x + b * y;
        }
    }
}

/// The partner's content in the box of every plane of `[height, width]`.
fn paste<T: Real>(
    cut: &CutBox,
    [height, width]: [usize; 2],
    own: &[T],
    partner: &[T],
    out: &mut [T],
) {
    out.copy_from_slice(own);
    let planes = out.chunks_exact_mut(height * width).zip(partner.chunks_exact(height * width));
    for (out, partner) in planes {
        for row in cut.rows.clone() {
            let at = row * width + cut.columns.start..row * width + cut.columns.end;
            out[at.clone()].copy_from_slice(&partner[at]);
        }
    }
}

/// Why a batch cannot be mixed.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum MixError {
    /// A number is outside of its range.
    Range(RangeError),
    /// A scheduled probability is none in this step.
    Rate(RateError),
    /// A label is none of the classes.
    Label(LabelError),
    /// A partner is no sample of the batch.
    Partner {
        /// The sample.
        sample: usize,
        /// Its partner.
        partner: i64,
        /// Samples in the batch.
        samples: usize,
    },
    /// A box does not lie in the image.
    Box {
        /// The box.
        cut: CutBox,
        /// Height and width of the image.
        size: [usize; 2],
    },
}

impl fmt::Display for MixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(e) => e.fmt(f),
            Self::Rate(e) => e.fmt(f),
            Self::Label(e) => e.fmt(f),
            Self::Partner { sample, partner, samples } => {
                write!(f, "sample {sample}: partner {partner} is not one of {samples} samples")
            }
            Self::Box { cut, size: [height, width] } => write!(
                f,
                "rows {:?}, columns {:?} are no box of an image of {height} x {width}",
                cut.rows, cut.columns
            ),
        }
    }
}

impl std::error::Error for MixError {}

impl From<RangeError> for MixError {
    fn from(e: RangeError) -> Self {
        Self::Range(e)
    }
}

impl From<RateError> for MixError {
    fn from(e: RateError) -> Self {
        Self::Rate(e)
    }
}

impl From<LabelError> for MixError {
    fn from(e: LabelError) -> Self {
        Self::Label(e)
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::DType;
    use gradus_core::bf16;

    use super::*;

    fn index(partners: &[i64]) -> Tensor {
        Tensor::from_slice(partners, &[partners.len()])
    }

    fn numbered(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_slice(&(0..n).map(|i| i as f32).collect::<Vec<_>>(), shape)
    }

    #[test]
    fn a_box_is_pasted_into_every_channel() {
        let cut = CutBox { rows: 1..2, columns: 0..2 };
        let mixing = Mixing::cutmix(&index(&[1, 0]), cut, [2, 3]).unwrap();
        assert_eq!(mixing.blends()[0].lam(), 1.0 - 2.0 / 6.0);
        let got = mixing.samples(&numbered(&[2, 2, 2, 3])).to_vec::<f32>();
        let mut want: Vec<f32> = (0..24).map(|i| i as f32).collect();
        for at in [3, 4, 9, 10] {
            want.swap(at, at + 12);
        }
        assert_eq!(got, want);
    }

    #[test]
    fn sixteen_bits_views_and_empty_batches_mix_too() {
        let x = numbered(&[3, 2]).transpose(0, 1);
        let mixing = Mixing::mixup(&index(&[1, 0]), 0.25).unwrap();
        assert_eq!(mixing.samples(&x).to_vec::<f32>(), [0.75, 2.75, 4.75, 0.25, 2.25, 4.25]);
        let half = mixing.samples(&x.to_dtype(DType::BF16));
        assert_eq!(half.to_vec::<bf16>()[0].to_f32(), 0.75);
        let none = Mixing::mixup(&index(&[]), 0.5).unwrap();
        assert_eq!(none.samples(&numbered(&[0, 3])).shape(), [0, 3]);
        assert_eq!(mixing.samples(&numbered(&[2, 0])).shape(), [2, 0]);
    }

    #[test]
    fn at_the_ends_a_partner_of_nan_leaves_no_trace() {
        let x = Tensor::from_slice(&[1f32, f32::NAN], &[2]);
        let at = |lam| Mixing::mixup(&index(&[1, 0]), lam).unwrap().samples(&x).to_vec::<f32>();
        assert!(at(1.0)[0] == 1.0 && at(1.0)[1].is_nan());
        assert!(at(0.0)[1] == 1.0 && at(0.0)[0].is_nan());
    }

    #[test]
    fn boxes_around_a_center() {
        let cut = |size, lam, center| {
            let cut = CutBox::around(size, lam, center).unwrap();
            (cut.rows, cut.columns)
        };
        assert_eq!(cut([32, 32], 0.5, [16, 16]), (5..27, 5..27));
        assert_eq!(cut([28, 20], 0.1, [5, 18]), (0..18, 9..20));
        assert_eq!(cut([8, 8], 1.0, [4, 4]), (4..4, 4..4));
        assert_eq!(cut([8, 8], 0.0, [4, 4]), (0..8, 0..8));
        assert_eq!(cut([0, 8], 0.0, [0, 0]), (0..0, 0..4));
        assert_eq!(CutBox { rows: 0..0, columns: 0..3 }.lam([0, 3]), 1.0);
    }

    #[test]
    fn bad_input_is_named() {
        assert!(CutBox::around([4, 4], 1.5, [0, 0]).is_err());
        assert!(Mixing::mixup(&index(&[0]), f64::NAN).is_err());
        let error = Mixing::mixup(&index(&[0, 2]), 0.5).unwrap_err();
        assert_eq!(error, MixError::Partner { sample: 1, partner: 2, samples: 2 });
        assert!(Mixing::mixup(&index(&[-1]), 0.5).is_err());
        let outside = CutBox { rows: 0..3, columns: 0..1 };
        let error = Mixing::cutmix(&index(&[0]), outside, [2, 2]).unwrap_err();
        assert_eq!(error.to_string(), "rows 0..3, columns 0..1 are no box of an image of 2 x 2");
    }

    #[test]
    #[should_panic(expected = "Mixing: 2 samples are to be mixed, found shape [3, 1]")]
    fn another_batch_panics() {
        let _ = Mixing::mixup(&index(&[1, 0]), 0.5).unwrap().samples(&numbered(&[3, 1]));
    }

    #[test]
    #[should_panic(expected = "for images of shape [1, 1, 1, 2]")]
    fn smaller_images_panic() {
        let cut = CutBox { rows: 0..2, columns: 0..2 };
        let mixing = Mixing::cutmix(&index(&[0]), cut, [2, 2]).unwrap();
        let _ = mixing.samples(&numbered(&[1, 1, 1, 2]));
    }
}
