//! Random erasing.

use gradus_autograd::Tensor;
use gradus_core::FloatElement;
use gradus_tensor::with_real;

use crate::{CutBox, Probability, RangeError, Rate, RateError, draws::Draws, groups::in_real};

/// What stands in an erased box.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Fill {
    /// One number. 0 by default.
    Constant(f64),
    /// A standard normal number for each channel.
    Color,
    /// A standard normal number for each place of each channel.
    Pixel,
}

/// How [`RandomErasing`] erases. Names and defaults are torchvision's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RandomErasingConfig {
    /// Probability that an image loses a box. 0.5 by default.
    pub prob: Rate,
    /// The box's share of the image's area lies in this range. (0.02, 0.33) by default.
    pub scale: [f64; 2],
    /// Height over width of the box lies in this range, uniformly in its logarithm. (0.3, 3.3) by default.
    pub ratio: [f64; 2],
    /// What stands in the box. 0 by default.
    pub fill: Fill,
}

impl Default for RandomErasingConfig {
    fn default() -> Self {
        Self {
            prob: Rate::fixed(Probability::HALF),
            scale: [0.02, 0.33],
            ratio: [0.3, 3.3],
            fill: Fill::Constant(0.0),
        }
    }
}

impl RandomErasingConfig {
    /// The same with this probability.
    #[must_use]
    pub fn with_prob(mut self, prob: impl Into<Rate>) -> Self {
        self.prob = prob.into();
        self
    }

    /// The same with this range of areas.
    #[must_use]
    pub fn with_scale(mut self, scale: [f64; 2]) -> Self {
        self.scale = scale;
        self
    }

    /// The same with this range of aspect ratios.
    #[must_use]
    pub fn with_ratio(mut self, ratio: [f64; 2]) -> Self {
        self.ratio = ratio;
        self
    }

    /// The same with this in the box.
    #[must_use]
    pub fn with_fill(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }
}

/// Erases a random box of some of the images.
///
/// What is drawn is a function of seed, step and the image's place in the batch. A box that would not be smaller than
/// the image on both sides is drawn again, up to ten times; then the image stays whole.
///
/// # References
/// Zhong, Zheng, Kang, Li, Yang: Random erasing data augmentation (2017), arXiv:1708.04896; torchvision.
#[derive(Clone, Debug)]
pub struct RandomErasing {
    config: RandomErasingConfig,
}

