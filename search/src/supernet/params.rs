//! Where the weights of a network live while it is trained.
//!
//! Every parameter is a matrix (a bias is one row), so slicing, optimising and saving are each
//! written once.

use std::sync::Arc;

use burn::tensor::{Device, FloatDType, Tensor, TensorData, module};

use crate::device;
use crate::error::{Error, Result};
use crate::ops::{Host, Precision, Sums};
use crate::rand::{Draw, stream};

/// Index of a parameter in a [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub(crate) usize);

/// Leading rows and columns of a parameter: what one subnet uses of it.
pub type Region = [usize; 2];

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zero.
    Zero,
    /// All one.
    One,
    /// Normal with this standard deviation, cut at two of them.
    Normal(f64),
    /// Uniform in ±sqrt(6 / (rows + columns)), as MAE starts its linear layers.
    Xavier,
}

/// Declares parameters before they are made.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    shape: Region,
    init: Init,
    decay: bool,
}

impl Layout {
    /// Declares a matrix that weight decay applies to.
    pub fn weight(&mut self, name: impl Into<String>, shape: Region, init: Init) -> Slot {
        self.push(name.into(), shape, init, true)
    }

    /// Declares a bias, a norm or a token: no weight decay, as in MAE.
    pub fn vector(&mut self, name: impl Into<String>, shape: Region, init: Init) -> Slot {
        self.push(name.into(), shape, init, false)
    }

    fn push(&mut self, name: String, shape: Region, init: Init, decay: bool) -> Slot {
        self.entries.push(Entry { name, shape, init, decay });
        Slot(self.entries.len() - 1)
    }
}

/// Named matrices on one device.
#[derive(Clone, Debug)]
pub struct Params {
    layout: Layout,
    values: Vec<Tensor<2>>,
    device: Device,
}

impl Params {
    /// Makes the declared parameters. Each has its own random stream, so that adding one changes
    /// no other.
    pub fn new(layout: Layout, seed: u64, device: &Device) -> Self {
        let make = |entry: &Entry| {
            let [rows, columns] = entry.shape;
            let mut rng = stream(seed, &entry.name, 0);
            let values: Vec<f32> = (0..rows * columns)
                .map(|_| match entry.init {
                    Init::Zero => 0.0,
                    Init::One => 1.0,
                    Init::Normal(deviation) => (rng.normal().clamp(-2.0, 2.0) * deviation) as f32,
                    Init::Xavier => {
                        let bound = (6.0 / (rows + columns) as f64).sqrt();
                        ((2.0 * rng.unit() - 1.0) * bound) as f32
                    }
                })
                .collect();
            matrix(values, entry.shape, device)
        };
        let values = layout.entries.iter().map(make).collect();
        Self { layout, values, device: device.clone() }
    }

    /// The device they live on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number of parameters (matrices).
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Name of a parameter.
    pub fn name(&self, slot: Slot) -> &str {
        &self.layout.entries[slot.0].name
    }

    /// Full shape of a parameter.
    pub fn shape(&self, slot: Slot) -> Region {
        self.layout.entries[slot.0].shape
    }

    /// Whether weight decay applies.
    pub fn decays(&self, slot: Slot) -> bool {
        self.layout.entries[slot.0].decay
    }

