//! Initialization of all parameters of a walk.

use alloc::{borrow::ToOwned, boxed::Box, string::String, vec::Vec};

use gradus_core::{ParamKind, Parameters};

use crate::{Distribution, Init, InitError};

/// A parameter of a walk, for the choice of its scheme.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ParamSite<'a> {
    /// Its path: `encoder.0.weight`.
    pub name: &'a str,
    /// Its dimensions.
    pub shape: &'a [usize],
    /// What it is for.
    pub kind: ParamKind,
    all: &'a [Site],
}

#[derive(Debug)]
struct Site {
    name: String,
    shape: Vec<usize>,
    kind: ParamKind,
    has_value: bool,
}

impl<'a> ParamSite<'a> {
    /// The last part of the name: `weight` of `encoder.0.weight`.
    #[must_use]
    pub fn last(&self) -> &'a str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The shape of the parameter of the same layer whose last part of the name is this: that of
    /// `encoder.0.weight` for `encoder.0.bias` and `weight`.
    #[must_use]
    pub fn neighbour(&self, last: &str) -> Option<&'a [usize]> {
        let path = &self.name[..self.name.len() - self.last().len()];
        let found = self.all.iter().find(|site| site.name.strip_prefix(path) == Some(last))?;
        Some(&found.shape)
    }
}

/// Initializes the parameters of a walk, each by the scheme that `choose` returns for it; those for which
/// it returns `None` are left alone, as are those without a value. [`presets`](crate::presets) are choices
/// that are ready.
///
/// ```
/// use gradus_core::{ParamKind, VecParam};
/// use gradus_init::{Init, init_parameters, presets};
///
/// let mut params = vec![
///     VecParam::new("fc.weight", &[4, 9], vec![0.0f32; 36]),
///     VecParam::new("fc.bias", &[4], vec![7.0; 4]).with_kind(ParamKind::Bias),
/// ];
/// init_parameters(&mut params, 42, presets::torch())?;
/// assert!(params.iter().all(|p| p.value.iter().all(|w| w.abs() <= 1.0 / 3.0)));
///
/// init_parameters(&mut params, 42, |p| match p.kind {
///     ParamKind::Bias => Some(Init::zeros()),
///     _ => None,
/// })?;
/// assert_eq!(params[1].value, [0.0; 4]);
/// # Ok::<(), gradus_init::InitError>(())
/// ```
///
/// # Errors
/// [`InitError::Parameter`] with the first error of [`Init::distribution`]; no parameter has changed then.
///
/// # Panics
/// When a parameter's shape does not fit its length.
#[track_caller]
pub fn init_parameters(
    params: &mut dyn Parameters,
    seed: u64,
    choose: impl Fn(&ParamSite<'_>) -> Option<Init>,
) -> Result<(), InitError> {
    let mut sites = Vec::new();
    params.visit(&mut |p| {
        sites.push(Site {
            name: p.name.to_owned(),
            shape: p.shape.to_vec(),
            kind: p.kind,
            has_value: p.value.is_some_and(|v| !v.is_empty()),
        });
    });
    let plan = |site: &Site| -> Result<Option<Distribution>, InitError> {
        let Site { name, shape, kind, has_value } = site;
        let init = choose(&ParamSite { name, shape, kind: *kind, all: &sites });
        init.filter(|_| *has_value)
            .map(|init| init.distribution(shape))
            .transpose()
            .map_err(|error| InitError::Parameter { name: name.clone(), error: Box::new(error) })
    };
    let plans = sites.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    let mut plans = plans.into_iter();
    params.visit(&mut |p| {
        if let Some(distribution) = plans.next().flatten()
            && let Some(value) = p.value
        {
            assert_eq!(
                p.shape.iter().product::<usize>(),
                value.len(),
                "init_parameters: {} of shape {:?} does not hold {} elements",
                p.name,
                p.shape,
                value.len()
            );
            gradus_core::with_slice!(value, v => distribution.fill(seed, p.name, v));
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::VecParam;

    use super::*;

    #[test]
    fn the_walk_names_the_parameters_and_spares_the_rest() {
        let param = |name: &str| VecParam::new(name, &[3, 1], vec![9.0f64; 3]);
        let mut params = vec![param("frozen"), param("fc.weight")];
        let choose = |p: &ParamSite<'_>| (p.name != "frozen").then(Init::torch_linear);
        init_parameters(&mut params, 42, choose).unwrap();
        let mut want = [0.0; 3];
        Init::torch_linear().fill(42, "fc.weight", &[3, 1], &mut want).unwrap();
        assert_eq!(params[0].value, [9.0; 3]);
        assert_eq!(params[1].value, want);
    }

    #[test]
    fn an_error_names_the_parameter_and_changes_nothing() {
        let mut params = vec![
            VecParam::new("weight", &[1, 1], vec![9.0f32]),
            VecParam::new("bias", &[1], vec![9.0]),
            VecParam::new("empty", &[0], vec![]),
        ];
        let result = init_parameters(&mut params, 0, |_| Some(Init::torch_linear()));
        let error = Box::new(InitError::TooFewDims { shape: vec![1] });
        assert_eq!(result, Err(InitError::Parameter { name: "bias".into(), error }));
        assert_eq!((params[0].value[0], params[1].value[0]), (9.0, 9.0));
    }

    #[test]
    fn neighbours_are_of_the_same_layer() {
        let param = |name: &str, n| VecParam::new(name, &[n], vec![0f32; n]);
        let mut params = vec![param("a.weight", 1), param("b.weight", 2), param("b.bias", 3)];
        params.push(param("weight", 4));
        let seen = core::cell::RefCell::new(vec![]);
        init_parameters(&mut params, 0, |p| {
            let shape = p.neighbour("weight").map(|shape| shape[0]);
            seen.borrow_mut().push((p.last().to_owned(), shape, p.neighbour("gain").is_some()));
            None
        })
        .unwrap();
        let want = |last: &str, n| (last.to_owned(), Some(n), false);
        let all = [want("weight", 1), want("weight", 2), want("bias", 2), want("weight", 4)];
        assert_eq!(*seen.borrow(), all);
    }
}
