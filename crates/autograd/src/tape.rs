//! The tape: one trip of a batch through the network.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gradus_core::{DType, Precision, RngStream, splitmix64};
use gradus_tensor::Tensor;
use smallvec::SmallVec;

use crate::{Gradients, Module, Param, ParamId, Var};

/// Place of a value on a tape.
pub(crate) type NodeId = u32;

/// Place of a module's name on a tape; 0 where it is not known.
pub(crate) type ModuleId = u32;

type Backward = Box<dyn FnOnce(SmallVec<[Option<Tensor>; 1]>, &mut Sink<'_>) + Send>;

/// An operation that backward has to undo: its inputs and outputs are places, never references, so that neither
/// the walk nor the drop recurses.
struct Record {
    name: &'static str,
    /// One entry an input; `None` for constants.
    inputs: SmallVec<[Option<NodeId>; 4]>,
    first_output: NodeId,
    outputs: u32,
    backward: Backward,
}

/// A parameter in another type.
struct Cast {
    /// What was cast.
    source: Tensor,
    value: Tensor,
    node: Option<NodeId>,
}

/// Shape and type of a value's gradient.
struct GradKind {
    /// To catch a backward of the wrong shape where it happens.
    shape: SmallVec<[usize; 6]>,
    /// That of the value; wider for the result of a cast.
    dtype: DType,
}

impl GradKind {
    fn of(value: &Tensor) -> Self {
        Self { shape: SmallVec::from_slice(value.shape()), dtype: value.dtype() }
    }
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// What the gradients of all tracked values are.
    kinds: Vec<GradKind>,
    /// Parameters and leaves: where their gradients end.
    leaves: Vec<(NodeId, ParamId)>,
    /// Parameters met so far, with the value that they had then.
    watched: HashMap<ParamId, (NodeId, Tensor)>,
    /// Casts of parameters. They are no `Var`s, which would keep their own tape alive.
    casts: HashMap<(ParamId, DType), Cast>,
    drained: bool,
}

/// What a tape is for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    Training,
    Evaluation,
    Frozen,
    MonteCarlo,
    Calibration,
}

struct Inner {
    state: Mutex<State>,
    mode: Mode,
    seed: u64,
    step: u64,
    ops: AtomicU64,
    precision: Option<Arc<dyn Precision>>,
    modules: Modules,
}

/// Which parameter belongs to which module.
#[derive(Default)]
struct Modules {
    /// Dotted names; the first is that of the unknown.
    names: Vec<String>,
    of_params: HashMap<ParamId, ModuleId>,
}

/// One trip of a batch through the network.
///
/// A tape records operations, knows whether this is training or evaluation, and owns the stream of random
/// numbers. There is no global mode and no global generator: two tapes never disturb each other, and the same
/// seed and step give the same numbers. A clone is another handle to the same tape.
///
/// ```
/// use gradus_autograd::{Tape, Tensor};
///
/// let tape = Tape::training(0, 0);
/// let x = tape.leaf(Tensor::from_slice(&[3f32], &[1]));
/// let y = (&x * &x).sum(&[], false);
/// let grads = y.backward();
/// assert_eq!(grads.wrt(&x).unwrap().to_vec::<f32>(), [6.0]);
/// ```
#[derive(Clone)]
pub struct Tape(Arc<Inner>);

impl Tape {
    /// A tape for step `step` of a training run with this seed: records, and layers are in training mode.
    #[must_use]
    pub fn training(seed: u64, step: u64) -> Self {
        Self::with(Mode::Training, seed, step)
    }

    /// A tape for evaluation: records nothing, and layers are in evaluation mode.
    #[must_use]
    pub fn evaluation() -> Self {
        Self::with(Mode::Evaluation, 0, 0)
    }

    /// A tape that records while layers are in evaluation mode: gradients through frozen statistics.
    #[must_use]
    pub fn frozen() -> Self {
        Self::with(Mode::Frozen, 0, 0)
    }

    /// A tape for estimating the statistics of batch norms again: records nothing, and layers are in evaluation mode,
    /// except that batch norms normalize by the batch and average its statistics into their running ones.
    #[must_use]
    pub fn calibration() -> Self {
        Self::with(Mode::Calibration, 0, 0)
    }

    /// A tape for one of several evaluations whose spread is wanted: as [`evaluation`](Self::evaluation), but dropout
    /// and its kin are active. What they draw is a function of `seed` and `sample`; `step` is where schedules stand.
    ///
    /// # References
    /// Gal, Ghahramani: Dropout as a Bayesian approximation (2016), arXiv:1506.02142.
    #[must_use]
    pub fn monte_carlo(seed: u64, step: u64, sample: u64) -> Self {
        // The seed of a sample is far from every seed that training counts up from.
        Self::with(Mode::MonteCarlo, splitmix64(splitmix64(!seed) ^ sample), step)
    }

