use std::fmt;

use gradus_autograd::{Entry, EntryMut, Layer, Module, Path, Var};

/// Layers one after the other, named `0`, `1`, ... as in PyTorch.
#[derive(Default)]
pub struct Sequential(Vec<Box<dyn Layer>>);

impl Sequential {
    /// No layer yet: the identity.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more layer at the end.
    #[must_use]
    pub fn then(mut self, layer: impl Layer + 'static) -> Self {
        self.0.push(Box::new(layer));
        self
    }

    /// Number of layers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no layer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Module for Sequential {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        self.0.walk(path, f);
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        self.0.walk_mut(path, f);
    }
}

impl Layer for Sequential {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let mut layers = self.0.iter();
        let Some(first) = layers.next() else { return x.clone() };
        layers.fold(first.forward(x), |x, layer| layer.forward(&x))
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequential({} layers, {} parameters)", self.len(), self.num_params())
    }
}
