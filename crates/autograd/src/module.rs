//! Models are plain structs; a module is a struct that can name what it holds.

use std::{collections::BTreeMap, fmt};

use gradus_core::DType;
use gradus_tensor::Tensor;

use crate::{Buffer, Param, Var};

/// The dotted name of where a walk stands: `blocks.0.norm1`.
#[derive(Clone, Debug, Default)]
pub struct Path(String);

impl Path {
    /// Calls `f` one level deeper.
    pub fn enter<R>(&mut self, name: impl fmt::Display, f: impl FnOnce(&mut Self) -> R) -> R {
        use fmt::Write;
        let len = self.0.len();
        let dot = if len == 0 { "" } else { "." };
        write!(self.0, "{dot}{name}").expect("writing to a String cannot fail");
        let result = f(self);
        self.0.truncate(len);
        result
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a walk over a module shows.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A parameter.
    Param(&'a Param),
    /// A buffer.
    Buffer(&'a Buffer),
}

/// What a mutable walk over a module shows.
#[derive(Debug)]
pub enum EntryMut<'a> {
    /// A parameter.
    Param(&'a mut Param),
    /// A buffer.
    Buffer(&'a mut Buffer),
}

/// Something that holds parameters and buffers: a layer, a model, a vector of layers.
///
/// [`module!`](crate::module) implements it for a struct by naming its fields, in the order of the walk.
///
/// ```
/// use gradus_autograd::{Module, Param, ParamKind, Tensor, Var, module};
///
/// struct Scale { factor: Param }
/// module!(Scale { factor });
///
/// impl Scale {
///     fn forward(&self, x: &Var) -> Var {
///         x * &x.tape().watch(&self.factor)
///     }
/// }
///
/// struct Model { scales: Vec<Scale> }
/// module!(Model { scales });
///
/// let one = || Scale { factor: Param::new(Tensor::from_slice(&[2f32], &[1]), ParamKind::Weight) };
/// let model = Model { scales: vec![one(), one()] };
/// assert_eq!(model.param_names(), ["scales.0.factor", "scales.1.factor"]);
/// ```
pub trait Module {
    /// Shows every parameter and buffer with its name, in an order that never changes.
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>));

    /// The same walk, for writing.
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>));

    /// Shows every parameter.
    fn for_each_param(&self, f: &mut dyn FnMut(&str, &Param)) {
        self.walk(&mut Path::default(), &mut |name, entry| {
            if let Entry::Param(p) = entry {
                f(name, p);
            }
        });
    }

    /// Shows every parameter, for writing.
    fn for_each_param_mut(&mut self, f: &mut dyn FnMut(&str, &mut Param)) {
        self.walk_mut(&mut Path::default(), &mut |name, entry| {
            if let EntryMut::Param(p) = entry {
                f(name, p);
            }
        });
    }

    /// Names of all parameters, in the order of the walk.
    fn param_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.for_each_param(&mut |name, _| names.push(name.to_owned()));
        names
    }

    /// Number of trainable scalars.
    fn num_params(&self) -> usize {
        let mut n = 0;
        self.for_each_param(&mut |_, p| n += if p.is_trainable() { p.value().numel() } else { 0 });
        n
    }

    /// All parameters and buffers by name. Shares their memory until one side changes.
    fn snapshot(&self) -> Snapshot {
        let mut values = BTreeMap::new();
        self.walk(&mut Path::default(), &mut |name, entry| {
            let value = match entry {
                Entry::Param(p) => p.value().clone(),
                Entry::Buffer(b) => b.get(),
            };
            values.insert(name.to_owned(), value);
        });
        Snapshot(values)
    }

    /// Stores all floating-point parameters in this type, rounded to nearest even; integers and buffers stay as they are:
    /// running statistics are averages, which lose digits in 16 bits.
    ///
    /// A model in 16 bits trains by master weights in f32 (`gradus_amp::MasterWeights`).
    fn to_dtype(&mut self, dtype: DType) {
        self.for_each_param_mut(&mut |_, p| {
            if p.value().dtype().is_float() {
                *p.value_mut() = p.value().to_dtype(dtype);
            }
        });
    }

    /// As [`restore`](Self::restore), but floating-point values may be of another floating-point type: each is widened
    /// or rounded to that of the model. So a checkpoint in 16 bits is loaded into a model in f32, and back.
    ///
    /// # Errors
    /// [`NameMismatch`] when a name or a shape does not fit, or a float meets an integer; nothing has changed then.
    fn restore_cast(&mut self, snapshot: &Snapshot) -> Result<(), NameMismatch> {
        let mut cast = snapshot.clone();
        self.walk(&mut Path::default(), &mut |name, entry| {
            let dtype = match entry {
                Entry::Param(p) => p.value().dtype(),
                Entry::Buffer(b) => b.get().dtype(),
            };
            if let Some(value) = cast.0.get_mut(name)
                && value.dtype().is_float()
                && dtype.is_float()
            {
                *value = value.to_dtype(dtype);
            }
        });
        self.restore(&cast)
    }

    /// Takes all parameters and buffers from a snapshot.
    ///
    /// # Errors
    /// [`NameMismatch`] when a name, a shape or a type does not fit; nothing has changed then.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), NameMismatch> {
        let mut seen = 0;
        let mut error = None;
        self.walk(&mut Path::default(), &mut |name, entry| {
            let value = match entry {
                Entry::Param(p) => p.value().clone(),
                Entry::Buffer(b) => b.get(),
            };
            seen += 1;
            error =
                error.take().or_else(|| snapshot.check(name, value.shape(), value.dtype()).err());
        });
        if let Some(error) = error {
            return Err(error);
        }
        if seen != snapshot.0.len() {
            let mut names = snapshot.0.clone();
            self.walk(&mut Path::default(), &mut |name, _| {
                names.remove(name);
            });
            let name = names.into_keys().next().unwrap_or_default();
            return Err(NameMismatch::Unknown { name });
        }
        self.walk_mut(&mut Path::default(), &mut |name, entry| {
            let value = snapshot.0[name].clone();
            match entry {
                EntryMut::Param(p) => p.set(value),
                EntryMut::Buffer(b) => b.set(value),
            }
        });
        Ok(())
    }
}

