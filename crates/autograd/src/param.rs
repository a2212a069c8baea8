//! What a model keeps between steps: parameters and buffers.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gradus_core::ParamKind;
use gradus_tensor::Tensor;

/// Identity of a parameter: gradients are keyed by it. A clone of a parameter keeps it, so that an average or a
/// snapshot matches the original.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ParamId(u64);

impl ParamId {
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// A tensor that training changes.
///
/// A model shows a parameter once. Weights are tied by watching one parameter twice, not by cloning it.
#[derive(Clone, Debug)]
pub struct Param {
    id: ParamId,
    value: Tensor,
    kind: ParamKind,
    trainable: bool,
}

impl Param {
    /// A trainable parameter.
    #[must_use]
    pub fn new(value: Tensor, kind: ParamKind) -> Self {
        Self { id: ParamId::fresh(), value, kind, trainable: true }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> ParamId {
        self.id
    }

    /// Its value.
    #[must_use]
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Its value, for writing; in place while no tape holds it.
    pub fn value_mut(&mut self) -> &mut Tensor {
        &mut self.value
    }

    /// Replaces the value.
    ///
    /// # Panics
    /// When shape or type differ.
    #[track_caller]
    pub fn set(&mut self, value: Tensor) {
        assert_eq!(self.value.shape(), value.shape(), "Param::set: shapes");
        assert_eq!(self.value.dtype(), value.dtype(), "Param::set: types");
        self.value = value;
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> ParamKind {
        self.kind
    }

    /// Whether training changes it.
    #[must_use]
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// Freezes it (`false`) or lets it train (`true`).
    pub fn set_trainable(&mut self, trainable: bool) {
        self.trainable = trainable;
    }
}

/// A tensor that a layer updates by itself during forward, without a gradient: running statistics.
///
/// Forward has only a shared reference to the model, so that threads can share it; the lock is never held for
/// longer than one read or write. Two tapes that train at once update in the order they come.
pub struct Buffer(Mutex<Tensor>);

impl Buffer {
    /// A buffer with this value.
    #[must_use]
    pub fn new(value: Tensor) -> Self {
        Self(Mutex::new(value))
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> Tensor {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the value.
    ///
    /// # Panics
    /// When shape or type differ.
    #[track_caller]
    pub fn set(&self, value: Tensor) {
        let mut old = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(old.shape(), value.shape(), "Buffer::set: shapes");
        assert_eq!(old.dtype(), value.dtype(), "Buffer::set: types");
        *old = value;
    }

    /// Changes the value in place.
    pub fn update(&self, f: impl FnOnce(&mut Tensor)) {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&self.get()).finish()
    }
}