    fn with(mode: Mode, seed: u64, step: u64) -> Self {
        let (state, ops) = (Mutex::new(State::default()), AtomicU64::new(0));
        let (precision, modules) = (None, Modules::default());
        Self(Arc::new(Inner { state, mode, seed, step, ops, precision, modules }))
    }

    /// The tape with a policy of mixed precision: operations cast their operands to the types that it names. Parameters
    /// stay what they are, and so do their gradients.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use gradus_autograd::{DType, Precision, Tape, Tensor};
    ///
    /// #[derive(Debug)]
    /// struct Products;
    /// impl Precision for Products {
    ///     fn cast(&self, _module: &str, op: &str, _inputs: &[DType]) -> Option<DType> {
    ///         (op == "matmul").then_some(DType::BF16)
    ///     }
    /// }
    ///
    /// let tape = Tape::training(0, 0).with_precision(Arc::new(Products));
    /// let x = tape.leaf(Tensor::ones(&[2, 2], DType::F32));
    /// let y = x.matmul(&x);
    /// assert_eq!(y.dtype(), DType::BF16);
    /// assert_eq!(y.sum(&[], false).backward().wrt(&x).unwrap().dtype(), DType::F32);
    /// ```
    ///
    /// # Panics
    /// When the tape is in use already: a value lies on it, or it was cloned.
    #[must_use]
    #[track_caller]
    pub fn with_precision(mut self, precision: Arc<dyn Precision>) -> Self {
        self.unused("with_precision").precision = Some(precision);
        self
    }

    /// The tape with the names of a model's modules, for a policy that differs by module. An operation belongs to the
    /// module of its parameters (`blocks.0.attention` has `blocks.0.attention.weight`); one without parameters to the
    /// module in which its first operand was made.
    ///
    /// # Panics
    /// When the tape is in use already: a value lies on it, or it was cloned.
    #[must_use]
    #[track_caller]
    pub fn with_modules<M: Module + ?Sized>(mut self, model: &M) -> Self {
        let modules = &mut self.unused("with_modules").modules;
        *modules = Modules { names: vec![String::new()], ..Modules::default() };
        model.for_each_param(&mut |name, param| {
            let module = name.rsplit_once('.').map_or("", |(module, _)| module);
            // A walk shows the parameters of a module one after the other.
            if modules.names.last().is_none_or(|last| last != module) {
                modules.names.push(module.to_owned());
            }
            modules.of_params.insert(param.id(), modules.names.len() as ModuleId - 1);
        });
        self
    }

    #[track_caller]
    fn unused(&mut self, what: &str) -> &mut Inner {
        Arc::get_mut(&mut self.0).unwrap_or_else(|| panic!("{what}: the tape is in use already"))
    }

    pub(crate) fn precision(&self) -> Option<&dyn Precision> {
        self.0.precision.as_deref()
    }

    pub(crate) fn module_name(&self, module: ModuleId) -> &str {
        self.0.modules.names.get(module as usize).map_or("", String::as_str)
    }

    #[track_caller]
    fn module_of_param(&self, param: ParamId) -> ModuleId {
        let modules = &self.0.modules;
        assert!(
            !modules.names.is_empty() || self.precision().is_none_or(|p| !p.differs_by_module()),
            "watch: the policy differs by module; tell the tape their names by Tape::with_modules"
        );
        modules.of_params.get(&param).copied().unwrap_or(0)
    }

    /// Whether layers behave as in training (batch norm uses the batch).
    #[must_use]
    pub fn is_training(&self) -> bool {
        self.0.mode == Mode::Training
    }

    /// Whether layers that draw random numbers do so (dropout drops): in training, and on a tape of
    /// [`monte_carlo`](Self::monte_carlo).
    #[must_use]
    pub fn is_stochastic(&self) -> bool {
        matches!(self.0.mode, Mode::Training | Mode::MonteCarlo)
    }

    /// Whether statistics are being estimated again (see [`calibration`](Self::calibration)).
    #[must_use]
    pub fn is_calibrating(&self) -> bool {
        self.0.mode == Mode::Calibration
    }

    fn is_recording(&self) -> bool {
        matches!(self.0.mode, Mode::Training | Mode::Frozen)
    }

