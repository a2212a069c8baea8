//! Differentiable operations: each holds its forward and its backward together.

mod arith;
mod attention;
mod conv;
mod cross_entropy;
mod index;
mod loss;
mod matmul;
mod pool;
mod recurrent;
mod reduce;
mod shape;
mod softmax;
mod unary;

pub use cross_entropy::CrossEntropy;
pub use loss::Reduction;
pub use recurrent::{CellWeights, States};