/// A module that maps one value to one value: what a sequence is made of.
///
/// Training or evaluation, random numbers and recording come from the tape of `x`.
pub trait Layer: Module + Send + Sync {
    /// Runs the layer.
    fn forward(&self, x: &Var) -> Var;
}

impl<L: Layer + ?Sized> Layer for Box<L> {
    fn forward(&self, x: &Var) -> Var {
        (**self).forward(x)
    }
}

/// Values of a module's parameters and buffers, by name.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(BTreeMap<String, Tensor>);

impl Snapshot {
    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// All values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    fn check(&self, name: &str, shape: &[usize], dtype: DType) -> Result<(), NameMismatch> {
        let value = self.0.get(name).ok_or_else(|| NameMismatch::Missing { name: name.into() })?;
        if value.shape() != shape || value.dtype() != dtype {
            return Err(NameMismatch::Shape {
                name: name.into(),
                expected: shape.to_vec(),
                found: value.shape().to_vec(),
                expected_dtype: dtype,
                found_dtype: value.dtype(),
            });
        }
        Ok(())
    }
}

impl FromIterator<(String, Tensor)> for Snapshot {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Why a snapshot does not fit a module.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NameMismatch {
    /// The module has it, the snapshot does not.
    Missing {
        /// Its name.
        name: String,
    },
    /// The snapshot has it, the module does not.
    Unknown {
        /// Its name.
        name: String,
    },
    /// Shape or type differ.
    Shape {
        /// Its name.
        name: String,
        /// Shape in the module.
        expected: Vec<usize>,
        /// Shape in the snapshot.
        found: Vec<usize>,
        /// Type in the module.
        expected_dtype: DType,
        /// Type in the snapshot.
        found_dtype: DType,
    },
}

impl fmt::Display for NameMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } => write!(f, "{name} is missing in the snapshot"),
            Self::Unknown { name } => write!(f, "{name} is in the snapshot but not in the model"),
            Self::Shape { name, expected, found, expected_dtype, found_dtype } => write!(
                f,
                "{name} is {expected_dtype} {expected:?} in the model and {found_dtype} {found:?} in the snapshot"
            ),
        }
    }
}

impl std::error::Error for NameMismatch {}

/// Implements [`Module`] for a struct: `module!(Linear { weight, bias });`. Each field is a module itself:
/// a [`Param`], a [`Buffer`], a layer, or an `Option`, `Vec` or `Box` of one.
#[macro_export]
macro_rules! module {
    ($name:ty { $($field:ident),* $(,)? }) => {
        impl $crate::Module for $name {
            fn walk(&self, path: &mut $crate::Path, f: &mut dyn FnMut(&str, $crate::Entry<'_>)) {
                let _ = (&path, &f);
                $(path.enter(stringify!($field), |path| $crate::Module::walk(&self.$field, path, f));)*
            }
            fn walk_mut(&mut self, path: &mut $crate::Path, f: &mut dyn FnMut(&str, $crate::EntryMut<'_>)) {
                let _ = (&path, &f);
                $(path.enter(stringify!($field), |path| $crate::Module::walk_mut(&mut self.$field, path, f));)*
            }
        }
    };
}

impl Module for Param {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        f(path.as_str(), Entry::Param(self));
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        f(path.as_str(), EntryMut::Param(self));
    }
}

impl Module for Buffer {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        f(path.as_str(), Entry::Buffer(self));
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        f(path.as_str(), EntryMut::Buffer(self));
    }
}

impl<M: Module> Module for Option<M> {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        if let Some(m) = self {
            m.walk(path, f);
        }
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        if let Some(m) = self {
            m.walk_mut(path, f);
        }
    }
}

impl<M: Module> Module for Vec<M> {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        for (i, m) in self.iter().enumerate() {
            path.enter(i, |path| m.walk(path, f));
        }
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        for (i, m) in self.iter_mut().enumerate() {
            path.enter(i, |path| m.walk_mut(path, f));
        }
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        (**self).walk(path, f);
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        (**self).walk_mut(path, f);
    }
}
