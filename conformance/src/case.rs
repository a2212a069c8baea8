//! Reading a case: arguments, tensors, limits.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use gradus_tensor::Tensor;
use safetensors::SafeTensors;
use serde_json::{Map, Value};

use crate::{answer::Failure, array::Array};

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) op: String,
    pub(crate) args: Args,
    pub(crate) limits: Limits,
    /// By full name: `in.x`, `out.y`. Empty for sequence cases.
    pub(crate) tensors: BTreeMap<String, Array>,
    /// The values of a sequence case.
    pub(crate) expect: Map<String, Value>,
    /// Whether the call has to return an error.
    pub(crate) expects_error: bool,
}

/// Relative and absolute tolerance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) relative: f64,
    pub(crate) absolute: f64,
}

impl Limit {
    pub(crate) const EXACT: Self = Self { relative: 0.0, absolute: 0.0 };

    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            relative: value.get("rtol")?.as_f64()?,
            absolute: value.get("atol")?.as_f64()?,
        })
    }

    /// How far from `want` is near enough.
    pub(crate) fn around(self, want: f64) -> f64 {
        self.absolute + self.relative * want.abs()
    }
}

/// The `tol` of a case.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// By element type, or `values` for a sequence case.
    by_type: BTreeMap<String, Limit>,
    by_tensor: BTreeMap<String, Limit>,
}

impl Limits {
    pub(crate) fn of_tensors(tol: &Value) -> Option<Self> {
        let mut limits = Self::default();
        for (name, value) in tol.as_object()? {
            if name == "tensors" {
                for (tensor, value) in value.as_object()? {
                    limits.by_tensor.insert(tensor.clone(), Limit::read(value)?);
                }
            } else {
                limits.by_type.insert(name.clone(), Limit::read(value)?);
            }
        }
        Some(limits)
    }

    fn of_values(tol: &Value) -> Option<Self> {
        Some(Self { by_type: [("values".into(), Limit::read(tol)?)].into(), ..Self::default() })
    }

    /// The limit of a tensor; `None` where the file gives none.
    pub(crate) fn of(&self, tensor: &str, dtype: &str) -> Option<Limit> {
        self.by_tensor.get(tensor).or_else(|| self.by_type.get(dtype)).copied()
    }

    /// The limit of the numbers of a sequence case.
    pub(crate) fn values(&self) -> Limit {
        self.by_type.get("values").copied().unwrap_or(Limit::EXACT)
    }
}

impl Case {
    /// Reads `.safetensors` or `.json`.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|e| e.to_string())?;
        if path.extension().is_some_and(|e| e == "json") {
            Self::parse_json(&bytes)
        } else {
            Self::parse_safetensors(&bytes)
        }
    }

    pub(crate) fn parse_json(bytes: &[u8]) -> Result<Self, String> {
        let file: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let field = |name: &str| file.get(name).ok_or_else(|| format!("no {name} in the file"));
        let expect = field("expect")?.as_object().ok_or("expect is no object")?.clone();
        Ok(Self {
            op: field("op")?.as_str().ok_or("op is no string")?.into(),
            args: Args::new(field("args")?)?,
            limits: Limits::of_values(field("tol")?).ok_or("tol is not as the format says")?,
            tensors: BTreeMap::new(),
            expects_error: expect.get("error") == Some(&Value::Bool(true)),
            expect,
        })
    }

    pub(crate) fn parse_safetensors(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
        let meta = header.metadata().as_ref().ok_or("no metadata in the file")?;
        let field = |name: &str| meta.get(name).ok_or_else(|| format!("no {name} in the metadata"));
        let json = |name: &str| {
            field(name)
                .and_then(|s| serde_json::from_str::<Value>(s).map_err(|e| format!("{name}: {e}")))
        };
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            tensors
                .insert(name.to_owned(), Array::read(&view).map_err(|e| format!("{name}: {e}"))?);
        }
        Ok(Self {
            op: field("op")?.clone(),
            args: Args::new(&json("args")?)?,
            limits: Limits::of_tensors(&json("tol")?).ok_or("tol is not as the format says")?,
            tensors,
            expect: Map::new(),
            expects_error: meta.get("expect").is_some_and(|e| e == "error"),
        })
    }

    /// Input or parameter `name`, if the case has it.
    pub(crate) fn find(&self, name: &str) -> Option<&Array> {
        self.tensors
            .get(&format!("in.{name}"))
            .or_else(|| self.tensors.get(&format!("param.{name}")))
    }

    /// Input or parameter `name`.
    pub(crate) fn array(&self, name: &str) -> Result<&Array, Failure> {
        self.find(name).ok_or_else(|| Failure::unsupported(format!("the case has no {name}")))
    }

    /// Input or parameter `name` as a tensor.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor, Failure> {
        self.array(name)?.to_tensor()
    }

    /// Input or parameter `name` as a tensor, if the case has it.
    pub(crate) fn find_tensor(&self, name: &str) -> Result<Option<Tensor>, Failure> {
        self.find(name).map(Array::to_tensor).transpose()
    }

    /// `x0`, `x1`, ... as far as there are any.
    pub(crate) fn numbered(&self, name: &str) -> Vec<String> {
        (0..).map(|i| format!("{name}{i}")).take_while(|n| self.find(n).is_some()).collect()
    }

    /// Names (without the prefix) of all tensors whose names start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.tensors.keys().filter_map(move |name| name.strip_prefix(prefix))
    }
}

