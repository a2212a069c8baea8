//! Mixup and CutMix as they are drawn in training.

use gradus_autograd::Tensor;

use crate::{
    Blend, CutBox, MixError, Mixing, Probability, RangeError, Rate, RateError, draws::Draws,
    smooth_labels,
};

/// What shares one draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum MixMode {
    /// The whole batch. The default.
    #[default]
    Batch,
    /// Two samples that are each other's partners; the odd one out is not mixed.
    Pair,
    /// Nothing: each sample draws for itself.
    Elem,
}

/// How [`Mixup`] mixes. Names and defaults are timm's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MixupConfig {
    /// Mixup's `lam` is drawn from Beta(alpha, alpha); 0: no mixup. 1 by default.
    pub mixup_alpha: f64,
    /// CutMix's `lam` is drawn from Beta(alpha, alpha); 0: no CutMix. 0 by default.
    pub cutmix_alpha: f64,
    /// CutMix's box has sides drawn as shares of the image's, within these, in place of its `lam`. `None` by default;
    /// with it CutMix happens whatever its alpha.
    pub cutmix_minmax: Option<[f64; 2]>,
    /// Probability of mixing at all. 1 by default.
    pub prob: Rate,
    /// Probability of CutMix where both are on. 0.5 by default.
    pub switch_prob: Rate,
    /// What shares one draw. The batch by default.
    pub mode: MixMode,
    /// Whether labels are mixed by the true area of a box that was clipped. `true` by default; boxes of
    /// `cutmix_minmax` always are.
    pub correct_lam: bool,
    /// Smoothing of the labels. 0.1 by default.
    pub label_smoothing: f64,
}

impl Default for MixupConfig {
    fn default() -> Self {
        Self {
            mixup_alpha: 1.0,
            cutmix_alpha: 0.0,
            cutmix_minmax: None,
            prob: Rate::fixed(Probability::ONE),
            switch_prob: Rate::fixed(Probability::HALF),
            mode: MixMode::Batch,
            correct_lam: true,
            label_smoothing: 0.1,
        }
    }
}

impl MixupConfig {
    /// The same with this parameter of mixup.
    #[must_use]
    pub fn with_mixup_alpha(mut self, alpha: f64) -> Self {
        self.mixup_alpha = alpha;
        self
    }

    /// The same with this parameter of CutMix.
    #[must_use]
    pub fn with_cutmix_alpha(mut self, alpha: f64) -> Self {
        self.cutmix_alpha = alpha;
        self
    }

    /// The same with the sides of CutMix's box between these shares of the image's.
    #[must_use]
    pub fn with_cutmix_minmax(mut self, [min, max]: [f64; 2]) -> Self {
        self.cutmix_minmax = Some([min, max]);
        self
    }

    /// The same with this probability of mixing.
    #[must_use]
    pub fn with_prob(mut self, prob: impl Into<Rate>) -> Self {
        self.prob = prob.into();
        self
    }

    /// The same with this probability of CutMix where both are on.
    #[must_use]
    pub fn with_switch_prob(mut self, prob: impl Into<Rate>) -> Self {
        self.switch_prob = prob.into();
        self
    }

    /// The same in this mode.
    #[must_use]
    pub fn with_mode(mut self, mode: MixMode) -> Self {
        self.mode = mode;
        self
    }

    /// The same with labels mixed by the true area or not.
    #[must_use]
    pub fn with_correct_lam(mut self, correct_lam: bool) -> Self {
        self.correct_lam = correct_lam;
        self
    }

    /// The same with this smoothing of the labels.
    #[must_use]
    pub fn with_label_smoothing(mut self, smoothing: f64) -> Self {
        self.label_smoothing = smoothing;
        self
    }
}

