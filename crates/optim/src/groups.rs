//! Parameter groups that together take every parameter once.

use alloc::vec::Vec;

use gradus_core::{
    GradientTransform, ParamKind, ParamMut, Parameters, State, StateDict, StateError, StepError,
    require_gradients,
};
use num_traits::Float;

use crate::{
    Group, OptimError,
    chain::{Boxed, load_each, save_each},
    error::positive,
    param::check_lr,
};

/// Parameter groups: each parameter goes to the first group that selects it, and one that none selects is an error.
///
/// ```
/// use gradus_core::{GradientTransform, StepError, VecParam};
/// use gradus_optim::{Adam, AdamConfig, Group, Groups};
///
/// let adamw = || Adam::new(AdamConfig::adamw());
/// let mut rule = Groups::new()
///     .then(Group::new(|name, _, _| name.starts_with("head."), adamw()?).with_lr_scale(10.0))
///     .then(Group::new(|name, _, _| name.starts_with("body."), adamw()?));
/// let param = |name: &str| VecParam::new(name, &[1], vec![1.0f32]).with_grad(vec![1.0]);
/// rule.step(1e-3, &mut vec![param("head.w"), param("body.w")])?;
/// let error = rule.step(1e-3, &mut vec![param("head.w"), param("neck.w")]).unwrap_err();
/// assert_eq!(error, StepError::NoGroup { names: vec!["neck.w".into()] });
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Groups {
    groups: Vec<Group<Opaque>>,
}

/// A boxed transform; what is in it is not shown.
struct Opaque(Boxed);

impl core::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("..")
    }
}

impl State for Opaque {
    fn save_state(&self) -> StateDict {
        self.0.save_state()
    }
    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        self.0.load_state(state)
    }
}

impl GradientTransform for Opaque {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        self.0.step(lr, params)
    }
}

impl Groups {
    /// No group yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more group, for what those before it leave.
    #[must_use]
    pub fn then<T: GradientTransform + Send + Sync + 'static>(mut self, group: Group<T>) -> Self {
        self.groups.push(group.map(|transform| Opaque(alloc::boxed::Box::new(transform))));
        self
    }

    /// The same with a last group, for all that is left.
    #[must_use]
    pub fn otherwise(self, transform: impl GradientTransform + Send + Sync + 'static) -> Self {
        self.then(Group::new(|_, _, _| true, transform))
    }

    /// Layer-wise decay of the learning rate: layer `l` of `layers`, counted from the input, learns at
    /// `decay^(layers - 1 - l)` times the rate, in a group of its own with the transform that `make` returns. A
    /// parameter whose layer is not below `layers` is in no group.
    ///
    /// As timm's `param_groups_layer_decay` has it, where the last layer (the head) learns at the full rate. Decoupled
    /// weight decay, being scaled by the rate, is scaled with it.
    ///
    /// # Errors
    /// [`OptimError`] for a decay that is not above 0 and finite, and what `make` returns.
    ///
    /// # References
    /// Clark, Luong, Le, Manning: ELECTRA (2020), arXiv:2003.10555. Bao, Dong, Piao, Wei: BEiT (2021),
    /// arXiv:2106.08254.
    ///
    /// ```
    /// use gradus_core::{GradientTransform, VecParam};
    /// use gradus_optim::{Groups, Sgd, SgdConfig};
    ///
    /// let layer = |name: &str| name.strip_prefix("layers.")?.split('.').next()?.parse().ok();
    /// let mut rule = Groups::by_layer(
    ///     0.5,
    ///     3,
    ///     move |name, _, _| layer(name).map_or(2, |l: usize| l),
    ///     || Sgd::new(SgdConfig::new()),
    /// )?;
    /// let param = |name: &str| VecParam::new(name, &[1], vec![1.0f32]).with_grad(vec![1.0]);
    /// let mut params = vec![param("layers.0.w"), param("layers.1.w"), param("head.w")];
    /// rule.step(0.5, &mut params)?;
    /// assert_eq!([0, 1, 2].map(|i| params[i].value[0]), [0.875, 0.75, 0.5]);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn by_layer<T: GradientTransform + Send + Sync + 'static>(
        decay: f64,
        layers: usize,
        layer: impl Fn(&str, &[usize], ParamKind) -> usize + Clone + Send + Sync + 'static,
        make: impl Fn() -> Result<T, OptimError>,
    ) -> Result<Self, OptimError> {
        positive("decay", decay)?;
        let mut groups = Self::new();
        for l in 0..layers {
            let layer = layer.clone();
            let group = Group::new(move |name, shape, kind| layer(name, shape, kind) == l, make()?);
            let scale = Float::powf(decay, (layers - 1 - l) as f64);
            groups = groups.then(group.with_lr_scale(scale));
        }
        Ok(groups)
    }
}

