//! The adapter: candle's variables and gradients as a walk of gradus. Copy this file.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var, backprop::GradStore, bail};
use candle_nn::VarMap;
use gradus_core::{ParamKind, ParamMut, Parameters, SliceMut};

/// The variables of a [`VarMap`] in the order of their names (the map's own order is another in every run), and
/// what [`bind`](Self::bind) found as their gradients.
///
/// The walk shows the variables themselves, not copies: what changes in it has changed in the model.
pub struct CandleParams {
    params: Vec<Param>,
}

struct Param {
    name: String,
    shape: Vec<usize>,
    kind: ParamKind,
    var: Var,
    grad: Option<Tensor>,
}

impl CandleParams {
    /// Needs floating-point variables on the CPU: elsewhere there is no slice to walk over.
    pub fn new(map: &VarMap) -> Result<Self> {
        let mut params = Vec::new();
        for (name, var) in map.data().lock().expect("no thread panicked with the map").iter() {
            if let Err(e) = lend(var, |_| ()) {
                bail!("{name}: {e}");
            }
            let shape = var.dims().to_vec();
            let kind = if name.ends_with("bias") {
                ParamKind::Bias
            } else if shape.len() == 1 {
                ParamKind::Norm
            } else {
                ParamKind::Weight
            };
            params.push(Param { name: name.clone(), shape, kind, var: var.clone(), grad: None });
        }
        params.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { params })
    }

    /// The variables, in the order of the walk: for an optimizer of candle.
    pub fn vars(&self) -> Vec<Var> {
        self.params.iter().map(|p| p.var.clone()).collect()
    }

    /// Joins the gradients of one backward pass to their variables. What a walk does to them, candle's optimizer
    /// finds in `grads`. `gradus_core::require_gradients` says whether a variable is without one.
    pub fn bind(&mut self, grads: &mut GradStore) -> Result<()> {
        for p in &mut self.params {
            // A copy that nothing else refers to: a gradient may be a view of a tensor, or shared.
            p.grad = grads.get(&p.var).map(Tensor::force_contiguous).transpose()?;
            if let Some(grad) = &p.grad {
                grads.insert(&p.var, grad.clone());
            }
        }
        Ok(())
    }
}

impl Parameters for CandleParams {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for Param { name, shape, kind, var, grad } in &self.params {
            let shown = lend(var, |value| {
                let p = ParamMut { name, shape, kind: *kind, value: Some(value), grad: None };
                match grad {
                    Some(grad) => lend(grad, |grad| f(ParamMut { grad: Some(grad), ..p })),
                    None => {
                        f(p);
                        Ok(())
                    }
                }
            });
            shown.flatten().expect("`new` lent every variable, and its gradient is like it");
        }
    }
}

