//! The networks of the runs, from the differentiable ops and the normalization layers.

use gradus_autograd::{Entry, EntryMut, Layer, Module, Param, ParamKind, Path, Tape, Tensor, Var};
use gradus_norm::{BatchNorm, layer_norm};
use gradus_tensor::{AttentionOptions, ConvOptions, MaxPoolOptions};

use super::run::{Loss, Model};
use crate::{answer::Failure, case::Case};

/// The parameters of a case, by name.
#[derive(Debug)]
struct Weights(Vec<(String, Param)>);

impl Weights {
    /// Those whose names `choose` accepts.
    fn new(case: &Case, choose: impl Fn(&str) -> bool) -> Result<Self, Failure> {
        let names = case.names("param.").filter(|name| choose(name));
        let all = names
            .map(|name| Ok((name.to_owned(), Param::new(case.tensor(name)?, ParamKind::Weight))));
        Ok(Self(all.collect::<Result<_, Failure>>()?))
    }

    fn find(&self, tape: &Tape, name: &str) -> Option<Var> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, p)| tape.watch(p))
    }

    fn get(&self, tape: &Tape, name: &str) -> Result<Var, Failure> {
        self.find(tape, name).ok_or_else(|| Failure::unsupported(format!("the case has no {name}")))
    }

    /// `x W^T + b`.
    fn linear(&self, x: &Var, name: &str) -> Result<Var, Failure> {
        let weight = self.get(x.tape(), &format!("{name}.weight"))?;
        Ok(x.linear(&weight, self.find(x.tape(), &format!("{name}.bias")).as_ref()))
    }
}

impl Module for Weights {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        for (name, param) in &self.0 {
            path.enter(name, |path| param.walk(path, f));
        }
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        for (name, param) in &mut self.0 {
            path.enter(name, |path| param.walk_mut(path, f));
        }
    }
}

/// Linear, activation, .., linear.
#[derive(Debug)]
pub(super) struct Mlp {
    weights: Weights,
    layers: usize,
    activation: fn(&Var) -> Var,
    loss: Loss,
}

impl Mlp {
    pub(super) fn new(case: &Case) -> Result<Self, Failure> {
        let activation = match case.args.to::<String>("activation")?.as_str() {
            "tanh" => Var::tanh,
            "relu" => Var::relu,
            "gelu" => Var::gelu,
            "silu" => Var::silu,
            "sigmoid" => Var::sigmoid,
            other => return Err(Failure::unsupported(format!("activation {other}"))),
        };
        let layers = case.args.to::<Vec<usize>>("layers")?.len() - 1;
        Ok(Self {
            weights: Weights::new(case, |_| true)?,
            layers,
            activation,
            loss: Loss::new(&case.args)?,
        })
    }
}

impl Module for Mlp {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        self.weights.walk(path, f);
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        self.weights.walk_mut(path, f);
    }
}

impl Model for Mlp {
    fn loss(&self, tape: &Tape, x: &Tensor, y: &Tensor) -> Result<Var, Failure> {
        let mut h = tape.constant(x.clone());
        for i in 0..self.layers {
            h = self.weights.linear(&h, &format!("layers.{i}"))?;
            if i + 1 < self.layers {
                h = (self.activation)(&h);
            }
        }
        Ok(self.loss.of(&h, y))
    }
}

/// Two convolutions with batch norm, a mean over the image, a linear layer.
#[derive(Debug)]
pub(super) struct Cnn {
    weights: Weights,
    bn1: BatchNorm,
    bn2: BatchNorm,
    loss: Loss,
}

impl Cnn {
    pub(super) fn new(case: &Case) -> Result<Self, Failure> {
        let norm = |name: &str| Ok::<_, Failure>(BatchNorm::new(case.array(name)?.len()));
        Ok(Self {
            weights: Weights::new(case, |name| !name.starts_with("bn"))?,
            bn1: norm("bn1.weight")?,
            bn2: norm("bn2.weight")?,
            loss: Loss::new(&case.args)?,
        })
    }
}