/// The arguments of a case. What nobody has asked for by the end is an argument that the runner does not know.
#[derive(Debug)]
pub(crate) struct Args {
    values: Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl Args {
    pub(crate) fn new(args: &Value) -> Result<Self, String> {
        let values = args.as_object().ok_or("args is no object")?.clone();
        Ok(Self { values, read: RefCell::default() })
    }

    /// Arguments nobody asked for.
    pub(crate) fn unread(&self) -> Vec<&str> {
        let read = self.read.borrow();
        self.values.keys().map(String::as_str).filter(|&name| !read.contains(name)).collect()
    }

    /// These arguments with some of them replaced.
    pub(crate) fn with(&self, changes: &Map<String, Value>) -> Value {
        let mut values = self.values.clone();
        values.extend(changes.clone());
        Value::Object(values)
    }

    /// Marks arguments that say nothing new (sizes that the tensors show).
    pub(crate) fn ignore(&self, names: &[&str]) {
        self.read.borrow_mut().extend(names.iter().map(|&n| n.to_owned()));
    }

    /// The value, unless absent or null.
    pub(crate) fn find(&self, name: &str) -> Option<&Value> {
        self.ignore(&[name]);
        self.values.get(name).filter(|v| !v.is_null())
    }

    /// The value.
    pub(crate) fn get(&self, name: &str) -> Result<&Value, Failure> {
        self.find(name)
            .ok_or_else(|| Failure::unsupported(format!("the case has no argument {name}")))
    }

    /// The value read as `T`.
    pub(crate) fn to<T: FromArg>(&self, name: &str) -> Result<T, Failure> {
        read(name, self.get(name)?)
    }

    /// The value read as `T`, unless absent or null.
    pub(crate) fn maybe<T: FromArg>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.find(name).map(|v| read(name, v)).transpose()
    }
}

fn read<T: FromArg>(name: &str, value: &Value) -> Result<T, Failure> {
    T::from_arg(value).ok_or_else(|| Failure::unsupported(format!("argument {name} is {value}")))
}

/// What an argument can be.
pub(crate) trait FromArg: Sized {
    fn from_arg(value: &Value) -> Option<Self>;
}

impl FromArg for bool {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}
impl FromArg for usize {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}
impl FromArg for isize {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_i64()?.try_into().ok()
    }
}
impl FromArg for u64 {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}
impl FromArg for i64 {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}
impl FromArg for f64 {
    fn from_arg(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some("NaN") => Some(Self::NAN),
            Some("Infinity" | "inf") => Some(Self::INFINITY),
            Some("-Infinity") => Some(Self::NEG_INFINITY),
            Some(_) => None,
            None => value.as_f64(),
        }
    }
}
impl FromArg for String {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_str().map(Into::into)
    }
}
impl FromArg for Map<String, Value> {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_object().cloned()
    }
}
impl FromArg for Value {
    fn from_arg(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}
impl<T: FromArg> FromArg for Option<T> {
    fn from_arg(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_arg(value).map(Some) }
    }
}
impl<T: FromArg> FromArg for Vec<T> {
    fn from_arg(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_arg).collect()
    }
}
impl<T: FromArg, const N: usize> FromArg for [T; N] {
    fn from_arg(value: &Value) -> Option<Self> {
        Vec::from_arg(value)?.try_into().ok()
    }
}
