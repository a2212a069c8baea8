//! What each row has to do at least: floating-point operations, and bytes to and from memory.

/// The least work of a row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Work {
    /// Additions and multiplications; of training steps those of products only.
    pub flops: f64,
    /// Each input read once and each result written once; state is read and written. Of a training step also what its
    /// backward needs of its forward, written and read, and each gradient, which cannot be used before the norm of
    /// all is known.
    pub bytes: f64,
}

/// What an exponential or an error function costs, its polynomial and the way there and back.
const FUNCTION: f64 = 20.0;
/// Bytes of an f32.
const F32: f64 = 4.0;

/// The work of the row of this name.
#[must_use]
pub fn work(row: &str) -> Option<Work> {
    Some(match row {
        "gemm_256" => gemm(256.0, 256.0, 256.0),
        "gemm_1024" => gemm(1024.0, 1024.0, 1024.0),
        "gemm_skinny" => gemm(128.0, 784.0, 512.0),
        // Four arrays: x and dy, y and dx. Forward 7 operations (mean, deviation, square, scale, affine), backward 13.
        "layernorm_fwd_bwd" => elementwise(4096.0 * 768.0, 20.0, 4.0),
        "rmsnorm_fwd_bwd" => elementwise(4096.0 * 768.0, 13.0, 4.0),
        "batchnorm2d_fwd_bwd" => elementwise(64.0 * 64.0 * 28.0 * 28.0, 20.0, 4.0),
        // The gradient can be made while a row is at hand: one exponential, one array in and one out.
        "softmax_xent_fwd_bwd" => elementwise(2048.0 * 8192.0, 4.0 + FUNCTION, 2.0),
        "gelu_fwd_bwd" => elementwise(4_194_304.0, 7.0 + 2.0 * FUNCTION, 4.0),
        // Random bits are not counted.
        "dropout_fwd_bwd" => elementwise(16_777_216.0, 2.0, 4.0),
        // Read for the norm, read and written for the scaling.
        "clip_grad_norm" => elementwise(SIXTY, 3.0, 3.0),
        // Parameter and both moments read and written, the gradient read.
        "adamw_step" => elementwise(SIXTY, 15.0, 7.0),
        "kaiming_normal_init" => elementwise(4096.0 * 2560.0, 5.0 + FUNCTION, 1.0),
        "conv3x3_fwd_bwd" => {
            let (images, weight) = (32.0 * 64.0 * 32.0 * 32.0, 64.0 * 64.0 * 9.0);
            let products = 3.0 * images * 64.0 * 9.0;
            Work { flops: 2.0 * products, bytes: F32 * (4.0 * images + 2.0 * weight) }
        }
        "attention_causal_fwd_bwd" => Work {
            flops: 2.0 * attention(64.0, 256.0, 64.0),
            bytes: F32 * 8.0 * 64.0 * 256.0 * 64.0,
        },
        _ => training(row)?.work(),
    })
}

/// Elements of the tensors that are clipped and updated.
const SIXTY: f64 = 10_033_026.0;

fn gemm(m: f64, k: f64, n: f64) -> Work {
    Work { flops: 2.0 * m * k * n, bytes: F32 * (m * k + k * n + m * n) }
}

/// `n` elements with so many operations and arrays.
fn elementwise(n: f64, flops: f64, arrays: f64) -> Work {
    Work { flops: flops * n, bytes: F32 * arrays * n }
}

/// Multiply-adds of causal attention, two products forward and four backward, without the masked half.
fn attention(heads: f64, length: f64, dim: f64) -> f64 {
    6.0 * heads * length * (length + 1.0) / 2.0 * dim
}

/// A training step.
struct Training {
    /// Multiply-adds, forward and backward.
    products: f64,
    parameters: f64,
    /// Arrays of optimizer state.
    states: f64,
    /// Elements that backward needs of forward.
    saved: f64,
    /// Elements of the batch.
    inputs: f64,
}

impl Training {
    fn work(&self) -> Work {
        // Parameters, gradients and states are all read and written.
        let words = 2.0 * (2.0 + self.states) * self.parameters + 2.0 * self.saved + self.inputs;
        Work { flops: 2.0 * self.products, bytes: F32 * words }
    }
}

/// Multiply-adds of a layer's forward and backward: its result, the gradient of its weight, and that of its input.
fn inner(rows: f64, inputs: f64, outputs: f64) -> f64 {
    3.0 * rows * inputs * outputs
}

/// The same for the first layer, whose input needs no gradient.
fn first(rows: f64, inputs: f64, outputs: f64) -> f64 {
    2.0 * rows * inputs * outputs
}

