//! The branches as nodes of burn's gradient graph.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients as GradientStore;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;
use masktas_export::arch::NORM_EPSILON;

use super::attention::{self, Shape};
use super::feed_forward;
use super::linear::Linear;

/// The branches of a block. Weights are super weights, `[input, output]` and `[1, output]`; what is used of them
/// follows from the widths of `x` and of the branch.
#[backend_extension(Flex, Autodiff)]
pub trait BlockOps: Backend {
    /// The attention branch.
    #[allow(clippy::too_many_arguments)]
    fn attention_branch(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        q: FloatTensor<Self>,
        q_bias: FloatTensor<Self>,
        k: FloatTensor<Self>,
        k_bias: FloatTensor<Self>,
        v: FloatTensor<Self>,
        v_bias: FloatTensor<Self>,
        proj: FloatTensor<Self>,
        proj_bias: FloatTensor<Self>,
        heads: usize,
        head_dim: usize,
    ) -> FloatTensor<Self>;

    /// The feed-forward branch.
    #[allow(clippy::too_many_arguments)]
    fn feed_forward_branch(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        fc1: FloatTensor<Self>,
        fc1_bias: FloatTensor<Self>,
        fc2: FloatTensor<Self>,
        fc2_bias: FloatTensor<Self>,
        hidden: usize,
    ) -> FloatTensor<Self>;
}

/// A tensor whose elements lie one after the other.
struct Flat(FlexTensor);

impl Flat {
    fn new(tensor: &FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    fn values(&self) -> &[f32] {
        // A contiguous f32 tensor, as every tensor of this crate is on this backend.
        self.0.as_slice::<f32>().unwrap_or(&[])
    }

    fn dims(&self) -> &[usize] {
        self.0.layout().shape().as_slice()
    }

    /// Leading part of a weight and its bias.
    fn linear<'a>(&'a self, bias: &'a Flat, input: usize, output: usize) -> Linear<'a> {
        let stride = self.dims()[1];
        Linear { weight: self.values(), bias: bias.values(), input, output, stride }
    }
}

fn tensor(values: Vec<f32>, dims: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, dims.to_vec()))
}

/// A gradient of the leading elements of a one-row parameter, at full width.
fn widened(mut values: Vec<f32>, like: &Flat) -> FlexTensor {
    values.resize(like.values().len(), 0.0);
    tensor(values, like.dims())
}

/// Inputs of the attention branch: `x`, gain, bias, then weight and bias of query, key, value, projection.
struct Attention {
    inputs: [Flat; 11],
    shape: Shape,
}

impl Attention {
    fn new(inputs: [&FlexTensor; 11], heads: usize, head_dim: usize) -> Self {
        let inputs = inputs.map(Flat::new);
        let axis = |at: usize| inputs[0].dims().get(at).copied().unwrap_or(0);
        let shape = Shape { images: axis(0), tokens: axis(1), embed: axis(2), heads, head_dim };
        Self { inputs, shape }
    }

    fn weights(&self) -> attention::Weights<'_> {
        let [_, gain, bias, q, q_bias, k, k_bias, v, v_bias, proj, proj_bias] = &self.inputs;
        let (embed, width) = (self.shape.embed, self.shape.heads * self.shape.head_dim);
        attention::Weights {
            gain: &gain.values()[..embed],
            bias: &bias.values()[..embed],
            q: q.linear(q_bias, embed, width),
            k: k.linear(k_bias, embed, width),
            v: v.linear(v_bias, embed, width),
            proj: proj.linear(proj_bias, width, embed),
        }
    }

    fn forward(&self) -> (FlexTensor, attention::Kept) {
        let x = &self.inputs[0];
        let (out, kept) = attention::forward(x.values(), &self.weights(), self.shape, NORM_EPSILON);
        (tensor(out, x.dims()), kept)
    }

    fn backward(&self, gradient: &FlexTensor, kept: &attention::Kept) -> [FlexTensor; 11] {
        let gradient = Flat::new(gradient);
        let of = attention::backward(gradient.values(), kept, &self.weights(), self.shape);
        let [x, gain, bias, q, q_bias, k, k_bias, v, v_bias, proj, proj_bias] = &self.inputs;
        [
            tensor(of.x, x.dims()),
            widened(of.gain, gain),
            widened(of.bias, bias),
            tensor(of.q.weight, q.dims()),
            tensor(of.q.bias, q_bias.dims()),
            tensor(of.k.weight, k.dims()),
            tensor(of.k.bias, k_bias.dims()),
            tensor(of.v.weight, v.dims()),
            tensor(of.v.bias, v_bias.dims()),
            tensor(of.proj.weight, proj.dims()),
            tensor(of.proj.bias, proj_bias.dims()),
        ]
    }
}

/// Inputs of the feed-forward branch: `x`, gain, bias, then weight and bias of both layers.
struct FeedForward {
    inputs: [Flat; 7],
    hidden: usize,
}

impl FeedForward {
    fn new(inputs: [&FlexTensor; 7], hidden: usize) -> Self {
        Self { inputs: inputs.map(Flat::new), hidden }
    }

    fn rows(&self) -> usize {
        let dims = self.inputs[0].dims();
        dims[..dims.len() - 1].iter().product()
    }