/// Mixup and CutMix: every sample is mixed with another of its batch, and so are their labels.
///
/// What is drawn is a function of seed and step. Partners are a random permutation, so that a batch that is sorted by
/// class mixes as well as another (timm reverses the batch).
///
/// ```
/// use gradus_autograd::{DType, Tensor};
/// use gradus_regularize::{Mixup, MixupConfig};
///
/// let mixup = Mixup::new(MixupConfig::default().with_mixup_alpha(0.8).with_cutmix_alpha(1.0))?;
/// let images = Tensor::ones(&[4, 3, 32, 32], DType::F32);
/// let labels = Tensor::from_slice(&[0i64, 1, 2, 1], &[4]);
/// let (images, targets) = mixup.apply(&images, &labels, 10, 42, 0)?;
/// assert_eq!((images.shape(), targets.shape()), (&[4, 3, 32, 32][..], &[4, 10][..]));
/// let loss_of_each_row = targets.sum(&[1], false).to_vec::<f32>();
/// assert!(loss_of_each_row.iter().all(|t| (t - 1.0).abs() < 1e-6));
/// # Ok::<(), gradus_regularize::MixError>(())
/// ```
///
/// # References
/// As [`Mixing`].
#[derive(Clone, Debug)]
pub struct Mixup {
    config: MixupConfig,
    smoothing: Probability,
}

