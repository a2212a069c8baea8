//! Which type is used where.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str::FromStr};

use gradus_core::{DType, Precision};

use crate::{
    AmpError, Autocast, OpClass,
    ops::{find, name},
};

/// Four types and a table of operations.
///
/// - *parameter*: what the model is stored in. In 16 bits it needs [`MasterWeights`](crate::MasterWeights).
/// - *compute*: what matrix work takes ([`OpClass::Lower`]). It sums in f32 whatever this is.
/// - *output*: what the model returns.
/// - *reduction*: what losses take ([`OpClass::Reduction`]).
///
/// Which operation is what is PyTorch's list for CPUs, unless told otherwise; single operations and modules can be
/// treated differently. f64 is never cast.
///
/// As text: `parameter=f32,compute=bf16,output=f32,reduction=f32`, parts left out are f32.
///
/// ```
/// use gradus_amp::{AmpError, OpClass, Policy};
/// use gradus_core::{DType::{BF16, F32}, Precision};
///
/// let policy = Policy::mixed(BF16)?.with_op("softmax", OpClass::Reduction)?.with_module("head", F32)?;
/// assert_eq!(policy.cast("encoder.0", "linear", &[F32, F32]), Some(BF16));
/// assert_eq!(policy.cast("encoder.0", "softmax", &[BF16]), Some(F32));
/// // The head computes in f32: what comes in bf16 is widened.
/// assert_eq!(policy.cast("head", "linear", &[BF16, F32]), Some(F32));
/// assert_eq!(policy.cast("encoder.0", "gelu", &[BF16]), None);
/// assert_eq!("compute=bf16".parse::<Policy>()?, Policy::mixed(BF16)?);
/// # Ok::<(), AmpError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    parameter: DType,
    compute: DType,
    output: DType,
    reduction: DType,
    autocast: Autocast,
    /// Operations by their place in the table.
    ops: Vec<(usize, OpClass)>,
    /// Paths of modules, and what they compute in.
    modules: Vec<(String, DType)>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::full()
    }
}

impl Policy {
    /// f32 everywhere: nothing is cast.
    #[must_use]
    pub fn full() -> Self {
        let f32 = DType::F32;
        Self {
            parameter: f32,
            compute: f32,
            output: f32,
            reduction: f32,
            autocast: Autocast::Cpu,
            ops: Vec::new(),
            modules: Vec::new(),
        }
    }

    /// Parameters, outputs and losses in f32, matrix work in this type.
    ///
    /// # Errors
    /// [`AmpError::Type`] unless it is f32, bf16 or f16.
    pub fn mixed(compute: DType) -> Result<Self, AmpError> {
        Ok(Self { compute: check("compute", compute)?, ..Self::full() })
    }

    /// With the model stored in this type.
    ///
    /// # Errors
    /// [`AmpError::Type`] unless it is f32, bf16 or f16.
    pub fn with_parameter(mut self, dtype: DType) -> Result<Self, AmpError> {
        self.parameter = check("parameter", dtype)?;
        Ok(self)
    }

    /// With the model's result in this type.
    ///
    /// # Errors
    /// [`AmpError::Type`] unless it is f32, bf16 or f16.
    pub fn with_output(mut self, dtype: DType) -> Result<Self, AmpError> {
        self.output = check("output", dtype)?;
        Ok(self)
    }

    /// With losses in this type.
    ///
    /// # Errors
    /// [`AmpError::Type`] unless it is f32, bf16 or f16.
    pub fn with_reduction(mut self, dtype: DType) -> Result<Self, AmpError> {
        self.reduction = check("reduction", dtype)?;
        Ok(self)
    }

    /// With the lists of this kind of device.
    #[must_use]
    pub fn with_autocast(mut self, autocast: Autocast) -> Self {
        self.autocast = autocast;
        self
    }

    /// With an operation in another class.
    ///
    /// # Errors
    /// [`AmpError::UnknownOp`] for a name that is no operation.
    pub fn with_op(mut self, op: &str, class: OpClass) -> Result<Self, AmpError> {
        let at = find(op).ok_or_else(|| AmpError::UnknownOp { name: op.into() })?;
        self.ops.retain(|&(other, _)| other != at);
        self.ops.push((at, class));
        Ok(self)
    }

    /// With matrix work in this type in a module and those below it, by the path that its parameters' names begin
    /// with. f32 leaves a module out. Of several that fit the longest path counts.
    ///
    /// # Errors
    /// [`AmpError::Type`] unless it is f32, bf16 or f16.
    pub fn with_module(mut self, path: &str, compute: DType) -> Result<Self, AmpError> {
        check("a module", compute)?;
        self.modules.retain(|(other, _)| other != path);
        self.modules.push((path.into(), compute));
        Ok(self)
    }

