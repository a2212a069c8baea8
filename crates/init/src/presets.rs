//! What other libraries start from, as choices for [`init_parameters`](crate::init_parameters).
//!
//! A preset is a function from a parameter to its scheme, so that exceptions are made by calling it:
//!
//! ```
//! use gradus_core::VecParam;
//! use gradus_init::{Init, init_parameters, presets};
//!
//! let mut params = vec![VecParam::new("h.0.mlp.c_proj.weight", &[8, 32], vec![0f32; 256])];
//! init_parameters(&mut params, 42, presets::gpt2(12))?;
//!
//! let torch = presets::torch();
//! init_parameters(&mut params, 42, |p| match p.name {
//!     "h.0.mlp.c_proj.weight" => Some(Init::orthogonal(1.0)),
//!     _ => torch(p),
//! })?;
//! # Ok::<(), gradus_init::InitError>(())
//! ```
//!
//! In all of them the scales of normalizations are 1 and their shifts (called `bias`, `beta` or `shift`) 0, and
//! what is no matrix, bias, embedding or normalization is left alone unless the preset says otherwise.

use gradus_core::ParamKind;
use num_traits::Float;

use crate::{FanMode, Fans, Init, Layout, ParamSite, Spread};

/// PyTorch's layers: matrices and kernels as [`Init::torch_linear`], biases uniform within
/// `1 / sqrt(fan_in)` of the weight beside them (`bias` beside `weight`; 0 without one), embeddings standard
/// normal, everything of a recurrent layer (`weight_ih..`, `weight_hh..`, `bias_ih..`, `bias_hh..`) uniform
/// within `1 / sqrt(hidden_size)`. Of `MultiheadAttention`, `in_proj_weight` is Xavier uniform, and
/// `in_proj_bias` and `out_proj.bias` are 0.
pub fn torch() -> impl Fn(&ParamSite<'_>) -> Option<Init> {
    |p| {
        if let Some(hidden) = hidden_size(p) {
            return Some(Init::torch_rnn(hidden));
        }
        match p.kind {
            ParamKind::Weight if p.last() == "in_proj_weight" => Some(Init::xavier_uniform(1.0)),
            ParamKind::Weight => is_matrix(p).then(Init::torch_linear),
            ParamKind::Bias if p.last() == "in_proj_bias" || layer(p) == "out_proj" => {
                Some(Init::zeros())
            }
            ParamKind::Bias => {
                let fans = p.neighbour("weight").map(|shape| Fans::of(shape, Layout::OutIn));
                Some(Init::torch_bias(fans.and_then(Result::ok).map_or(0, |fans| fans.fan_in)))
            }
            ParamKind::Embedding => Some(Init::torch_embedding()),
            _ => norm(p),
        }
    }
}

/// Keras' layers: matrices and kernels Xavier (Glorot) uniform, recurrent ones (`recurrent_kernel`,
/// `weight_hh..`) orthogonal, embeddings uniform within 0.05, biases 0 (also an LSTM's, whose forget gate
/// Keras starts at 1). `layout` is how the weights lie.
pub fn keras(layout: Layout) -> impl Fn(&ParamSite<'_>) -> Option<Init> {
    move |p| match p.kind {
        ParamKind::Weight if is_recurrent(p) => Some(Init::orthogonal(1.0).with_layout(layout)),
        ParamKind::Weight => is_matrix(p).then(|| Init::xavier_uniform(1.0).with_layout(layout)),
        ParamKind::Bias => Some(Init::zeros()),
        ParamKind::Embedding => Some(Init::uniform(-0.05, 0.05)),
        _ => norm(p),
    }
}

/// Flax' layers: matrices and kernels LeCun (truncated) normal, recurrent ones (`recurrent_kernel`,
/// `weight_hh..`) orthogonal, embeddings normal with variance `1 / width`, biases 0. `layout` is how the
/// weights lie.
pub fn jax(layout: Layout) -> impl Fn(&ParamSite<'_>) -> Option<Init> {
    move |p| match p.kind {
        ParamKind::Weight if is_recurrent(p) => Some(Init::orthogonal(1.0).with_layout(layout)),
        ParamKind::Weight => is_matrix(p).then(|| Init::lecun_normal().with_layout(layout)),
        ParamKind::Bias => Some(Init::zeros()),
        ParamKind::Embedding => {
            let init = Init::variance_scaling(1.0, FanMode::FanIn, Spread::Normal);
            Some(init.with_layout(Layout::Embedding))
        }
        _ => norm(p),
    }
}