    /// All slots, in order of declaration.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.values.len()).map(Slot)
    }

    /// The value of a parameter, without gradient.
    pub fn value(&self, slot: Slot) -> &Tensor<2> {
        &self.values[slot.0]
    }

    /// Replaces a value.
    pub fn set(&mut self, slot: Slot, value: Tensor<2>) {
        self.values[slot.0] = value;
    }

    /// Takes a value out, to be [set](Self::set) again: a value that nobody else holds is changed where it lies.
    pub(crate) fn take(&mut self, slot: Slot) -> Tensor<2> {
        let nothing = Tensor::zeros([1, 1], &self.device);
        std::mem::replace(&mut self.values[slot.0], nothing)
    }

    /// All values, without gradient: what a forward pass reads when nothing is learnt.
    pub fn frozen(&self) -> Leaves {
        self.frozen_in(Precision::F32)
    }

    /// As [`Params::frozen`], with products in `precision`.
    pub(crate) fn frozen_in(&self, precision: Precision) -> Leaves {
        let serves = crate::ops::serves(&self.device);
        let host = serves.then(|| Host::new(&self.values, None, precision)).flatten().map(Arc::new);
        let anchor = Tensor::zeros([1], &self.device);
        let half = precision.half().filter(|_| host.is_none());
        Leaves { tensors: self.values.clone(), host, anchor, half }
    }

    /// All values as fresh leaves that collect gradients: in `sums` when the operations of [`crate::ops`] read
    /// them, in burn's graph when others do.
    pub(crate) fn leaves(&self, sums: Option<&Sums>, precision: Precision) -> Leaves {
        let host = sums.and_then(|sums| Host::new(&self.values, Some(sums.clone()), precision)).map(Arc::new);
        let tensors = self.values.iter().map(|value| value.clone().autodiff().require_grad()).collect();
        let anchor = Tensor::zeros([1], &self.device).autodiff().require_grad();
        // What is composed on the CPU stays in f32: burn has no products in bf16 there but by way of f32.
        let half = precision.half().filter(|_| host.is_none());
        Leaves { tensors, host, anchor, half }
    }

    /// Buffers for the gradients of values on the CPU; `None` when they are elsewhere.
    pub(crate) fn sums(&self) -> Option<Sums> {
        let sizes = self.layout.entries.iter().map(|entry| entry.shape[0] * entry.shape[1]);
        crate::ops::serves(&self.device).then(|| Sums::new(sizes))
    }

    /// Every value by name, on the host, row-major.
    pub fn to_host(&self) -> Result<Vec<(String, Region, Vec<f32>)>> {
        self.slots()
            .map(|slot| Ok((self.name(slot).to_string(), self.shape(slot), to_host(self.value(slot))?)))
            .collect()
    }

    /// Overwrites values from a checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a parameter is missing or has another number of elements.
    pub fn load_host(&mut self, mut find: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        for slot in self.slots() {
            let (name, shape) = (self.name(slot).to_string(), self.shape(slot));
            let values =
                find(&name).ok_or_else(|| Error::Checkpoint(format!("parameter {name} is missing")))?;
            if values.len() != shape[0] * shape[1] {
                return Err(Error::Checkpoint(format!(
                    "parameter {name} has {} elements, the network's has {}",
                    values.len(),
                    shape[0] * shape[1]
                )));
            }
            let value = matrix(values, shape, &self.device);
            self.set(slot, value);
        }
        Ok(())
    }
}

/// The values one forward pass reads, by [`Slot`].
#[derive(Clone, Debug)]
pub struct Leaves {
    tensors: Vec<Tensor<2>>,
    host: Option<Arc<Host>>,
    anchor: Tensor<1>,
    /// What products read, where they are burn's.
    half: Option<FloatDType>,
}

impl Leaves {
    /// The leaf itself.
    pub fn get(&self, slot: Slot) -> &Tensor<2> {
        &self.tensors[slot.0]
    }

    /// The same values for the operations of [`crate::ops`]; `None` when those do not serve.
    pub(crate) fn host(&self) -> Option<&Arc<Host>> {
        self.host.as_ref()
    }

    /// Where a gradient graph begins whose weights are no tensors of it.
    pub(crate) fn anchor(&self) -> Tensor<1> {
        self.anchor.clone()
    }

    /// The product of the last two axes, its inputs rounded as training's precision says; the answer is in f32.
    pub(crate) fn product<const D: usize>(&self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        match self.half {
            Some(half) => a.cast(half).matmul(b.cast(half)).cast(FloatDType::F32),
            None => a.matmul(b),
        }
    }

    /// `x · weight + bias` over the last axis, as [`Leaves::product`] rounds.
    pub(crate) fn linear(&self, x: Tensor<3>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<3> {
        match self.half {
            // The bias is added in f32, and so is its gradient, a sum over all tokens.
            Some(half) => {
                let product = module::linear(x.cast(half), weight.cast(half), None).cast(FloatDType::F32);
                product + bias.unsqueeze::<3>()
            }
            None => module::linear(x, weight, Some(bias)),
        }
    }

    /// The leading rows and columns of a parameter.
    pub fn matrix(&self, slot: Slot, region: Region) -> Tensor<2> {
        let full = &self.tensors[slot.0];
        if full.dims() == region { full.clone() } else { full.clone().slice([0..region[0], 0..region[1]]) }
    }

    /// The leading elements of a one-row parameter.
    pub fn vector(&self, slot: Slot, length: usize) -> Tensor<1> {
        self.matrix(slot, [1, length]).reshape([length])
    }
}

/// A matrix on `device`.
pub(crate) fn matrix(values: Vec<f32>, shape: Region, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Elements of a tensor on the host, row-major.
///
/// # Errors
/// [`Error::Backend`] when the device lost them.
pub(crate) fn to_host<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f32>> {
    if !device::is_cpu(&tensor.device()) {
        device::count_reading();
    }
    tensor.try_to_vec_as::<f32>().map_err(|error| Error::Backend(format!("{error:?}")))
}