    /// What the model is stored in.
    #[must_use]
    pub fn parameter(&self) -> DType {
        self.parameter
    }

    /// What matrix work takes, outside of modules that have another type.
    #[must_use]
    pub fn compute(&self) -> DType {
        self.compute
    }

    /// What the model returns.
    #[must_use]
    pub fn output(&self) -> DType {
        self.output
    }

    /// What losses take.
    #[must_use]
    pub fn reduction(&self) -> DType {
        self.reduction
    }

    /// Whether everything is f32: then types are the caller's affair.
    fn is_full(&self) -> bool {
        let types = [self.parameter, self.compute, self.output, self.reduction];
        types.iter().chain(self.modules.iter().map(|(_, d)| d)).all(|&d| d == DType::F32)
    }

    /// The class of an operation. What the table does not have, an operation of one's own, keeps its types.
    #[must_use]
    pub fn class(&self, op: &str) -> OpClass {
        let Some(at) = find(op) else { return OpClass::Keep };
        match self.ops.iter().find(|(other, _)| *other == at) {
            Some(&(_, class)) => class,
            None => self.autocast.class(op).unwrap_or(OpClass::Keep),
        }
    }

    /// What matrix work takes in the module of this path.
    #[must_use]
    pub fn compute_in(&self, module: &str) -> DType {
        let below = |path: &str| {
            module.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let fitting = self.modules.iter().filter(|(path, _)| below(path));
        fitting.max_by_key(|(path, _)| path.len()).map_or(self.compute, |&(_, dtype)| dtype)
    }
}

impl Precision for Policy {
    fn cast(&self, module: &str, op: &str, inputs: &[DType]) -> Option<DType> {
        if inputs.contains(&DType::F64) || self.is_full() {
            return None;
        }
        let floats = || inputs.iter().copied().filter(|d| d.is_float());
        let to = match self.class(op) {
            OpClass::Lower => self.compute_in(module),
            // What is f32 already is not narrowed for a loss.
            OpClass::Reduction if floats().all(|d| d == DType::F32) => return None,
            OpClass::Reduction => self.reduction,
            OpClass::Widest => floats().reduce(DType::promote)?,
            OpClass::Keep => return None,
        };
        floats().any(|d| d != to).then_some(to)
    }

    fn differs_by_module(&self) -> bool {
        self.modules.iter().any(|&(_, compute)| compute != self.compute)
    }
}

fn check(name: &'static str, dtype: DType) -> Result<DType, AmpError> {
    match dtype {
        DType::F32 | DType::BF16 | DType::F16 => Ok(dtype),
        _ => Err(AmpError::Type { name, dtype, expected: "f32, bf16 or f16" }),
    }
}

/// The four types, then `op:name=class` and `module:path=type` where they differ, then `autocast=cuda`.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameter, compute, output, reduction, autocast, ops, modules } = self;
        write!(f, "parameter={parameter},compute={compute},output={output},reduction={reduction}")?;
        if *autocast == Autocast::Cuda {
            f.write_str(",autocast=cuda")?;
        }
        for &(at, class) in ops {
            let class = CLASSES.iter().find(|(_, c)| *c == class).map_or("", |(word, _)| word);
            write!(f, ",op:{}={class}", name(at))?;
        }
        for (path, dtype) in modules {
            write!(f, ",module:{path}={dtype}")?;
        }
        Ok(())
    }
}

const CLASSES: [(&str, OpClass); 4] = [
    ("lower", OpClass::Lower),
    ("reduction", OpClass::Reduction),
    ("widest", OpClass::Widest),
    ("keep", OpClass::Keep),
];

/// Reads what [`Display`](fmt::Display) writes.
impl FromStr for Policy {
    type Err = AmpError;