/// GPT-2: matrices and embeddings normal with standard deviation 0.02, the last weight of each residual
/// branch divided by `sqrt(2 n_layers)`, biases 0. Such a weight is one of a layer called `c_proj` (as in
/// GPT-2), `proj`, `out_proj`, `o_proj`, `fc2`, `linear2` or `down_proj`.
///
/// # References
/// Radford et al.: Language models are unsupervised multitask learners (2019).
pub fn gpt2(n_layers: usize) -> impl Fn(&ParamSite<'_>) -> Option<Init> {
    move |p| match p.kind {
        ParamKind::Weight if LAST_OF_BRANCH.contains(&layer(p)) => {
            // Infinite, and so refused, without a layer.
            let factor = 1.0 / Float::sqrt(2.0 * n_layers as f64);
            Some(Init::normal(0.0, 0.02).times(factor))
        }
        ParamKind::Weight => is_matrix(p).then(|| Init::normal(0.0, 0.02)),
        ParamKind::Bias => Some(Init::zeros()),
        ParamKind::Embedding => Some(Init::normal(0.0, 0.02)),
        _ => norm(p),
    }
}

const LAST_OF_BRANCH: [&str; 7] =
    ["c_proj", "proj", "out_proj", "o_proj", "fc2", "linear2", "down_proj"];

/// timm's vision transformer: matrices and embeddings PyTorch's truncated normal with standard deviation
/// 0.02, the kernel that embeds patches LeCun normal, a `cls_token` normal with 1e-6, the layer called `head`
/// and biases 0.
///
/// # References
/// Dosovitskiy et al.: An image is worth 16x16 words (2020), arXiv:2010.11929.
pub fn vit() -> impl Fn(&ParamSite<'_>) -> Option<Init> {
    let small = Init::trunc_normal(0.0, 0.02, -2.0, 2.0);
    move |p| match p.kind {
        ParamKind::Bias => Some(Init::zeros()),
        _ if p.last() == "cls_token" => Some(Init::normal(0.0, 1e-6)),
        ParamKind::Weight if layer(p) == "head" => Some(Init::zeros()),
        ParamKind::Weight if p.shape.len() > 2 && p.last() != "pos_embed" => {
            Some(Init::lecun_normal())
        }
        ParamKind::Weight => is_matrix(p).then_some(small),
        ParamKind::Embedding => Some(small),
        _ => norm(p),
    }
}

/// `base`, but parameters whose name `is_zero` picks start at 0: the scale of the last normalization of each
/// residual branch, or its last weight, so that every block starts as the identity.
///
/// ```
/// use gradus_init::presets;
/// let resnet = presets::zeroed(presets::torch(), |name| name.ends_with("bn2.weight"));
/// ```
///
/// # References
/// Goyal et al.: Accurate, large minibatch SGD (2017), arXiv:1706.02677.
pub fn zeroed(
    base: impl Fn(&ParamSite<'_>) -> Option<Init>,
    is_zero: impl Fn(&str) -> bool,
) -> impl Fn(&ParamSite<'_>) -> Option<Init> {
    move |p| if is_zero(p.name) { Some(Init::zeros()) } else { base(p) }
}

/// 1 for scales, 0 for shifts.
fn norm(p: &ParamSite<'_>) -> Option<Init> {
    let is_shift = matches!(p.last(), "bias" | "beta" | "shift");
    (p.kind == ParamKind::Norm).then(|| if is_shift { Init::zeros() } else { Init::ones() })
}

fn is_matrix(p: &ParamSite<'_>) -> bool {
    p.shape.len() >= 2
}

fn is_recurrent(p: &ParamSite<'_>) -> bool {
    p.last() == "recurrent_kernel" || p.last().starts_with("weight_hh")
}

/// The name of the layer: `proj` of `attn.proj.weight`.
fn layer<'a>(p: &ParamSite<'a>) -> &'a str {
    p.name.rsplit('.').nth(1).unwrap_or("")
}