/// A walk over the parameters of one group.
struct Members<'a> {
    params: &'a mut dyn Parameters,
    /// The group of each parameter, in the order of the walk.
    groups: &'a [usize],
    group: usize,
}

impl Parameters for Members<'_> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let mut groups = self.groups.iter();
        self.params.visit(&mut |p| {
            if groups.next() == Some(&self.group) {
                f(p);
            }
        });
    }
}

impl State for Groups {
    /// Each group's state under its position: `0.NAME`, `1.NAME`, ...
    fn save_state(&self) -> StateDict {
        save_each(&self.groups)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        load_each(&mut self.groups, state)
    }
}

impl GradientTransform for Groups {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        check_lr(lr)?;
        require_gradients(params)?;
        let (mut groups, mut names) = (Vec::new(), Vec::new());
        params.visit(&mut |p| {
            let group = self.groups.iter().position(|g| g.selects(p.name, p.shape, p.kind));
            if group.is_none() {
                names.push(p.name.into());
            }
            groups.extend(group);
        });
        if !names.is_empty() {
            return Err(StepError::NoGroup { names });
        }
        for (i, group) in self.groups.iter_mut().enumerate() {
            group.step(lr, &mut Members { params, groups: &groups, group: i })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::VecParam;

    use super::*;
    use crate::{Sgd, SgdConfig};

    fn param(name: &str) -> VecParam {
        VecParam::new(name, &[1], vec![1.0]).with_grad(vec![1.0])
    }

    fn sgd() -> Sgd {
        Sgd::new(SgdConfig::new()).unwrap()
    }

    #[test]
    fn the_first_group_that_selects_a_parameter_has_it_alone() {
        let mut rule = Groups::new()
            .then(Group::new(|name, _, _| name == "a", sgd()).with_lr_scale(0.5))
            .otherwise(sgd());
        let mut params = vec![param("b"), param("a"), param("c")];
        rule.step(0.5, &mut params).unwrap();
        assert_eq!([0, 1, 2].map(|i| params[i].value[0]), [0.5, 0.75, 0.5]);
    }

    #[test]
    fn a_parameter_in_no_group_is_named_and_nothing_has_changed() {
        let mut rule = Groups::new().then(Group::new(|name, _, _| name == "a", sgd()));
        let mut params = vec![param("a"), param("b"), param("c")];
        let before = params.clone();
        let names = vec!["b".into(), "c".into()];
        assert_eq!(rule.step(0.5, &mut params), Err(StepError::NoGroup { names }));
        assert_eq!(params, before);
    }

    #[test]
    fn a_layer_beyond_the_last_is_in_no_group_and_bad_decays_are_refused() {
        let make = |decay| Groups::by_layer(decay, 2, |_, _, _| 2, || Sgd::new(SgdConfig::new()));
        let error = make(0.5).unwrap().step(0.5, &mut vec![param("a")]).unwrap_err();
        assert!(matches!(error, StepError::NoGroup { .. }));
        for bad in [0.0, -1.0, f64::NAN] {
            assert!(matches!(make(bad), Err(OptimError::OutOfRange { name: "decay", .. })));
        }
    }
}