impl Module for Cnn {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        self.weights.walk(path, f);
        path.enter("bn1", |path| self.bn1.walk(path, f));
        path.enter("bn2", |path| self.bn2.walk(path, f));
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        self.weights.walk_mut(path, f);
        path.enter("bn1", |path| self.bn1.walk_mut(path, f));
        path.enter("bn2", |path| self.bn2.walk_mut(path, f));
    }
}

impl Model for Cnn {
    fn loss(&self, tape: &Tape, x: &Tensor, y: &Tensor) -> Result<Var, Failure> {
        let same = ConvOptions::default().with_padding([1, 1]);
        let conv = |h: &Var, name: &str| {
            Ok::<_, Failure>(h.conv2d(&self.weights.get(tape, name)?, None, same))
        };
        let h = conv(&tape.constant(x.clone()), "conv1.weight")?;
        let h = self.bn1.forward(&h).relu().max_pool2d(MaxPoolOptions::new([2, 2]));
        let h = self.bn2.forward(&conv(&h, "conv2.weight")?).relu();
        let logits = self.weights.linear(&h.mean(&[2, 3], false), "fc")?;
        Ok(self.loss.of(&logits, y))
    }
}

/// One block of a decoder, its normalization before attention and before the two linear layers.
#[derive(Debug)]
pub(super) struct Transformer {
    weights: Weights,
    heads: usize,
    tied: bool,
    loss: Loss,
}

impl Transformer {
    pub(super) fn new(case: &Case) -> Result<Self, Failure> {
        Ok(Self {
            weights: Weights::new(case, |_| true)?,
            heads: case.args.to("heads")?,
            tied: case.args.to("tied")?,
            loss: Loss::new(&case.args)?,
        })
    }

    fn norm(&self, x: &Var, name: &str) -> Result<Var, Failure> {
        let weight = self.weights.get(x.tape(), &format!("{name}.weight"))?;
        let bias = self.weights.get(x.tape(), &format!("{name}.bias"))?;
        Ok(layer_norm(x, weight.shape(), Some(&weight), Some(&bias), 1e-5))
    }

    fn attention(&self, x: &Var) -> Result<Var, Failure> {
        let &[batch, steps, width] = x.shape() else {
            return Err(Failure::unsupported("x is not [B, S, D]"));
        };
        let [b, s, h, d] = [batch, steps, self.heads, width / self.heads].map(|n| n as isize);
        let qkv =
            self.weights.linear(x, "qkv")?.reshape(&[b, s, 3, h, d]).permute(&[2, 0, 3, 1, 4]);
        let part = |i: isize| qkv.slice(0, i, Some(i + 1), 1).squeeze(0);
        let options = AttentionOptions::new().with_causal(true);
        let y = part(0).scaled_dot_product_attention(&part(1), &part(2), &options);
        self.weights.linear(&y.transpose(1, 2).reshape(&[b, s, h * d]), "proj")
    }
}

impl Module for Transformer {
    fn walk(&self, path: &mut Path, f: &mut dyn FnMut(&str, Entry<'_>)) {
        self.weights.walk(path, f);
    }
    fn walk_mut(&mut self, path: &mut Path, f: &mut dyn FnMut(&str, EntryMut<'_>)) {
        self.weights.walk_mut(path, f);
    }
}

impl Model for Transformer {
    fn loss(&self, tape: &Tape, x: &Tensor, y: &Tensor) -> Result<Var, Failure> {
        let tokens = self.weights.get(tape, "tok.weight")?;
        let positions =
            self.weights.get(tape, "pos.weight")?.slice(0, 0, Some(x.shape()[1] as isize), 1);
        let h = tokens.embedding(x, None) + &positions;
        let h = &h + &self.attention(&self.norm(&h, "ln1")?)?;
        let inner = self.weights.linear(&self.norm(&h, "ln2")?, "fc1")?.gelu();
        let h = &h + &self.weights.linear(&inner, "fc2")?;
        let head = if self.tied { tokens } else { self.weights.get(tape, "head.weight")? };
        let logits = self.norm(&h, "lnf")?.linear(&head, None);
        let classes = logits.shape()[2] as isize;
        Ok(self.loss.of(&logits.reshape(&[-1, classes]), &y.reshape(&[-1])))
    }
}
