//! The adapter: the parameters of a burn module as a walk of gradus, and a schedule of gradus as burn's. Copy this file.

use burn::{
    lr_scheduler::{LrScheduler, LrSchedulerRecord},
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{DType, Tensor, TensorData},
};
use gradus_core::{ParamKind, Schedule, VecParam};

/// Copies of all float parameters of a module, in f32, under the path of their fields: `hidden.weight`. burn's tensors
/// cannot be changed in place, so what a walk does to the copies takes effect by [`write`] and [`write_grads`].
pub fn read<M: Module>(module: &M) -> Vec<VecParam> {
    let mut reader = Reader { path: Vec::new(), params: Vec::new(), grads: None };
    module.visit(&mut reader);
    reader.params
}

/// The same with the gradients that one backward pass left.
pub fn read_with_grads<M: Module>(module: &M, grads: &GradientsParams) -> Vec<VecParam> {
    let mut reader = Reader { path: Vec::new(), params: Vec::new(), grads: Some(grads) };
    module.visit(&mut reader);
    reader.params
}

/// The module with these values, which [`read`] gave.
pub fn write<M: Module>(module: M, params: &[VecParam]) -> M {
    module.map(&mut Writer { params: params.iter() })
}

/// Puts the gradients of [`read_with_grads`] back, for burn's optimizer.
pub fn write_grads<M: Module>(module: &M, params: &[VecParam], grads: &mut GradientsParams) {
    module.visit(&mut GradWriter { params: params.iter(), grads });
}

struct Reader<'a> {
    path: Vec<String>,
    params: Vec<VecParam>,
    grads: Option<&'a GradientsParams>,
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let kind = match self.path.last().map(String::as_str) {
            Some("bias") => ParamKind::Bias,
            Some("gamma" | "beta") => ParamKind::Norm,
            _ => ParamKind::Weight,
        };
        let name = self.path.join(".");
        let mut copy = VecParam::new(name, &value.dims(), floats(&value)).with_kind(kind);
        copy.grad = self.grads.and_then(|g| g.get::<D>(param.id)).map(|g| floats(&g));
        self.params.push(copy);
    }
}

struct Writer<'a> {
    params: std::slice::Iter<'a, VecParam>,
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let copy = self.params.next().expect("as many parameters as the module has");
        param.map(|old| tensor(&copy.value, &old).set_require_grad(old.is_require_grad()))
    }
}

struct GradWriter<'a> {
    params: std::slice::Iter<'a, VecParam>,
    grads: &'a mut GradientsParams,
}

impl ModuleVisitor for GradWriter<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let copy = self.params.next().expect("as many parameters as the module has");
        if let (Some(old), Some(grad)) = (self.grads.remove::<D>(param.id), &copy.grad) {
            self.grads.register(param.id, tensor(grad, &old));
        }
    }
}

fn floats<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    let data = tensor.to_data_dtype(DType::F32);
    data.try_to_vec().expect("the data has just been converted")
}

/// These values with the shape, type and device of another tensor.
fn tensor<const D: usize>(values: &[f32], like: &Tensor<D>) -> Tensor<D> {
    let data = TensorData::new(values.to_vec(), like.shape());
    Tensor::<D>::from_data(data, &like.device()).cast(like.dtype())
}

/// A schedule of gradus for burn's `Learner`, or for a loop of one's own.
#[derive(Clone)]
pub struct BurnSchedule<S> {
    schedule: S,
    step: u64,
}

impl<S> BurnSchedule<S> {
    pub fn new(schedule: S) -> Self {
        Self { schedule, step: 0 }
    }
}

impl<S: Schedule + Clone + Send + Sync + 'static> LrScheduler for BurnSchedule<S> {
    fn step(&mut self) -> f64 {
        let lr = self.schedule.value(self.step);
        self.step += 1;
        lr
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("step", self.step)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(step) = record.scalar("step") {
            self.step = step;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig},
        tensor::Device,
    };
    use gradus_clip::{ClipNorm, clip_grad_norm};

    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        norm: LayerNorm,
        layers: Vec<Linear>,
        unused: Linear,
    }

    fn net() -> Net {
        let device = Device::flex().autodiff();
        let linear = LinearConfig::new(3, 3).init(&device);
        let unused = LinearConfig::new(2, 5).with_bias(false).init(&device);
        Net { norm: LayerNormConfig::new(3).init(&device), layers: vec![linear], unused }
    }

    fn backward(net: &Net) -> GradientsParams {
        let device = Device::flex().autodiff();
        let x = Tensor::<2>::from_data([[1.0, 2.0, 4.0], [3.0, -1.0, 5.0]], &device);
        let y = net.layers[0].forward(net.norm.forward(x)) * 100.0;
        GradientsParams::from_grads(y.square().sum().backward(), net)
    }

    #[test]
    fn names_are_paths_and_a_lost_gradient_is_absent() {
        let net = net();
        let read = read_with_grads(&net, &backward(&net));
        let found: Vec<_> =
            read.iter().map(|p| (p.name.as_str(), &*p.shape, p.kind, p.grad.is_some())).collect();
        let want: [(_, &[usize], _, _); 5] = [
            ("norm.gamma", &[3], ParamKind::Norm, true),
            ("norm.beta", &[3], ParamKind::Norm, true),
            ("layers.0.weight", &[3, 3], ParamKind::Weight, true),
            ("layers.0.bias", &[3], ParamKind::Bias, true),
            ("unused.weight", &[2, 5], ParamKind::Weight, false),
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn what_is_written_is_read_again_and_still_trains() {
        let net = net();
        let mut params = read(&net);
        for (i, p) in params.iter_mut().enumerate() {
            p.value.iter_mut().for_each(|v| *v = i as f32 + 0.5);
        }
        let net = write(net, &params);
        assert_eq!(read(&net), params);
        assert_eq!(backward(&net).len(), 4);
    }

    #[test]
    fn a_clip_reaches_the_gradients_that_the_optimizer_gets() {
        let net = net();
        let mut grads = backward(&net);
        let mut params = read_with_grads(&net, &grads);
        assert!(clip_grad_norm(&mut params, &ClipNorm::new(1.0)).unwrap().clipped);
        write_grads(&net, &params, &mut grads);
        assert_eq!(read_with_grads(&net, &grads), params);
        let all = params.iter().filter_map(|p| p.grad.as_ref()).flatten();
        let norm = all.map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }
}