/// Lends the elements of a tensor to `f`. candle gives them away, to be changed, only in an in-place operation.
fn lend<R>(tensor: &Tensor, f: impl FnOnce(SliceMut<'_>) -> R) -> Result<R> {
    let op = Lend { f: Cell::new(Some(f)), result: Cell::new(None) };
    tensor.inplace_op1(&op)?;
    Ok(op.result.take().expect("candle runs an operation once"))
}

struct Lend<F, R> {
    f: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<R, F: FnOnce(SliceMut<'_>) -> R> InplaceOp1 for Lend<F, R> {
    fn name(&self) -> &'static str {
        "lend"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("not contiguous") };
        let slice = match storage {
            CpuStorage::F32(s) => SliceMut::F32(&mut s[start..end]),
            CpuStorage::F64(s) => SliceMut::F64(&mut s[start..end]),
            CpuStorage::F16(s) => SliceMut::F16(&mut s[start..end]),
            CpuStorage::BF16(s) => SliceMut::BF16(&mut s[start..end]),
            _ => bail!("not of a floating-point type"),
        };
        self.result.set(self.f.take().map(|f| f(slice)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use gradus_clip::{ClipNorm, clip_grad_norm};

    use super::*;

    fn var(map: &VarMap, name: &str, values: &[f32], dtype: DType) -> Result<Var> {
        let var = Var::from_tensor(&Tensor::new(values, &Device::Cpu)?.to_dtype(dtype)?)?;
        map.data().lock().unwrap().insert(name.into(), var.clone());
        Ok(var)
    }

    /// The gradients of a sum of squares, clipped to a norm of 1.
    fn clipped(dtype: DType) -> Result<(f64, Vec<f32>)> {
        let map = VarMap::new();
        let (a, b) = (var(&map, "a", &[1.5, 0.0], dtype)?, var(&map, "b", &[-2.0], dtype)?);
        let loss = (a.sqr()?.sum_all()? + b.sqr()?.sum_all()?)?;
        let mut grads = loss.backward()?;
        let mut params = CandleParams::new(&map)?;
        params.bind(&mut grads)?;
        let report = clip_grad_norm(&mut params, &ClipNorm::new(1.0)).unwrap();
        assert!(report.clipped);
        // What candle's optimizer would see.
        let grad = |v: &Var| grads.get(v).unwrap().to_dtype(DType::F32)?.to_vec1::<f32>();
        assert_eq!(grads.get(&a).unwrap().dtype(), dtype);
        Ok((report.norm, [grad(&a)?, grad(&b)?].concat()))
    }

    #[test]
    fn gradients_of_every_type_are_clipped_in_the_store() -> Result<()> {
        let types =
            [(DType::F64, 1e-6), (DType::F32, 1e-6), (DType::F16, 5e-4), (DType::BF16, 4e-3)];
        for (dtype, tolerance) in types {
            let (norm, grads) = clipped(dtype)?;
            assert_eq!(norm, 5.0);
            for (grad, want) in grads.into_iter().zip([0.6, 0.0, -0.8]) {
                assert!((grad - want).abs() <= tolerance, "{dtype:?}: {grad} {want}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_gradient_that_two_variables_share_is_scaled_once_for_each() -> Result<()> {
        let map = VarMap::new();
        let (a, b) = (var(&map, "a", &[0.0], DType::F32)?, var(&map, "b", &[0.0], DType::F32)?);
        let shared = Tensor::new(&[3f32, 7.0], &Device::Cpu)?;
        let mut grads = a.sqr()?.sum_all()?.backward()?;
        grads.insert(&a, shared.narrow(0, 1, 1)?);
        grads.insert(&b, shared.narrow(0, 1, 1)?);
        let mut params = CandleParams::new(&map)?;
        params.bind(&mut grads)?;
        params.visit(&mut |p| {
            let Some(SliceMut::F32(grad)) = p.grad else { panic!("{}: no f32 gradient", p.name) };
            grad.iter_mut().for_each(|g| *g *= 2.0);
        });
        let of = |v| grads.get(v).unwrap().to_vec1::<f32>();
        assert_eq!((of(&a)?, of(&b)?), (vec![14.0], vec![14.0]));
        assert_eq!(shared.to_vec1::<f32>()?, [3.0, 7.0]);
        Ok(())
    }

    #[test]
    fn the_walk_is_in_the_order_of_names_and_changes_the_variables() -> Result<()> {
        let map = VarMap::new();
        for name in ["b.weight", "c.bias", "a.bias"] {
            var(&map, name, &[1.0, 2.0], DType::F32)?;
        }
        let mut seen = Vec::new();
        CandleParams::new(&map)?.visit(&mut |p| {
            seen.push((p.name.to_owned(), p.kind, p.grad.is_some()));
            if let Some(SliceMut::F32(value)) = p.value {
                value[1] = 5.0;
            }
        });
        let want = [
            ("a.bias", ParamKind::Bias),
            ("b.weight", ParamKind::Norm),
            ("c.bias", ParamKind::Bias),
        ];
        assert_eq!(seen, want.map(|(name, kind)| (name.to_owned(), kind, false)));
        assert_eq!(map.all_vars()[0].to_vec1::<f32>()?, [1.0, 5.0]);
        Ok(())
    }

    #[test]
    fn a_variable_that_is_no_float_is_refused_by_name() -> Result<()> {
        let map = VarMap::new();
        var(&map, "steps", &[1.0], DType::U32)?;
        let error = CandleParams::new(&map).err().unwrap().to_string();
        assert!(error.starts_with("steps: not of a floating-point type"), "{error}");
        Ok(())
    }
}