fn training(row: &str) -> Option<Training> {
    const SGD: f64 = 1.0;
    const ADAMW: f64 = 2.0;
    Some(match row {
        "mlp_step" => Training {
            products: first(128.0, 784.0, 512.0)
                + inner(128.0, 512.0, 512.0)
                + inner(128.0, 512.0, 10.0),
            parameters: 671_754.0,
            states: ADAMW,
            // Into and out of both norms with what follows them, and the logits.
            saved: 128.0 * (4.0 * 512.0 + 10.0),
            inputs: 128.0 * 784.0,
        },
        "tiny_mlp_step" => Training {
            products: first(32.0, 8.0, 32.0) + inner(32.0, 32.0, 32.0) + inner(32.0, 32.0, 1.0),
            parameters: 1_377.0,
            states: SGD,
            saved: 32.0 * (32.0 + 32.0 + 1.0),
            inputs: 32.0 * 9.0,
        },
        "cnn_step" => Training {
            products: first(64.0 * 784.0, 9.0, 32.0)
                + inner(64.0 * 196.0, 32.0 * 9.0, 64.0)
                + inner(64.0, 3136.0, 128.0)
                + inner(64.0, 128.0, 10.0),
            parameters: 421_738.0,
            states: SGD,
            // Results of the convolutions, of the poolings (each a quarter), of the linear layers and of dropout.
            saved: 64.0 * (1.25 * 32.0 * 784.0 + 1.25 * 64.0 * 196.0 + 2.0 * 128.0 + 10.0),
            inputs: 64.0 * 784.0,
        },
        "resnet_step" => resnet(),
        "lstm_step" => {
            let tokens = 32.0 * 64.0;
            Training {
                products: inner(tokens, 128.0 + 256.0, 1024.0) + inner(tokens, 256.0, 96.0),
                parameters: 432_224.0,
                states: ADAMW,
                // Embedding, gates, cell, state and logits.
                saved: tokens * (128.0 + 1024.0 + 256.0 + 256.0 + 96.0),
                inputs: 2.0 * tokens,
            }
        }
        "gpt_step" => {
            let (tokens, dim) = (16.0 * 128.0, 256.0);
            let block = 3.0 * tokens * dim * dim * (3.0 + 1.0 + 4.0 + 4.0);
            Training {
                products: 4.0 * (block + attention(16.0 * 4.0, 128.0, 64.0))
                    + inner(tokens, dim, 96.0),
                parameters: 3_241_472.0,
                states: ADAMW,
                // A block: into both norms, out of them, q, k, v, attention, and into and out of GELU.
                saved: tokens * (4.0 * dim * (2.0 + 2.0 + 3.0 + 1.0 + 8.0) + 2.0 * dim + 96.0),
                inputs: 2.0 * tokens,
            }
        }
        _ => return None,
    })
}

/// ResNet-20: a stem, then three stages of three blocks of two convolutions; the first blocks of the last two stages
/// halve the image, and have a 1x1 convolution as their shortcut.
fn resnet() -> Training {
    let images = 64.0;
    let (mut products, mut saved) = (first(images * 1024.0, 27.0, 16.0), 2.0 * 1024.0 * 16.0);
    let mut inputs = 16.0;
    for (channels, pixels) in [(16.0, 1024.0), (32.0, 256.0), (64.0, 64.0)] {
        let rows = images * pixels;
        products +=
            inner(rows, 9.0 * inputs, channels) + 5.0 * inner(rows, 9.0 * channels, channels);
        // Of each convolution its result, and what norm and ReLU make of it.
        saved += 12.0 * pixels * channels;
        if inputs != channels {
            products += inner(rows, inputs, channels);
            saved += pixels * channels;
        }
        inputs = channels;
    }
    products += inner(images, 64.0, 10.0);
    Training {
        products,
        parameters: 272_474.0,
        states: 1.0,
        saved: images * (saved + 64.0 + 10.0),
        inputs: images * 3.0 * 1024.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn every_row_has_work() {
        for row in ROWS {
            let work = work(row.name).unwrap_or_else(|| panic!("{}", row.name));
            assert!(work.flops > 0.0 && work.bytes > 0.0, "{}: {work:?}", row.name);
        }
        assert_eq!(work("no_row"), None);
    }

    #[test]
    fn products_are_as_many_as_the_shapes_say() {
        let near = |row, madds: f64| {
            let counted = work(row).unwrap().flops / 2.0;
            assert!((counted / madds - 1.0).abs() < 0.02, "{row}: {counted} for {madds}");
        };
        near("gemm_1024", 1.074e9);
        near("conv3x3_fwd_bwd", 3.62e9);
        // Half of six products of 64 heads, 256 x 256 x 64.
        near("attention_causal_fwd_bwd", 0.805e9);
        // Three times the forward, less the gradients of the images.
        near("mlp_step", 0.257e9 - 0.0514e9);
        near("cnn_step", 0.813e9 - 0.0145e9);
        near("resnet_step", 7.8e9);
        near("lstm_step", 2.57e9);
        near("gpt_step", 20.3e9);
    }

    #[test]
    fn traffic_is_what_has_to_be_moved() {
        assert_eq!(work("gemm_256").unwrap().bytes, 3.0 * 65_536.0 * 4.0);
        assert_eq!(work("adamw_step").unwrap().bytes, 7.0 * 4.0 * 10_033_026.0);
        // Parameters, gradients, momentum: 1 377 each, both ways; then activations both ways, and the batch.
        let tiny = 6.0 * 1_377.0 + 2.0 * 32.0 * 65.0 + 32.0 * 9.0;
        assert_eq!(work("tiny_mlp_step").unwrap().bytes, 4.0 * tiny);
    }
}
