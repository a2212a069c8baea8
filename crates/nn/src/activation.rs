use gradus_autograd::{Layer, Var, module};

/// Activation functions as layers.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, `negative_slope x` below.
    LeakyRelu {
        /// PyTorch's default is 0.01.
        negative_slope: f64,
    },
    /// `x Phi(x)`, exact.
    Gelu,
    /// `x sigmoid(x)`, also called swish.
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

module!(Activation {});

impl Layer for Activation {
    fn forward(&self, x: &Var) -> Var {
        match *self {
            Self::Relu => x.relu(),
            Self::LeakyRelu { negative_slope } => x.leaky_relu(negative_slope),
            Self::Gelu => x.gelu(),
            Self::Silu => x.silu(),
            Self::Tanh => x.tanh(),
            Self::Sigmoid => x.sigmoid(),
        }
    }
}