    fn from_str(text: &str) -> Result<Self, AmpError> {
        let mut policy = Self::full();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = |expected| AmpError::Syntax { part: part.to_string(), expected };
            let (key, value) = part.split_once('=').ok_or_else(|| wrong("name=value"))?;
            let (key, value) = (key.trim(), value.trim());
            let dtype = || {
                [DType::F32, DType::BF16, DType::F16]
                    .into_iter()
                    .find(|d| d.name() == value)
                    .ok_or_else(|| wrong("f32, bf16 or f16"))
            };
            policy = match key.split_once(':') {
                Some(("module", path)) => policy.with_module(path, dtype()?)?,
                Some(("op", op)) => {
                    let class = CLASSES.iter().find(|(word, _)| *word == value);
                    let &(_, class) =
                        class.ok_or_else(|| wrong("lower, reduction, widest or keep"))?;
                    policy.with_op(op, class)?
                }
                Some(_) => return Err(wrong("op:name or module:path")),
                None => match (key, value) {
                    ("parameter", _) => policy.with_parameter(dtype()?)?,
                    ("compute", _) => Self { compute: dtype()?, ..policy },
                    ("output", _) => policy.with_output(dtype()?)?,
                    ("reduction", _) => policy.with_reduction(dtype()?)?,
                    ("autocast", "cpu") => policy.with_autocast(Autocast::Cpu),
                    ("autocast", "cuda") => policy.with_autocast(Autocast::Cuda),
                    ("autocast", _) => return Err(wrong("cpu or cuda")),
                    _ => return Err(wrong("parameter, compute, output, reduction or autocast")),
                },
            };
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use gradus_core::DType::{BF16, F16, F32, F64, I64};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_cast_to_what() {
        let policy = Policy::mixed(BF16).unwrap();
        for (op, inputs, want) in [
            ("matmul", &[F32, F32][..], Some(BF16)),
            ("matmul", &[F32, BF16], Some(BF16)),
            ("matmul", &[BF16, BF16], None),
            ("matmul", &[F16, F16], Some(BF16)),
            ("matmul", &[F64, F64], None),
            ("cross_entropy", &[BF16, I64], Some(F32)),
            ("cross_entropy", &[F32, I64], None),
            ("concat", &[F32, BF16, F32], Some(F32)),
            ("concat", &[F16, BF16], Some(F32)),
            ("concat", &[BF16, BF16], None),
            ("add", &[F32, BF16], None),
            ("an op of one's own", &[F32], None),
        ] {
            assert_eq!(policy.cast("", op, inputs), want, "{op} {inputs:?}");
        }
        for op in ["matmul", "concat", "cross_entropy"] {
            assert_eq!(Policy::full().cast("", op, &[F32, BF16]), None);
        }
        // Stored in 16 bits, computed in f32.
        let stored = Policy::full().with_parameter(BF16).unwrap();
        for op in ["matmul", "cross_entropy"] {
            assert_eq!(stored.cast("", op, &[BF16, BF16]), Some(F32));
        }
    }

    #[test]
    fn the_longest_path_counts_and_paths_end_at_dots() {
        let policy = Policy::mixed(BF16).unwrap();
        let policy = policy.with_module("a", F32).unwrap().with_module("a.b", F16).unwrap();
        for (module, want) in [("a", F32), ("a.c", F32), ("a.b", F16), ("a.b.0", F16), ("ab", BF16)]
        {
            assert_eq!(policy.compute_in(module), want, "{module}");
        }
        let policy = policy.with_module("a.b", BF16).unwrap();
        assert_eq!(policy.compute_in("a.b"), BF16);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let unknown = AmpError::UnknownOp { name: "mattmul".into() };
        assert_eq!(Policy::full().with_op("mattmul", OpClass::Keep), Err(unknown.clone()));
        assert_eq!("op:mattmul=keep".parse::<Policy>(), Err(unknown));
        assert!(matches!(Policy::mixed(F64), Err(AmpError::Type { name: "compute", .. })));
        assert!(matches!(Policy::full().with_module("x", I64), Err(AmpError::Type { .. })));
        for text in [
            "compute",
            "compute=f64",
            "computes=bf16",
            "op:matmul=low",
            "mod:x=f32",
            "autocast=tpu",
        ] {
            match text.parse::<Policy>() {
                Err(AmpError::Syntax { part, .. }) => assert_eq!(part, text),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn a_policy_is_what_it_writes(
            types in prop::array::uniform4(prop::sample::select(alloc::vec![F32, BF16, F16])),
            cuda: bool,
            op in 0usize..40,
            class in 0usize..4,
            path in "[a-z]{1,3}(\\.[0-9])?",
        ) {
            let policy = Policy::mixed(types[0]).unwrap()
                .with_parameter(types[1]).unwrap()
                .with_output(types[2]).unwrap()
                .with_reduction(types[3]).unwrap()
                .with_autocast(if cuda { Autocast::Cuda } else { Autocast::Cpu })
                .with_op(name(op), CLASSES[class].1).unwrap()
                .with_module(&path, types[0]).unwrap();
            prop_assert_eq!(policy.to_string().parse::<Policy>(), Ok(policy));
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,60}") {
            let _ = text.parse::<Policy>();
        }
    }
}
