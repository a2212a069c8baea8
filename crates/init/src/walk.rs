//! Initialization of all parameters of a walk.

use gradus_core::{ParamKind, Parameters};

use crate::{Init, InitError};

/// Initializes the parameters of a walk, each by the scheme that `choose` returns for it; those for which
/// it returns `None` are left alone, as are those without a value.
///
/// ```
/// use gradus_core::{ParamKind, VecParam};
/// use gradus_init::{Init, init_parameters};
///
/// let mut params = vec![
///     VecParam::new("fc.weight", &[4, 9], vec![0.0f32; 36]),
///     VecParam::new("fc.bias", &[4], vec![7.0; 4]).with_kind(ParamKind::Bias),
/// ];
/// init_parameters(&mut params, 42, |_name, _shape, kind| {
///     Some(if kind == ParamKind::Bias { Init::zeros() } else { Init::torch_linear() })
/// })?;
/// assert_eq!(params[1].value, [0.0; 4]);
/// assert!(params[0].value.iter().all(|w| w.abs() <= 1.0 / 3.0));
/// # Ok::<(), gradus_init::InitError>(())
/// ```
///
/// # Errors
/// The first error of [`Init::distribution`]; parameters before that one have been initialized.
///
/// # Panics
/// When a parameter's shape does not fit its length.
#[track_caller]
pub fn init_parameters(
    params: &mut dyn Parameters,
    seed: u64,
    choose: impl Fn(&str, &[usize], ParamKind) -> Option<Init>,
) -> Result<(), InitError> {
    let mut result = Ok(());
    params.visit(&mut |p| {
        if result.is_ok()
            && let Some(value) = p.value
            && let Some(init) = choose(p.name, p.shape, p.kind)
        {
            result = gradus_core::with_slice!(value, v => init.fill(seed, p.name, p.shape, v));
        }
    });
    result
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
        let choose = |name: &str, _: &[usize], _| (name != "frozen").then(Init::torch_linear);
        init_parameters(&mut params, 42, choose).unwrap();
        let mut want = [0.0; 3];
        Init::torch_linear().fill(42, "fc.weight", &[3, 1], &mut want).unwrap();
        assert_eq!(params[0].value, [9.0; 3]);
        assert_eq!(params[1].value, want);
    }

    #[test]
    fn the_first_error_stops_the_walk() {
        let mut params = vec![
            VecParam::new("bias", &[1], vec![9.0f32]),
            VecParam::new("weight", &[1, 1], vec![9.0]),
        ];
        let result = init_parameters(&mut params, 0, |_, _, _| Some(Init::torch_linear()));
        assert_eq!(result, Err(InitError::TooFewDims { shape: vec![1] }));
        assert_eq!(params[1].value, [9.0]);
    }
}
