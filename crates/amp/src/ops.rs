//! Which operation computes in which type: PyTorch's lists.

/// What an operation does with the types of its inputs under a policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum OpClass {
    /// Casts them to the policy's compute type: matrix work, which is faster there and sums in f32 anyway.
    Lower,
    /// Casts them to the policy's type for reductions: what needs range or precision, losses above all.
    Reduction,
    /// Casts them to the widest of them.
    Widest,
    /// Leaves them as they are; different types are promoted as without a policy.
    Keep,
}

/// Whose lists a policy begins with.
///
/// PyTorch keeps one for each kind of device. On a CPU softmax, norms and exponentials stay in the type that they come
/// in: loops there widen to f32 for each element and lose nothing but the rounding of results. On a GPU they are cast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Autocast {
    /// `torch.autocast("cpu")`.
    #[default]
    Cpu,
    /// `torch.autocast("cuda")`.
    Cuda,
}

use OpClass::{Keep, Lower, Reduction, Widest};

/// Name, class on CPUs, class on GPUs; sorted by name. An operation that is not listed is none that a policy may name.
const OPS: &[(&str, OpClass, OpClass)] = &[
    ("abs", Keep, Keep),
    ("adaptive_avg_pool2d", Keep, Keep),
    ("add", Keep, Keep),
    ("alpha_dropout", Keep, Keep),
    ("amax", Keep, Keep),
    ("amin", Keep, Keep),
    ("avg_pool2d", Keep, Keep),
    ("batch_norm", Keep, Keep),
    ("batch_renorm", Keep, Keep),
    ("bce_with_logits", Reduction, Reduction),
    ("clamp", Keep, Keep),
    ("concat", Widest, Keep),
    ("conv1d", Lower, Lower),
    ("conv2d", Lower, Lower),
    ("cross_entropy", Reduction, Reduction),
    ("cumsum", Keep, Reduction),
    ("div", Keep, Keep),
    ("dropout", Keep, Keep),
    ("dropout2d", Keep, Keep),
    ("elu", Keep, Keep),
    ("embedding", Keep, Keep),
    ("exp", Keep, Reduction),
    ("gather", Keep, Keep),
    ("gelu", Keep, Keep),
    ("group_norm", Keep, Reduction),
    ("gru", Lower, Lower),
    ("huber_loss", Reduction, Keep),
    ("index_select", Keep, Keep),
    ("instance_norm", Keep, Keep),
    ("kl_div", Reduction, Reduction),
    ("l1_loss", Reduction, Reduction),
    ("layer_norm", Keep, Reduction),
    ("leaky_relu", Keep, Keep),
    ("linear", Lower, Lower),
    ("log", Keep, Reduction),
    ("log_softmax", Keep, Reduction),
    ("logsumexp", Keep, Keep),
    ("lstm", Lower, Lower),
    ("matmul", Lower, Lower),
    ("max_pool2d", Keep, Keep),
    ("mean", Keep, Keep),
    ("mse_loss", Reduction, Reduction),
    ("mul", Keep, Keep),
    ("nll_loss", Reduction, Reduction),
    ("pow", Keep, Reduction),
    ("pow_scalar", Keep, Reduction),
    ("relu", Keep, Keep),
    ("rms_norm", Keep, Keep),
    ("rnn_tanh", Lower, Lower),
    ("scaled_dot_product_attention", Lower, Keep),
    ("sigmoid", Keep, Keep),
    ("silu", Keep, Keep),
    ("smooth_l1_loss", Keep, Reduction),
    ("softmax", Keep, Reduction),
    ("softplus", Keep, Reduction),
    ("sqrt", Keep, Keep),
    ("stack", Widest, Keep),
    ("std", Keep, Keep),
    ("stochastic_depth", Keep, Keep),
    ("sub", Keep, Keep),
    ("sum", Keep, Reduction),
    ("sync_batch_norm", Keep, Keep),
    ("tanh", Keep, Keep),
    ("var", Keep, Keep),
    ("where", Keep, Keep),
];

impl Autocast {
    /// The class of an operation by its name in PyTorch; `None` if there is no such operation here.
    ///
    /// ```
    /// use gradus_amp::{Autocast, OpClass};
    ///
    /// assert_eq!(Autocast::Cpu.class("softmax"), Some(OpClass::Keep));
    /// assert_eq!(Autocast::Cuda.class("softmax"), Some(OpClass::Reduction));
    /// assert_eq!(Autocast::Cpu.class("softmaks"), None);
    /// ```
    #[must_use]
    pub fn class(self, op: &str) -> Option<OpClass> {
        let at = find(op)?;
        let (_, cpu, cuda) = OPS[at];
        Some(match self {
            Self::Cpu => cpu,
            Self::Cuda => cuda,
        })
    }

    /// All operations and their classes, sorted by name.
    pub fn ops(self) -> impl Iterator<Item = (&'static str, OpClass)> {
        OPS.iter().map(move |&(name, cpu, cuda)| match self {
            Self::Cpu => (name, cpu),
            Self::Cuda => (name, cuda),
        })
    }
}

/// Where the table has an operation.
pub(crate) fn find(op: &str) -> Option<usize> {
    OPS.binary_search_by_key(&op, |&(name, ..)| name).ok()
}

/// The name at a place of the table.
pub(crate) fn name(at: usize) -> &'static str {
    OPS[at].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found() {
        assert!(OPS.is_sorted_by_key(|&(name, ..)| name));
        for (name, class) in Autocast::Cpu.ops() {
            assert_eq!(Autocast::Cpu.class(name), Some(class));
            assert_eq!(self::name(find(name).unwrap()), name);
        }
    }
}
