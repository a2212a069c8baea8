//! What is trained: a small convolutional network on digits, a small transformer on characters.

use std::error::Error;

use gradus::{
    Layer, Param, Tape, Tensor, Var,
    core::ParamKind,
    data::{Batch, Dataset, Standardize, csv, text},
    init::{FanMode, Init, Nonlinearity},
    module,
    nn::{
        Activation, BatchNorm, Conv2d, Embedding, GlobalAvgPool2d, LayerNorm, Linear, MaxPool2d,
        Probability, Seeds, Sequential, TransformerBlock,
    },
    tensor::{ConvOptions, DType},
    train::Outcome,
};

/// Something to learn, with what it is learned from and judged by.
pub(crate) struct Task {
    pub(crate) name: &'static str,
    pub(crate) build: fn(u64) -> Box<dyn Layer>,
    pub(crate) train: Dataset,
    pub(crate) test: Dataset,
    pub(crate) batch_size: usize,
    pub(crate) epochs: u64,
    pub(crate) lr: f64,
}

/// 8x8 digits, by convolutions, batch norm and the mean over all places.
pub(crate) fn digits(epochs: u64) -> Result<Task, Box<dyn Error>> {
    let table = csv::read(
        concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.csv.gz"),
        &csv::Options::new(),
    )?;
    let all = table.classification(64, 10)?.map_inputs(|x| x.reshape(&[-1, 1, 8, 8]))?;
    let mut parts = all.stratified_split(&[0.75, 0.25], 0)?;
    let standardize = Standardize::fit_global(parts[0].inputs())?;
    let test = parts.remove(1).map_inputs(|x| standardize.apply(x))?;
    let train = parts.remove(0).map_inputs(|x| standardize.apply(x))?;
    let build = |seed| Box::new(cnn(&mut Seeds::new(seed))) as Box<dyn Layer>;
    Ok(Task { name: "CNN on digits", build, train, test, batch_size: 32, epochs, lr: 3e-3 })
}

fn cnn(seeds: &mut Seeds) -> Sequential {
    let he = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn);
    let mut net = Sequential::new();
    for (channels, out) in [(1, 16), (16, 32), (32, 32)] {
        let same = ConvOptions::default().with_padding([1, 1]);
        net = net
            .then(Conv2d::with_init(channels, out, [3, 3], same, &he, seeds).without_bias())
            .then(BatchNorm::new(out))
            .then(Activation::Relu);
        if channels == 1 {
            net = net.then(MaxPool2d::new([2, 2]));
        }
    }
    net.then(GlobalAvgPool2d).then(Linear::new(32, 10, seeds))
}

/// Characters that a model sees at once.
const CONTEXT: usize = 64;
const VOCABULARY: usize = 128;

/// Shakespeare, character by character: each is foretold from up to 64 before it.
pub(crate) fn characters(windows: usize, epochs: u64) -> Result<Task, Box<dyn Error>> {
    let text = text::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/shakespeare.txt.gz"))?;
    let build = |seed| Box::new(Transformer::new(&mut Seeds::new(seed))) as Box<dyn Layer>;
    let (train, test) = text.split_at(text.len() * 9 / 10);
    let (train, test) = (sequences(train, windows)?, sequences(test, 128)?);
    let name = "transformer on characters";
    Ok(Task { name, build, train, test, batch_size: 16, epochs, lr: 3e-3 })
}

/// Windows that lie evenly over a text; the target of a character is the one behind it.
fn sequences(text: &[u8], windows: usize) -> Result<Dataset, Box<dyn Error>> {
    let stride = (text.len() - CONTEXT - 1) / windows;
    let at = |shift: usize| -> Vec<i64> {
        let starts = (0..windows).map(|i| i * stride + shift);
        let characters = starts.flat_map(|start| &text[start..start + CONTEXT]);
        characters.map(|&c| i64::from(c.min(VOCABULARY as u8 - 1))).collect()
    };
    let tensor = |shift| Tensor::from_slice(&at(shift), &[windows, CONTEXT]);
    Ok(Dataset::new(tensor(0), tensor(1))?)
}

struct Transformer {
    token: Embedding,
    position: Param,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    head: Linear,
}
module!(Transformer { token, position, blocks, norm, head });

impl Transformer {
    fn new(seeds: &mut Seeds) -> Self {
        let (dim, init) = (64, Init::normal(0.0, 0.02));
        let position = Tensor::zeros(&[CONTEXT, dim], DType::F32);
        Self {
            token: Embedding::with_init(VOCABULARY, dim, &init, seeds),
            position: Param::new(position, ParamKind::Embedding),
            blocks: (0..2)
                .map(|_| TransformerBlock::new(dim, 4, true, Probability::ZERO, seeds))
                .collect(),
            norm: LayerNorm::new(&[dim]),
            head: Linear::new(dim, VOCABULARY, seeds),
        }
    }
}

impl Layer for Transformer {
    /// Characters `[N, CONTEXT]` (i64) to logits `[N, CONTEXT, VOCABULARY]`.
    fn forward(&self, x: &Var) -> Var {
        let tape = x.tape();
        let mut x = self.token.forward(x.value(), tape) + tape.watch(&self.position);
        for block in &self.blocks {
            x = block.forward(&x);
        }
        self.head.forward(&self.norm.forward(&x))
    }
}

/// The cross-entropy of every answer, times a factor that the loss is shown with: one number an image, one a character.
pub(crate) fn objective<M: Layer + ?Sized>(weight: f64) -> impl Fn(&M, &Batch, &Tape) -> Outcome {
    move |model, batch, tape| {
        let logits = model.forward(&tape.constant(batch.inputs.clone()));
        let classes = logits.shape()[logits.shape().len() - 1];
        let logits = logits.reshape(&[-1, classes as isize]);
        let targets = batch.targets.reshape(&[-1]);
        let answers = logits.value().argmax(Some(1), false).to_vec::<i64>();
        let right = answers.iter().zip(targets.as_slice::<i64>()).filter(|(a, t)| a == t).count();
        let loss = logits.cross_entropy(&targets, &Default::default()) * weight;
        Outcome::new(loss, targets.numel()).with_correct(right)
    }
}
