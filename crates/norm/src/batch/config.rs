use super::{Momentum, op::check_virtual_batch_size};
use crate::{NormError, error::check_eps};

/// Options of a [`BatchNorm`](crate::BatchNorm) layer; the defaults are PyTorch's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchNormConfig {
    /// Added to the variance inside the root; 1e-5.
    pub eps: f64,
    /// How running statistics move; [`Momentum::New`]`(0.1)`.
    pub momentum: Momentum,
    /// Whether there is a learned scale and shift; yes.
    pub affine: bool,
    /// Whether running statistics are kept for evaluation; yes. Without, evaluation uses the batch's own too.
    pub track_running_stats: bool,
    /// Whether the running variance is the unbiased one, divided by `n - 1`; yes, as in PyTorch. Keras and flax keep the
    /// biased one. A batch is always normalized by its biased variance.
    pub unbiased_running_var: bool,
    /// In training, the size of ghost batches that are normalized each by itself (see
    /// [`ghost_batch_norm`](crate::ghost_batch_norm)); none. Each moves the running statistics once, in order.
    pub virtual_batch_size: Option<usize>,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: Momentum::New(0.1),
            affine: true,
            track_running_stats: true,
            unbiased_running_var: true,
            virtual_batch_size: None,
        }
    }
}

impl BatchNormConfig {
    /// The defaults of Keras 3: eps 1e-3, momentum 0.99 of the old, biased running variance.
    #[must_use]
    pub fn keras() -> Self {
        Self::flax().with_eps(1e-3)
    }

    /// The defaults of flax: eps 1e-5, momentum 0.99 of the old, biased running variance.
    #[must_use]
    pub fn flax() -> Self {
        Self::default().with_momentum(Momentum::Old(0.99)).with_unbiased_running_var(false)
    }

    /// With this eps.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// With this momentum.
    #[must_use]
    pub fn with_momentum(mut self, momentum: Momentum) -> Self {
        self.momentum = momentum;
        self
    }

    /// With or without scale and shift.
    #[must_use]
    pub fn with_affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// With or without running statistics.
    #[must_use]
    pub fn with_track_running_stats(mut self, track: bool) -> Self {
        self.track_running_stats = track;
        self
    }

    /// With the unbiased or the biased running variance.
    #[must_use]
    pub fn with_unbiased_running_var(mut self, unbiased: bool) -> Self {
        self.unbiased_running_var = unbiased;
        self
    }

    /// With ghost batches of this size.
    #[must_use]
    pub fn with_virtual_batch_size(mut self, size: usize) -> Self {
        self.virtual_batch_size = Some(size);
        self
    }

    pub(crate) fn check(&self) -> Result<(), NormError> {
        check_eps(self.eps)?;
        self.virtual_batch_size.map(check_virtual_batch_size).transpose()?;
        self.momentum.check()
    }
}