impl Mixup {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`RangeError`] when an alpha is negative or not finite, neither kind of mixing is on, `cutmix_minmax` is not
    /// increasing within \[0, 1\], or `label_smoothing` is outside of \[0, 1\].
    pub fn new(config: MixupConfig) -> Result<Self, RangeError> {
        let MixupConfig { mixup_alpha, cutmix_alpha, label_smoothing, .. } = config;
        RangeError::not_negative("mixup_alpha", mixup_alpha)?;
        RangeError::not_negative("cutmix_alpha", cutmix_alpha)?;
        let some = mixup_alpha > 0.0 || cutmix_alpha > 0.0 || config.cutmix_minmax.is_some();
        RangeError::check(some, "mixup_alpha", mixup_alpha, "positive where CutMix is off")?;
        if let Some([min, max]) = config.cutmix_minmax {
            let expected = "increasing within [0, 1]";
            let ok = (0.0..=1.0).contains(&min) && (0.0..=1.0).contains(&max) && min <= max;
            RangeError::check(ok, "cutmix_minmax", if min.is_nan() { min } else { max }, expected)?;
        }
        let smoothing = Probability::new(label_smoothing).map_err(|e| RangeError {
            name: "label_smoothing",
            value: e.value,
            expected: "in [0, 1]",
        })?;
        Ok(Self { config, smoothing })
    }

    /// What is done with a batch of `samples` images of size `[height, width]` (which only CutMix asks for).
    ///
    /// # Errors
    /// [`RateError`] when a scheduled probability is none in this step.
    pub fn draw(
        &self,
        samples: usize,
        size: [usize; 2],
        seed: u64,
        step: u64,
    ) -> Result<Mixing, RateError> {
        let rates = [self.config.prob.at(step)?.get(), self.config.switch_prob.at(step)?.get()];
        let mut draws = Draws::new(seed, step, "mixup");
        let order = draws.permutation(samples);
        let mut partners = order.clone();
        let mut blends = vec![Blend::Mixup { lam: 1.0 }; samples];
        match self.config.mode {
            MixMode::Batch => blends.fill(self.blend(size, rates, &mut draws)),
            MixMode::Elem => blends.fill_with(|| self.blend(size, rates, &mut draws)),
            MixMode::Pair => {
                partners = (0..samples).collect();
                for &[a, b] in order.as_chunks().0 {
                    (partners[a], partners[b]) = (b, a);
                    blends[a] = self.blend(size, rates, &mut draws);
                    blends[b] = blends[a].clone();
                }
            }
        }
        Ok(Mixing::new(partners, blends))
    }

    /// Draws one blend.
    fn blend(&self, size: [usize; 2], [prob, switch]: [f64; 2], draws: &mut Draws) -> Blend {
        let c = &self.config;
        if draws.uniform() >= prob {
            return Blend::Mixup { lam: 1.0 };
        }
        let cutmix = c.cutmix_alpha > 0.0 || c.cutmix_minmax.is_some();
        if !cutmix || c.mixup_alpha > 0.0 && draws.uniform() >= switch {
            return Blend::Mixup { lam: draws.beta(c.mixup_alpha) };
        }
        if let Some(share) = c.cutmix_minmax {
            let cut = CutBox::within(size, share, draws);
            return Blend::CutMix { lam: cut.lam(size), cut };
        }
        let lam = draws.beta(c.cutmix_alpha);
        let center = size.map(|side| if side == 0 { 0 } else { draws.below(side) });
        let cut = CutBox::around(size, lam, center).expect("a Beta number lies in [0, 1]");
        Blend::CutMix { lam: if c.correct_lam { cut.lam(size) } else { lam }, cut }
    }

    /// Mixes a batch: the images, and their labels as smoothed probabilities in f32.
    ///
    /// # Shapes
    /// `images` `[N, .., H, W]` of floats, `labels` i64 `[N]`; results as `images`, and `[N, classes]`. Where CutMix is
    /// off, samples may have any shape `[N, ..]`.
    ///
    /// # Errors
    /// [`MixError`] when a label is none of the classes or a scheduled probability is none in this step.
    ///
    /// # Panics
    /// When there are not as many labels as images, or CutMix is on and samples are no images.
    #[track_caller]
    pub fn apply(
        &self,
        images: &Tensor,
        labels: &Tensor,
        classes: usize,
        seed: u64,
        step: u64,
    ) -> Result<(Tensor, Tensor), MixError> {
        let size = match *images.shape() {
            [_, .., height, width] => [height, width],
            _ => [1, 1],
        };
        let mixing = self.draw(labels.numel(), size, seed, step)?;
        let targets = smooth_labels(labels, classes, self.smoothing)?;
        Ok((mixing.samples(images), mixing.targets(&targets)))
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::DType;

    use super::*;
    use crate::testing::p;

    fn mixup(config: MixupConfig) -> Mixup {
        Mixup::new(config).unwrap()
    }

    fn both() -> MixupConfig {
        MixupConfig::default().with_mixup_alpha(0.8).with_cutmix_alpha(1.0)
    }

    #[test]
    fn the_draws_of_a_seed_are_pinned() {
        let batch = mixup(MixupConfig::default()).draw(5, [8, 8], 42, 0).unwrap();
        assert_eq!(batch.partners(), [2, 4, 3, 0, 1]);
        let [Blend::Mixup { lam }, ..] = batch.blends() else { panic!("{batch:?}") };
        assert!((lam - 0.222_029_933_323_717_3).abs() < 1e-12, "{lam}");
        let cut = mixup(MixupConfig::default().with_mixup_alpha(0.0).with_cutmix_alpha(1.0));
        let batch = cut.draw(2, [10, 20], 42, 1).unwrap();
        let [Blend::CutMix { cut, lam }, ..] = batch.blends() else { panic!("{batch:?}") };
        assert_eq!((cut.rows.clone(), cut.columns.clone()), (0..3, 0..6));
        assert_eq!(*lam, cut.lam([10, 20]));
    }

    #[test]
    fn modes_share_what_they_say() {
        let draw = |mode| mixup(both().with_mode(mode)).draw(9, [8, 8], 1, 2).unwrap();
        let batch = draw(MixMode::Batch);
        assert!(batch.blends().iter().all(|b| *b == batch.blends()[0]));
        let pair = draw(MixMode::Pair);
        let mut alone = 0;
        for (i, &j) in pair.partners().iter().enumerate() {
            assert_eq!((pair.partners()[j], &pair.blends()[j]), (i, &pair.blends()[i]));
            alone += usize::from(i == j);
            assert!(i != j || pair.blends()[i] == Blend::Mixup { lam: 1.0 });
        }
        assert_eq!(alone, 1);
        let elem = draw(MixMode::Elem);
        assert!(elem.blends().windows(2).all(|w| w[0] != w[1]));
    }

    #[test]
    fn probabilities_and_lambdas_have_the_right_means() {
        let config = both().with_mode(MixMode::Elem).with_prob(p(0.6)).with_switch_prob(p(0.25));
        let n = 20_000;
        let mixing = mixup(config).draw(n, [32, 32], 5, 0).unwrap();
        let [mut none, mut mix, mut cut, mut lam] = [0.0; 4];
        for blend in mixing.blends() {
            match blend {
                Blend::Mixup { lam } if *lam == 1.0 => none += 1.0 / n as f64,
                Blend::Mixup { lam: l } => (mix, lam) = (mix + 1.0 / n as f64, lam + l / n as f64),
                Blend::CutMix { .. } => cut += 1.0 / n as f64,
            }
        }
        for (got, want) in [(none, 0.4), (mix, 0.45), (cut, 0.15), (lam / mix, 0.5)] {
            assert!((got - want).abs() < 0.02, "{got} {want}");
        }
        assert!(mixing.partners().iter().enumerate().all(|(i, _)| mixing.partners().contains(&i)));
    }

    #[test]
    fn boxes_by_share_and_uncorrected_lambdas() {
        let off = MixupConfig::default().with_mixup_alpha(0.0).with_mode(MixMode::Elem);
        let by_share = mixup(off.clone().with_cutmix_minmax([0.25, 0.5]));
        for blend in by_share.draw(500, [16, 8], 3, 0).unwrap().blends() {
            let Blend::CutMix { cut, lam } = blend else { panic!("{blend:?}") };
            assert!((4..=8).contains(&cut.rows.len()) && (2..=4).contains(&cut.columns.len()));
            assert_eq!(*lam, cut.lam([16, 8]));
        }
        let raw = mixup(off.with_cutmix_alpha(1.0).with_correct_lam(false));
        let raw = raw.draw(50, [16, 8], 3, 0).unwrap();
        let differs =
            |b: &Blend| matches!(b, Blend::CutMix { cut, lam } if *lam != cut.lam([16, 8]));
        assert!(raw.blends().iter().any(differs));
    }

    #[test]
    fn images_and_labels_are_mixed_alike() {
        // Every image holds its label, so that the mean of an image is the mean of its targets' classes.
        let labels: Vec<i64> = (0..12).map(|i| i % 5).collect();
        let pixels: Vec<f32> = labels.iter().flat_map(|&l| [l as f32; 96]).collect();
        let images = Tensor::from_slice(&pixels, &[12, 2, 6, 8]);
        let classes = Tensor::from_slice(&[0f32, 1.0, 2.0, 3.0, 4.0], &[5, 1]);
        for mode in [MixMode::Batch, MixMode::Pair, MixMode::Elem] {
            for step in 0..20 {
                let mixup = mixup(both().with_mode(mode).with_label_smoothing(0.0));
                let labels = Tensor::from_slice(&labels, &[12]);
                let (x, t) = mixup.apply(&images, &labels, 5, 7, step).unwrap();
                let means = x.mean(&[1, 2, 3], false).to_vec::<f32>();
                let wanted = t.matmul(&classes).to_vec::<f32>();
                assert!(means.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5));
            }
        }
    }

    #[test]
    fn seeds_and_steps_differ_and_empty_batches_do_not_matter() {
        let draw = |seed, step| mixup(both()).draw(6, [8, 8], seed, step).unwrap();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(2, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        let none = Tensor::zeros(&[0, 1, 4, 4], DType::F32);
        let (x, t) = mixup(both()).apply(&none, &Tensor::zeros(&[0], DType::I64), 3, 0, 0).unwrap();
        assert_eq!((x.shape(), t.shape()), (&[0, 1, 4, 4][..], &[0, 3][..]));
    }

    #[test]
    fn bad_configurations_and_labels_are_refused() {
        for bad in [-0.1, f64::NAN, f64::INFINITY] {
            let error = Mixup::new(MixupConfig::default().with_mixup_alpha(bad)).unwrap_err();
            assert_eq!(error.name, "mixup_alpha");
            assert!(Mixup::new(MixupConfig::default().with_cutmix_alpha(bad)).is_err());
            assert!(Mixup::new(MixupConfig::default().with_label_smoothing(bad)).is_err());
            assert!(Mixup::new(MixupConfig::default().with_cutmix_minmax([bad, 1.0])).is_err());
        }
        assert!(Mixup::new(MixupConfig::default().with_cutmix_minmax([0.5, 0.4])).is_err());
        assert!(Mixup::new(MixupConfig::default().with_mixup_alpha(0.0)).is_err());
        let x = Tensor::zeros(&[1, 1, 2, 2], DType::F32);
        let error = mixup(both()).apply(&x, &Tensor::from_slice(&[3i64], &[1]), 3, 0, 0);
        assert!(matches!(error, Err(MixError::Label(_))));
        struct Two;
        impl gradus_core::Schedule for Two {
            fn value(&self, _: u64) -> f64 {
                2.0
            }
        }
        let late = mixup(both().with_prob(Rate::scheduled(Two)));
        assert_eq!(late.draw(2, [2, 2], 0, 9).unwrap_err().step, 9);
    }
}