    /// The step of training that this trip belongs to, for what follows a schedule; 0 in plain evaluation.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.0.step
    }

    /// The random numbers of the next operation: a function of (seed, step, how many were asked for before).
    #[must_use]
    pub fn rng_stream(&self) -> RngStream {
        RngStream::new(self.0.seed, self.0.step, self.0.ops.fetch_add(1, Relaxed))
    }

    /// A value that no gradient flows into.
    #[must_use]
    pub fn constant(&self, value: Tensor) -> Var {
        Var::new(self.clone(), value, None, None, 0)
    }

    /// A value whose gradient is wanted: `grads.wrt(&leaf)`. On an evaluation tape it is a constant.
    ///
    /// # Panics
    /// When this tape has already gone backward: nothing would ever reach the value.
    #[must_use]
    #[track_caller]
    pub fn leaf(&self, value: Tensor) -> Var {
        if !self.is_recording() {
            return self.constant(value);
        }
        let mut state = self.lock();
        state.assert_open("leaf");
        let id = state.add_leaf(ParamId::fresh(), &value);
        drop(state);
        Var::new(self.clone(), value, Some(id), None, 0)
    }

    /// A parameter's value on this tape. Watched twice (tied weights), it is the same leaf and its gradients add.
    /// A frozen parameter is a constant.
    ///
    /// # Panics
    /// When this tape has already gone backward, or has met the parameter with another value: a clone (a moving
    /// average, a teacher) that has changed since. Freeze the clone, or give it a tape of its own.
    #[must_use]
    #[track_caller]
    pub fn watch(&self, param: &Param) -> Var {
        let (id, module) = (Some(param.id()), self.module_of_param(param.id()));
        if !self.is_recording() || !param.is_trainable() {
            return Var::new(self.clone(), param.value().clone(), None, id, module);
        }
        let mut state = self.lock();
        state.assert_open("watch");
        let node = match state.watched.get(&param.id()) {
            Some((node, value)) => {
                assert!(
                    value.shares_buffer_with(param.value()),
                    "watch: a parameter of shape {:?} and a clone of it that has changed, on one tape",
                    value.shape()
                );
                *node
            }
            None => {
                let node = state.add_leaf(param.id(), param.value());
                state.watched.insert(param.id(), (node, param.value().clone()));
                node
            }
        };
        drop(state);
        Var::new(self.clone(), param.value().clone(), Some(node), id, module)
    }

    /// The value of a parameter in another type, cast when it is first asked for.
    pub(crate) fn cast_param(&self, param: ParamId, var: &Var, dtype: DType) -> Var {
        let module = var.module();
        if let Some(cast) = self.lock().casts.get(&(param, dtype))
            && cast.source.shares_buffer_with(var.value())
            && cast.node.is_some() == var.is_tracked()
        {
            return Var::new(self.clone(), cast.value.clone(), cast.node, Some(param), module);
        }
        let cast = var.to_dtype(dtype);
        let (source, value, node) = (var.value().clone(), cast.value().clone(), cast.node());
        self.lock().casts.insert((param, dtype), Cast { source, value: value.clone(), node });
        Var::new(self.clone(), value, node, Some(param), module)
    }

    /// Sets the type in which the gradient of a value is kept.
    pub(crate) fn keep_gradient_in(&self, node: NodeId, dtype: DType) {
        self.lock().kinds[node as usize].dtype = dtype;
    }

    /// Gradients of `sum(output * upstream)` over all pairs, for every leaf and parameter that was reached.
    /// Takes the records with it, newest first, and frees each as soon as it is used: a tape goes backward once.
    ///
    /// # Panics
    /// When an output lies on another tape, its upstream gradient has another shape, or this tape has already
    /// gone backward.
    #[track_caller]
    #[must_use]
    pub fn backward(&self, outputs: &[(&Var, Tensor)]) -> Gradients {
        let (mut records, kinds, leaves) = {
            let mut state = self.lock();
            state.assert_open("backward");
            state.drained = true;
            state.watched.clear();
            state.casts.clear();
            (
                std::mem::take(&mut state.records),
                std::mem::take(&mut state.kinds),
                std::mem::take(&mut state.leaves),
            )
        };
        let mut grads: Vec<Option<Tensor>> = Vec::new();
        grads.resize_with(kinds.len(), || None);
        for (var, upstream) in outputs {
            assert!(
                Arc::ptr_eq(&var.tape().0, &self.0),
                "backward: an output lies on another tape"
            );
            assert_eq!(
                var.shape(),
                upstream.shape(),
                "backward: shapes of an output and its upstream gradient"
            );
            if let Some(id) = var.node() {
                let upstream = upstream.to_dtype(kinds[id as usize].dtype);
                accumulate(&mut grads[id as usize], upstream);
            }
        }
        while let Some(record) = records.pop() {
            let first = record.first_output as usize;
            let outputs = first..first + record.outputs as usize;
            if outputs.clone().all(|o| grads[o].is_none()) {
                continue;
            }
            let upstream = outputs.map(|o| grads[o].take()).collect();
            let mut sink = Sink {
                name: record.name,
                inputs: &record.inputs,
                kinds: &kinds,
                grads: &mut grads,
            };
            (record.backward)(upstream, &mut sink);
        }
        let reached = leaves
            .into_iter()
            .filter_map(|(node, id)| Some((id, node, grads[node as usize].take()?)));
        Gradients::new(self.clone(), reached)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Adds an operation, if any input is tracked, and returns the place of its first output.
    #[track_caller]
    pub(crate) fn record(
        &self,
        name: &'static str,
        inputs: &[&Var],
        outputs: &[Tensor],
        backward: impl FnOnce(SmallVec<[Option<Tensor>; 1]>, &mut Sink<'_>) + Send + 'static,
    ) -> Option<NodeId> {
        if !self.is_recording() || inputs.iter().all(|v| v.node().is_none()) {
            return None;
        }
        let mut state = self.lock();
        state.assert_open(name);
        let first_output = state.kinds.len() as NodeId;
        state.kinds.extend(outputs.iter().map(GradKind::of));
        state.records.push(Record {
            name,
            inputs: inputs.iter().map(|v| v.node()).collect(),
            first_output,
            outputs: outputs.len() as u32,
            backward: Box::new(backward),
        });
        Some(first_output)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between statements: a panicking operation has not touched it yet.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[track_caller]
    fn assert_open(&self, op: &str) {
        assert!(!self.drained, "{op}: this tape has already gone backward; record a new one");
    }

    fn add_leaf(&mut self, param: ParamId, value: &Tensor) -> NodeId {
        let id = self.kinds.len() as NodeId;
        self.kinds.push(GradKind::of(value));
        self.leaves.push((id, param));
        id
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape")
            .field("mode", &self.0.mode)
            .field("seed", &self.0.seed)
            .field("step", &self.0.step)
            .field("precision", &self.0.precision)
            .finish_non_exhaustive()
    }
}

fn accumulate(slot: &mut Option<Tensor>, grad: Tensor) {
    match slot {
        None => *slot = Some(grad),
        Some(sum) => sum.add_assign(&grad),
    }
}

/// Where an operation's backward puts the gradients of its inputs.
pub struct Sink<'a> {
    name: &'static str,
    inputs: &'a [Option<NodeId>],
    kinds: &'a [GradKind],
    grads: &'a mut [Option<Tensor>],
}

impl Sink<'_> {
    /// Whether the gradient of this input is wanted. Where it is not, its work should be left out.
    #[must_use]
    pub fn needs(&self, input: usize) -> bool {
        self.inputs[input].is_some()
    }

    /// The type in which the gradient of this input is kept: its own, or a wider one if it was cast from that. What
    /// [`add`](Self::add) gets in another type is cast.
    ///
    /// # Panics
    /// When the gradient is not wanted.
    #[must_use]
    pub fn dtype(&self, input: usize) -> DType {
        let id = self.inputs[input].expect("the gradient is wanted");
        self.kinds[id as usize].dtype
    }

    /// Adds to the gradient of an input; nothing happens where it is not wanted.
    ///
    /// # Panics
    /// When the gradient has another shape than the input: a bug of the operation.
    pub fn add(&mut self, input: usize, grad: Tensor) {
        let Some(id) = self.inputs[input] else { return };
        let GradKind { shape, dtype } = &self.kinds[id as usize];
        assert_eq!(
            shape.as_slice(),
            grad.shape(),
            "{}: shape of input {input} and of its gradient",
            self.name
        );
        let grad = if grad.dtype() == *dtype { grad } else { grad.to_dtype(*dtype) };
        accumulate(&mut self.grads[id as usize], grad);
    }

    /// As [`add`](Self::add), for an input that was broadcast: sums the gradient to the input's shape first, and 16-bit
    /// floats in f32.
    ///
    /// # Panics
    /// When the input's shape does not broadcast to that of the gradient: a bug of the operation.
    pub fn add_broadcast(&mut self, input: usize, grad: Tensor) {
        if let Some(id) = self.inputs[input] {
            let shape = &self.kinds[id as usize].shape;
            self.add(input, grad.sum_to_wide(shape));
        }
    }
}

impl fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("op", &self.name).field("inputs", &self.inputs.len()).finish()
    }
}
