//! How an operation here becomes a node of burn's gradient graph.
//!
//! Every operation has one tensor that gradients flow through. Its weights are no tensors of the graph: their gradients
//! are added to where the weights belong (`host.rs`), so the graph never holds one of full size.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};

/// The gradient of an operation's input, from that of its answer.
pub(crate) type Pull = Box<dyn FnOnce(Vec<f32>) -> Vec<f32> + Send>;

/// What an operation gives.
pub(crate) struct Answer {
    pub(crate) values: Vec<f32>,
    pub(crate) dims: Vec<usize>,
    /// For the gradient; made when one was asked for.
    pub(crate) pull: Option<Pull>,
}

/// Work on a tensor's elements, row-major. It is told whether a gradient will be asked for.
type Work = dyn FnOnce(&[f32], bool) -> Answer + Send;

/// An operation of our own.
pub struct Operation(Box<Work>);

/// Computes `operation` of `x` on the CPU.
pub(crate) fn apply<const D: usize, const E: usize>(
    x: Tensor<D>,
    operation: impl FnOnce(&[f32], bool) -> Answer + Send + 'static,
) -> Tensor<E> {
    Tensor::from_dispatch(<Dispatch as Own>::own(x.into_dispatch(), Operation(Box::new(operation))))
}

/// Operations of our own on the CPU backend.
#[backend_extension(Flex, Autodiff)]
pub trait Own: Backend {
    /// `operation` of `x`.
    fn own(x: FloatTensor<Self>, operation: Operation) -> FloatTensor<Self>;
}

impl Own for Flex {
    fn own(x: FlexTensor, operation: Operation) -> FlexTensor {
        run(&x, operation, false).0
    }
}

fn run(x: &FlexTensor, operation: Operation, learn: bool) -> (FlexTensor, Option<Pull>) {
    let x = x.to_contiguous();
    // A contiguous f32 tensor, as every float tensor of this crate is on this backend.
    let Answer { values, dims, pull } = operation.0(x.as_slice::<f32>().unwrap_or(&[]), learn);
    (tensor(values, dims), pull)
}

fn tensor(values: Vec<f32>, dims: Vec<usize>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, dims))
}

/// The gradient step of every operation here.
#[derive(Debug)]
struct Step;

/// What a gradient step holds.
#[derive(Clone)]
struct State {
    pull: Arc<Mutex<Option<Pull>>>,
    dims: Vec<usize>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl Backward<Flex, 1> for Step {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        // Without a copy where nobody else holds the gradient.
        let gradient = gradient.into_data().try_into_vec::<f32>().unwrap_or_default();
        let pull = ops.state.pull.lock().ok().and_then(|mut pull| pull.take());
        let ([Some(parent)], Some(pull)) = (ops.parents, pull) else { return };
        gradients.register::<Flex>(parent.id, tensor(pull(gradient), ops.state.dims));
    }
}

impl<C: CheckpointStrategy> Own for Autodiff<Flex, C> {
    fn own(x: FloatTensor<Self>, operation: Operation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let dims = x.layout().shape().as_slice().to_vec();
        match Backward::<Flex, 1>::prepare::<C>(Step, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, pull) = run(&x, operation, true);
                prep.finish(State { pull: Arc::new(Mutex::new(pull)), dims }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(run(&x, operation, false).0),
        }
    }
}