    fn weights(&self) -> feed_forward::Weights<'_> {
        let [x, gain, bias, fc1, fc1_bias, fc2, fc2_bias] = &self.inputs;
        let embed = x.dims().last().copied().unwrap_or(0);
        feed_forward::Weights {
            gain: &gain.values()[..embed],
            bias: &bias.values()[..embed],
            fc1: fc1.linear(fc1_bias, embed, self.hidden),
            fc2: fc2.linear(fc2_bias, self.hidden, embed),
        }
    }

    fn forward(&self) -> (FlexTensor, feed_forward::Kept) {
        let x = &self.inputs[0];
        let (out, kept) = feed_forward::forward(x.values(), &self.weights(), self.rows(), NORM_EPSILON);
        (tensor(out, x.dims()), kept)
    }

    fn backward(&self, gradient: &FlexTensor, kept: &feed_forward::Kept) -> [FlexTensor; 7] {
        let gradient = Flat::new(gradient);
        let of = feed_forward::backward(gradient.values(), kept, &self.weights(), self.rows());
        let [x, gain, bias, fc1, fc1_bias, fc2, fc2_bias] = &self.inputs;
        [
            tensor(of.x, x.dims()),
            widened(of.gain, gain),
            widened(of.bias, bias),
            tensor(of.fc1.weight, fc1.dims()),
            tensor(of.fc1.bias, fc1_bias.dims()),
            tensor(of.fc2.weight, fc2.dims()),
            tensor(of.fc2.bias, fc2_bias.dims()),
        ]
    }
}

impl BlockOps for Flex {
    fn attention_branch(
        x: FlexTensor,
        gain: FlexTensor,
        bias: FlexTensor,
        q: FlexTensor,
        q_bias: FlexTensor,
        k: FlexTensor,
        k_bias: FlexTensor,
        v: FlexTensor,
        v_bias: FlexTensor,
        proj: FlexTensor,
        proj_bias: FlexTensor,
        heads: usize,
        head_dim: usize,
    ) -> FlexTensor {
        let inputs = [&x, &gain, &bias, &q, &q_bias, &k, &k_bias, &v, &v_bias, &proj, &proj_bias];
        Attention::new(inputs, heads, head_dim).forward().0
    }

    fn feed_forward_branch(
        x: FlexTensor,
        gain: FlexTensor,
        bias: FlexTensor,
        fc1: FlexTensor,
        fc1_bias: FlexTensor,
        fc2: FlexTensor,
        fc2_bias: FlexTensor,
        hidden: usize,
    ) -> FlexTensor {
        let inputs = [&x, &gain, &bias, &fc1, &fc1_bias, &fc2, &fc2_bias];
        FeedForward::new(inputs, hidden).forward().0
    }
}

/// The gradient step of a branch with `N` inputs.
#[derive(Debug)]
struct Step;

/// What a gradient step holds: the inputs and what the forward pass kept.
struct State<Branch, Kept> {
    branch: Branch,
    kept: Kept,
}

impl<Branch, Kept> std::fmt::Debug for State<Branch, Kept> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

type AttentionState = Arc<State<Attention, attention::Kept>>;
type FeedForwardState = Arc<State<FeedForward, feed_forward::Kept>>;

impl Backward<Flex, 11> for Step {
    type State = AttentionState;

    fn backward(self, ops: Ops<Self::State, 11>, store: &mut GradientStore, _: &mut Checkpointer) {
        let gradient = store.consume::<Flex>(&ops.node);
        let gradients = ops.state.branch.backward(&gradient, &ops.state.kept);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                store.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

impl Backward<Flex, 7> for Step {
    type State = FeedForwardState;

    fn backward(self, ops: Ops<Self::State, 7>, store: &mut GradientStore, _: &mut Checkpointer) {
        let gradient = store.consume::<Flex>(&ops.node);
        let gradients = ops.state.branch.backward(&gradient, &ops.state.kept);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                store.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

impl<C: CheckpointStrategy> BlockOps for Autodiff<Flex, C> {
    fn attention_branch(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        q: FloatTensor<Self>,
        q_bias: FloatTensor<Self>,
        k: FloatTensor<Self>,
        k_bias: FloatTensor<Self>,
        v: FloatTensor<Self>,
        v_bias: FloatTensor<Self>,
        proj: FloatTensor<Self>,
        proj_bias: FloatTensor<Self>,
        heads: usize,
        head_dim: usize,
    ) -> FloatTensor<Self> {
        let inputs = [x, gain, bias, q, q_bias, k, k_bias, v, v_bias, proj, proj_bias];
        let branch = Attention::new(inputs.each_ref().map(|input| input.primitive()), heads, head_dim);
        let (out, kept) = branch.forward();
        match Backward::<Flex, 11>::prepare::<C>(Step, inputs.each_ref().map(|input| input.node()))
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(Arc::new(State { branch, kept }), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn feed_forward_branch(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        fc1: FloatTensor<Self>,
        fc1_bias: FloatTensor<Self>,
        fc2: FloatTensor<Self>,
        fc2_bias: FloatTensor<Self>,
        hidden: usize,
    ) -> FloatTensor<Self> {
        let inputs = [x, gain, bias, fc1, fc1_bias, fc2, fc2_bias];
        let branch = FeedForward::new(inputs.each_ref().map(|input| input.primitive()), hidden);
        let (out, kept) = branch.forward();
        match Backward::<Flex, 7>::prepare::<C>(Step, inputs.each_ref().map(|input| input.node()))
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(Arc::new(State { branch, kept }), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
