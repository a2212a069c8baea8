#![doc = include_str!("../README.md")]

pub mod buffer;

mod attention;
mod conv;
mod gemm;
mod index;
mod join;
mod map;
mod matmul;
mod ops;
mod pool2d;
mod real;
mod recurrent;
mod reduce;
mod shape;
mod short;
mod softmax;
mod tensor;
mod view;

pub use attention::AttentionOptions;
pub use conv::ConvOptions;
pub use gemm::{MatMut, MatRef, Start, gemm};
pub use gradus_core::{DType, Element, FloatElement, bf16, f16};
pub use gradus_kernel::{kernel, par, simd};
pub use map::{BinaryOp, TernaryOp, UnaryOp};
pub use pool2d::{AvgPoolOptions, MaxPoolOptions};
pub use real::Real;
pub use recurrent::{Cell, Recurred, RecurredGrad, Recurrence};
pub use reduce::sum_row;
pub use shape::{broadcast_shapes, normalize_dim, normalize_dims};
pub use short::Stored;
pub use tensor::Tensor;