impl RandomErasing {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`RangeError`] when `scale` is not increasing within \[0, 1\], `ratio` not increasing, positive and finite, or the
    /// fill not finite.
    pub fn new(config: RandomErasingConfig) -> Result<Self, RangeError> {
        let [low, high] = config.scale;
        let ok = 0.0 <= low && low <= high && high <= 1.0;
        let worse = |low: f64, high: f64| if low.is_finite() { high } else { low };
        RangeError::check(ok, "scale", worse(low, high), "increasing within [0, 1]")?;
        let [low, high] = config.ratio;
        let ok = 0.0 < low && low <= high && high.is_finite();
        RangeError::check(ok, "ratio", worse(low, high), "increasing, positive and finite")?;
        if let Fill::Constant(value) = config.fill {
            RangeError::check(value.is_finite(), "fill", value, "finite")?;
        }
        Ok(Self { config })
    }

    /// The boxes to be erased of `samples` images of size `[height, width]`.
    ///
    /// # Errors
    /// [`RateError`] when the scheduled probability is none in this step.
    pub fn draw(
        &self,
        samples: usize,
        size: [usize; 2],
        seed: u64,
        step: u64,
    ) -> Result<Vec<Option<CutBox>>, RateError> {
        let prob = self.config.prob.at(step)?.get();
        let mut draws = Draws::new(seed, step, "random_erasing");
        Ok((0..samples).map(|_| self.draw_box(size, prob, &mut draws)).collect())
    }

    fn draw_box(&self, size: [usize; 2], prob: f64, draws: &mut Draws) -> Option<CutBox> {
        if draws.uniform() >= prob {
            return None;
        }
        let [height, width] = size;
        let ratios = self.config.ratio.map(f64::ln);
        for _ in 0..10 {
            let area = (height * width) as f64 * draws.within(self.config.scale);
            let ratio = draws.within(ratios).exp();
            let sides = [(area * ratio).sqrt(), (area / ratio).sqrt()];
            let [h, w] = sides.map(|side| side.round_ties_even() as usize);
            if h < height && w < width {
                let (row, column) = (draws.below(height - h + 1), draws.below(width - w + 1));
                return Some(CutBox { rows: row..row + h, columns: column..column + w });
            }
        }
        None
    }

    /// Erases boxes of a batch.
    ///
    /// # Shapes
    /// `images` `[N, C, H, W]` of floats, the result as they.
    ///
    /// # Errors
    /// [`RateError`] when the scheduled probability is none in this step.
    ///
    /// # Panics
    /// When `images` has another number of dimensions or its elements are not floats.
    #[track_caller]
    pub fn apply(&self, images: &Tensor, seed: u64, step: u64) -> Result<Tensor, RateError> {
        let &[samples, channels, height, width] = images.shape() else {
            panic!("RandomErasing: expected [N, C, H, W], found {:?}", images.shape())
        };
        let boxes = self.draw(samples, [height, width], seed, step)?;
        let mut noise = Draws::new(seed, step, "random_erasing.fill");
        Ok(in_real(images.clone(), |mut x| {
            with_real!("RandomErasing", x.dtype(), T => {
                let values = x.make_mut::<T>();
                for (i, cut) in boxes.iter().enumerate() {
                    let Some(cut) = cut else { continue };
                    for channel in 0..channels {
                        let plane = (i * channels + channel) * height * width;
                        self.erase(&mut values[plane..plane + height * width], width, cut, &mut noise);
                    }
                }
            });
            x
        }))
    }

    /// Fills the box of one plane.
    fn erase<T: FloatElement>(
        &self,
        plane: &mut [T],
        width: usize,
        cut: &CutBox,
        noise: &mut Draws,
    ) {
        let color = match self.config.fill {
            Fill::Constant(value) => Some(value),
            Fill::Color => Some(noise.normal()),
            Fill::Pixel => None,
        };
        for row in cut.rows.clone() {
            for x in &mut plane[row * width..][cut.columns.clone()] {
                *x = T::from_f64(color.unwrap_or_else(|| noise.normal()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::DType;

    use super::*;
    use crate::testing::p;

    fn erasing(config: RandomErasingConfig) -> RandomErasing {
        RandomErasing::new(config).unwrap()
    }

    fn always() -> RandomErasingConfig {
        RandomErasingConfig::default().with_prob(Probability::ONE)
    }

    #[test]
    fn the_boxes_of_a_seed_are_pinned() {
        let boxes = erasing(always()).draw(2, [16, 12], 42, 0).unwrap();
        let want = [CutBox { rows: 4..7, columns: 1..6 }, CutBox { rows: 4..8, columns: 5..10 }];
        assert_eq!(boxes, want.map(Some));
    }

    #[test]
    fn a_box_is_erased_in_every_channel_and_nothing_else_is() {
        let x = Tensor::ones(&[3, 2, 16, 12], DType::F64);
        for fill in [Fill::Constant(7.0), Fill::Color, Fill::Pixel] {
            let erasing = erasing(always().with_fill(fill));
            let y = erasing.apply(&x, 1, 2).unwrap().to_vec::<f64>();
            let boxes = erasing.draw(3, [16, 12], 1, 2).unwrap();
            for (plane, cut) in y.chunks(16 * 12).zip(boxes.iter().flat_map(|b| [b, b])) {
                let cut = cut.as_ref().unwrap();
                let mut inside = Vec::new();
                for (i, &v) in plane.iter().enumerate() {
                    if cut.rows.contains(&(i / 12)) && cut.columns.contains(&(i % 12)) {
                        inside.push(v);
                    } else {
                        assert_eq!(v, 1.0);
                    }
                }
                assert_eq!(inside.len(), cut.area());
                let alike = inside.iter().all(|&v| v == inside[0]);
                assert_eq!(alike, fill != Fill::Pixel, "{fill:?}");
                assert!(fill != Fill::Constant(7.0) || inside[0] == 7.0);
            }
        }
        let again = |seed, step| erasing(always()).draw(3, [16, 12], seed, step).unwrap();
        assert_eq!(again(1, 2), again(1, 2));
        assert!(again(1, 2) != again(1, 3) && again(1, 2) != again(2, 2));
    }

    #[test]
    fn shares_of_images_and_areas_are_in_range() {
        let n = 4000;
        let boxes = erasing(RandomErasingConfig::default().with_prob(p(0.3)));
        let boxes = boxes.draw(n, [200, 100], 3, 0).unwrap();
        let share = boxes.iter().flatten().count() as f64 / n as f64;
        assert!((share - 0.3).abs() < 0.03, "{share}");
        for cut in boxes.iter().flatten() {
            let area = cut.area() as f64 / 20_000.0;
            let ratio = cut.rows.len() as f64 / cut.columns.len() as f64;
            assert!((0.018..0.335).contains(&area) && (0.28..3.5).contains(&ratio), "{cut:?}");
            assert!(cut.fits([200, 100]));
        }
    }

    #[test]
    fn images_too_small_and_batches_of_none_stay_whole() {
        let one = Tensor::ones(&[5, 1, 1, 1], DType::BF16);
        let config = always().with_scale([1.0, 1.0]);
        let y = erasing(config.clone()).apply(&one, 0, 0).unwrap();
        assert_eq!(y.to_dtype(DType::F32).to_vec::<f32>(), [1.0; 5]);
        for shape in [[0, 3, 4, 4], [2, 0, 4, 4], [2, 3, 0, 4]] {
            let y = erasing(config.clone()).apply(&Tensor::zeros(&shape, DType::F32), 0, 0);
            assert_eq!(y.unwrap().shape(), shape);
        }
    }

    #[test]
    fn bad_ranges_are_refused() {
        let refused = |config| RandomErasing::new(config).unwrap_err().name;
        for bad in [[-0.1, 0.5], [0.5, 0.1], [0.5, 1.1], [f64::NAN, 0.5], [0.1, f64::NAN]] {
            assert_eq!(refused(always().with_scale(bad)), "scale");
        }
        for bad in [[0.0, 1.0], [2.0, 1.0], [1.0, f64::INFINITY], [f64::NAN, 1.0]] {
            assert_eq!(refused(always().with_ratio(bad)), "ratio");
        }
        assert_eq!(refused(always().with_fill(Fill::Constant(f64::NAN))), "fill");
    }
}
