//! Weights on the host, as operations read them, and where their gradients add up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::Tensor;

use super::linear::{self, Linear};
use super::norm::{self, Norm};
use super::precision::Precision;
use crate::supernet::Slot;
use crate::supernet::block;

/// Sums of gradients, a buffer of full size for each weight. One lane adds to them, subnet after subnet.
#[derive(Clone, Debug)]
pub(crate) struct Sums(Arc<Mutex<Vec<Vec<f32>>>>);

impl Sums {
    /// Zeros for weights of these sizes.
    pub(crate) fn new(sizes: impl Iterator<Item = usize>) -> Self {
        Self(Arc::new(Mutex::new(sizes.map(|size| vec![0.0; size]).collect())))
    }

    /// All buffers, by slot.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        // A worker that died has ended the training; its numbers are not used.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Values of all weights, and what is needed to learn them.
#[derive(Debug)]
pub(crate) struct Host {
    values: Vec<FlexTensor>,
    sums: Option<Sums>,
    precision: Precision,
}

impl Host {
    /// `None` when the weights are elsewhere. With `sums`, gradients are added there.
    pub(crate) fn new(tensors: &[Tensor<2>], sums: Option<Sums>, precision: Precision) -> Option<Self> {
        let values = tensors.iter().map(flex).collect::<Option<Vec<_>>>()?;
        values.iter().all(|value| value.as_slice::<f32>().is_some()).then_some(Self {
            values,
            sums,
            precision,
        })
    }

    /// Elements of a weight, row-major.
    pub(crate) fn values(&self, slot: Slot) -> &[f32] {
        // They are floats side by side: `new` has looked.
        self.values[slot.0].as_slice::<f32>().unwrap_or(&[])
    }

    /// Columns of a weight.
    pub(crate) fn stride(&self, slot: Slot) -> usize {
        self.values[slot.0].layout().shape().as_slice()[1]
    }

    /// The leading part of a linear layer.
    pub(crate) fn linear(&self, layer: block::Linear, input: usize, output: usize) -> Linear<'_> {
        Linear {
            weight: self.values(layer.weight),
            bias: self.values(layer.bias),
            input,
            output,
            stride: self.stride(layer.weight),
            precision: self.precision,
        }
    }

    /// The leading part of a norm.
    pub(crate) fn norm(&self, norm: block::Norm, width: usize) -> Norm<'_> {
        Norm { gain: &self.values(norm.gain)[..width], bias: &self.values(norm.bias)[..width] }
    }

    /// Calls `work` with the sums of the gradients of `slots`, which are different ones. Where nothing is learnt, what
    /// is added is forgotten.
    pub(crate) fn learn<const N: usize>(
        &self,
        slots: [Slot; N],
        work: impl FnOnce([&mut Vec<f32>; N]) -> Vec<f32>,
    ) -> Vec<f32> {
        let Some(sums) = &self.sums else {
            let mut forgotten = slots.map(|slot| vec![0.0; self.values(slot).len()]);
            return work(forgotten.each_mut());
        };
        let mut all = sums.lock();
        match all.get_disjoint_mut(slots.map(|slot| slot.0)) {
            Ok(sums) => work(sums),
            Err(_) => unreachable!("an operation's weights are different ones"),
        }
    }
}

/// Pairs of sums as a linear layer's gradient.
pub(crate) fn of_linear<'a>(weight: &'a mut [f32], bias: &'a mut [f32]) -> linear::Gradient<'a> {
    linear::Gradient { weight, bias }
}

/// Pairs of sums as a norm's gradient.
pub(crate) fn of_norm<'a>(gain: &'a mut [f32], bias: &'a mut [f32]) -> norm::Gradient<'a> {
    norm::Gradient { gain, bias }
}

/// The tensor on the CPU backend, its elements side by side; `None` when it is elsewhere.
pub(crate) fn flex<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    let tensor = match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => tensor,
        DispatchTensorKind::Autodiff(inner) => match *inner {
            DispatchTensorKind::Flex(BackendTensor::Autodiff(tensor)) => tensor.into_primitive(),
            DispatchTensorKind::Flex(BackendTensor::Float(tensor)) => tensor,
            _ => return None,
        },
        _ => return None,
    };
    Some(tensor.to_contiguous())
}

/// Changes a tensor of the CPU backend where it lies; it is copied first when somebody else holds it. Tensors
/// elsewhere are left alone.
pub(crate) fn change(tensor: Tensor<2>, work: impl FnOnce(&mut [f32])) -> Tensor<2> {
    let mut dispatch = tensor.into_dispatch();
    if let DispatchTensorKind::Flex(BackendTensor::Float(tensor)) = &mut dispatch.kind {
        if !tensor.is_contiguous() {
            *tensor = tensor.to_contiguous();
        }
        work(tensor.storage_mut::<f32>());
    }
    Tensor::from_dispatch(dispatch)
}
