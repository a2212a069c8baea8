//! Which operation computes in which type, as one question.

use core::fmt::Debug;

use crate::DType;

/// A policy of mixed precision, as autograd sees it: asked before every operation, it says what the operands are cast
/// to. `gradus_amp::Policy` is one; a model of one's own may bring another.
///
/// ```
/// use gradus_core::{DType, Precision};
///
/// /// Matrix products in bf16, but for the head of the model.
/// #[derive(Debug)]
/// struct Products;
///
/// impl Precision for Products {
///     fn cast(&self, module: &str, op: &str, _inputs: &[DType]) -> Option<DType> {
///         (op == "matmul" && module != "head").then_some(DType::BF16)
///     }
///     fn differs_by_module(&self) -> bool {
///         true
///     }
/// }
/// assert_eq!(Products.cast("body", "matmul", &[DType::F32, DType::F32]), Some(DType::BF16));
/// ```
pub trait Precision: Debug + Send + Sync {
    /// The type that an operation casts its floating-point inputs to; `None` if they stay as they are.
    ///
    /// `module` is the dotted path of the module that the operation belongs to (`blocks.0.attention`), empty where it is
    /// not known; `op` is the operation's name in PyTorch, in lower case with underscores.
    fn cast(&self, module: &str, op: &str, inputs: &[DType]) -> Option<DType>;

    /// Whether the answer depends on the module, so that modules have to be known.
    fn differs_by_module(&self) -> bool {
        false
    }
}