/// The hidden size of the recurrent layer that this belongs to: `weight_hh` is `[gates hidden, hidden]`.
fn hidden_size(p: &ParamSite<'_>) -> Option<usize> {
    let last = p.last();
    let rest = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
        .iter()
        .find_map(|start| last.strip_prefix(start))?;
    p.neighbour(&alloc::format!("weight_hh{rest}"))?.get(1).copied()
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, vec::Vec};

    use gradus_core::VecParam;

    use super::*;
    use crate::{Distribution, init_parameters};

    fn model() -> Vec<VecParam> {
        use ParamKind::{Bias, Embedding, Norm, Weight};
        [
            ("wte.weight", &[50, 16][..], Embedding),
            ("conv.bias", &[4], Bias),
            ("conv.weight", &[4, 3, 2, 2], Weight),
            ("rnn.weight_ih_l0", &[36, 5], Weight),
            ("rnn.weight_hh_l0", &[36, 9], Weight),
            ("rnn.bias_ih_l0", &[36], Bias),
            ("attn.in_proj_weight", &[48, 16], Weight),
            ("attn.in_proj_bias", &[48], Bias),
            ("attn.c_proj.weight", &[16, 16], Weight),
            ("attn.out_proj.bias", &[16], Bias),
            ("alone.bias", &[4], Bias),
            ("ln.weight", &[16], Norm),
            ("ln.bias", &[16], Norm),
            ("cls_token", &[1, 1, 16], Weight),
            ("act.weight", &[1], Weight),
            ("head.weight", &[10, 16], Weight),
        ]
        .map(|(name, shape, kind)| {
            let n = shape.iter().product();
            VecParam::new(name, shape, alloc::vec![9.0; n]).with_kind(kind)
        })
        .into()
    }

    /// The distributions that a preset chooses.
    fn choices(
        preset: impl Fn(&ParamSite<'_>) -> Option<Init>,
    ) -> BTreeMap<alloc::string::String, Option<Distribution>> {
        let found = core::cell::RefCell::new(BTreeMap::new());
        let mut model = model();
        init_parameters(&mut model, 1, |p| {
            let init = preset(p);
            let distribution = init.map(|init| init.distribution(p.shape).unwrap());
            found.borrow_mut().insert(p.name.into(), distribution);
            init
        })
        .unwrap();
        found.into_inner()
    }

    fn within(bound: f64) -> Option<Distribution> {
        Some(Distribution::Uniform { low: -bound, high: bound })
    }

    fn normal(std: f64) -> Option<Distribution> {
        Some(Distribution::Normal { mean: 0.0, std })
    }

    fn value(value: f64) -> Option<Distribution> {
        Some(Distribution::Constant { value })
    }

    #[test]
    fn torch_scales_biases_by_their_weights() {
        let of = choices(torch());
        let close = |name: &str, want: f64| match of[name] {
            Some(Distribution::Uniform { low, high }) if low == -high => {
                assert!((high - want).abs() < 1e-15, "{name}: {high}, want {want}");
            }
            other => panic!("{name}: {other:?}"),
        };
        close("conv.bias", 1.0 / 12f64.sqrt());
        close("conv.weight", 1.0 / 12f64.sqrt());
        for name in ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0"] {
            close(name, 1.0 / 3.0);
        }
        close("attn.in_proj_weight", (6.0f64 / 64.0).sqrt());
        close("head.weight", 0.25);
        assert_eq!(of["wte.weight"], normal(1.0));
        for name in ["attn.in_proj_bias", "attn.out_proj.bias", "ln.bias"] {
            assert_eq!(of[name], value(0.0), "{name}");
        }
        assert_eq!(of["alone.bias"], within(0.0));
        assert_eq!(of["ln.weight"], value(1.0));
        assert_eq!(of["act.weight"], None);
    }

    #[test]
    fn keras_and_jax_are_theirs() {
        let of = choices(keras(Layout::OutIn));
        assert_eq!(of["wte.weight"], within(0.05));
        assert_eq!(of["conv.weight"], within((6.0f64 / 28.0).sqrt()));
        let orthogonal = Some(Distribution::Orthogonal { gain: 1.0, rows: 36, cols: 9 });
        assert_eq!(of["rnn.weight_hh_l0"], orthogonal);
        assert_eq!(of["conv.bias"], value(0.0));
        let of = choices(jax(Layout::OutIn));
        assert_eq!(of["wte.weight"], normal(0.25));
        assert_eq!(of["rnn.weight_hh_l0"], orthogonal);
        let head = of["head.weight"].unwrap();
        assert!(matches!(head, Distribution::TruncNormal { .. }));
        assert!((head.std() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn transformers_are_theirs() {
        let of = choices(gpt2(8));
        assert_eq!(of["wte.weight"], normal(0.02));
        assert_eq!(of["head.weight"], normal(0.02));
        assert_eq!(of["attn.c_proj.weight"], normal(0.02 * 0.25));
        assert_eq!(of["attn.out_proj.bias"], value(0.0));
        let of = choices(vit());
        assert_eq!(of["cls_token"], normal(1e-6));
        assert_eq!(of["head.weight"], value(0.0));
        assert!((of["conv.weight"].unwrap().std() - 1.0 / 12f64.sqrt()).abs() < 1e-12);
        let trunc = Distribution::TruncNormal { mean: 0.0, std: 0.02, low: -2.0, high: 2.0 };
        assert_eq!(of["attn.c_proj.weight"], Some(trunc));
    }

    #[test]
    fn residual_branches_start_at_0() {
        let of = choices(zeroed(torch(), |name| name == "ln.weight"));
        assert_eq!(of["ln.weight"], value(0.0));
        assert_eq!(of["wte.weight"], normal(1.0));
    }

    #[test]
    fn a_transformer_without_layers_is_refused() {
        let mut model = model();
        let before = model.clone();
        assert!(init_parameters(&mut model, 1, gpt2(0)).is_err());
        assert_eq!(model, before);
    }
}
