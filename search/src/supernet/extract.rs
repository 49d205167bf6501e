//! From a slice of the supernet to stand-alone weights, and from weights to a network that runs.

use burn::tensor::{Device, Tensor};
use masktas_export::{Arch, VitArch, Weights};
use masktas_runtime::Tensor as HostTensor;

use super::block::{Block, Linear, Norm};
use super::encoder::{Encoder, Visible};
use super::params::{Layout, Leaves, Params, Region, Slot, to_host};
use crate::error::{Error, Result};

/// A stand-alone vision transformer in the training framework: the reference every engine is compared to.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its weights.
    pub params: Params,
    /// Its encoder.
    pub encoder: Encoder,
    /// Its linear classifier on the pooled features, if it has one, and the number of classes.
    pub head: Option<(Linear, usize)>,
}

impl Network {
    /// A network with fresh weights, for training from scratch.
    pub fn new(arch: &VitArch, classes: Option<usize>, seed: u64, device: &Device) -> Self {
        let mut layout = Layout::default();
        let encoder = Encoder::declare(&mut layout, arch);
        let head = classes.map(|n| (Linear::declare(&mut layout, "head", [arch.embed, n]), n));
        Self { params: Params::new(layout, seed, device), encoder, head }
    }

    /// A network with these weights; a classifier the weights lack starts fresh from `seed`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn from_weights(
        arch: &VitArch,
        classes: Option<usize>,
        weights: &Weights,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut network = Self::new(arch, classes, seed, device);
        let has_head = weights.tensors.contains_key("head.weight");
        weights.check(&Arch::Vit(arch.clone()), classes.filter(|_| has_head))?;
        for (name, slots) in entries(&network.encoder, network.head.filter(|_| has_head).map(|h| h.0)) {
            let tensor = find(weights, &name)?;
            import(&mut network.params, &slots, tensor)?;
        }
        Ok(network)
    }

    /// The weights, in timm/MAE naming and PyTorch layout.
    ///
    /// # Errors
    /// When the device lost them.
    pub fn weights(&self) -> Result<Weights> {
        let regions = self.encoder.regions(self.encoder.arch());
        export(&self.params, &self.encoder, &regions, self.head.map(|head| head.0))
    }

    /// Pooled features of unmasked images: `[batch, embed]`.
    pub fn features(&self, leaves: &Leaves, visible: &Visible) -> Tensor<2> {
        Encoder::pool(self.encoder.encode(leaves, self.encoder.arch(), visible))
    }

    /// Class scores of unmasked images, `[batch, classes]`; the features when there is no classifier.
    pub fn logits(&self, leaves: &Leaves, visible: &Visible) -> Tensor<2> {
        self.logits_dropping(leaves, visible, None)
    }

    /// As [`Network::logits`], with stochastic depth (see [`Encoder::encode_with`]).
    pub fn logits_dropping(
        &self,
        leaves: &Leaves,
        visible: &Visible,
        paths: Option<&[[Tensor<3>; 2]]>,
    ) -> Tensor<2> {
        let arch = self.encoder.arch();
        let features = Encoder::pool(self.encoder.encode_with(leaves, arch, visible, &[], paths).0);
        match self.head {
            Some((head, classes)) => {
                head.apply(leaves, features.unsqueeze_dim::<3>(1), classes).squeeze_dim::<2>(1)
            }
            None => features,
        }
    }
}

/// The stand-alone weights of the subnet `arch`.
///
/// # Errors
/// When the device lost them.
pub fn extract(params: &Params, encoder: &Encoder, arch: &VitArch) -> Result<Weights> {
    export(params, encoder, &encoder.regions(arch), None)
}

/// How a named tensor is laid out over slots.
enum Slots {
    /// A matrix `[in, out]`, transposed to `[out, in]`.
    Matrix(Slot),
    /// Rows as they are, under these leading axes of extent 1.
    Rows(Slot, usize),
    /// One row, as a vector.
    Vector(Slot),
    /// q, k and v, each transposed, stacked.
    Stack([Slot; 3]),
    /// q, k and v biases, joined.
    Join([Slot; 3]),
    /// The patch filters `[3 * p * p, embed]` as `[embed, 3, p, p]`.
    Filters(Slot, usize),
}

impl Slots {
    fn first(&self) -> Slot {
        match self {
            Slots::Matrix(slot) | Slots::Rows(slot, _) | Slots::Vector(slot) | Slots::Filters(slot, _) => {
                *slot
            }
            Slots::Stack([slot, ..]) | Slots::Join([slot, ..]) => *slot,
        }
    }
}

/// Names of the encoder's tensors, in the order of the network, with where they come from.
fn entries(encoder: &Encoder, head: Option<Linear>) -> Vec<(String, Slots)> {
    let mut list = Vec::new();
    let linear = |list: &mut Vec<(String, Slots)>, name: &str, linear: Linear| {
        list.push((format!("{name}.weight"), Slots::Matrix(linear.weight)));
        list.push((format!("{name}.bias"), Slots::Vector(linear.bias)));
    };
    let norm = |list: &mut Vec<(String, Slots)>, name: &str, norm: Norm| {
        list.push((format!("{name}.weight"), Slots::Vector(norm.gain)));
        list.push((format!("{name}.bias"), Slots::Vector(norm.bias)));
    };
    let patch = encoder.arch().patch;
    list.push(("cls_token".into(), Slots::Rows(encoder.class_token, 1)));
    list.push(("pos_embed".into(), Slots::Rows(encoder.positions, 1)));
    list.push(("patch_embed.proj.weight".into(), Slots::Filters(encoder.patch.weight, patch)));
    list.push(("patch_embed.proj.bias".into(), Slots::Vector(encoder.patch.bias)));
    for (i, block) in encoder.blocks.iter().enumerate() {
        let Block { norm1, q, k, v, proj, norm2, fc1, fc2, relative } = block;
        let name = |part: &str| format!("blocks.{i}.{part}");
        norm(&mut list, &name("norm1"), *norm1);
        list.push((name("attn.qkv.weight"), Slots::Stack([q.weight, k.weight, v.weight])));
        list.push((name("attn.qkv.bias"), Slots::Join([q.bias, k.bias, v.bias])));
        linear(&mut list, &name("attn.proj"), *proj);
        if let Some(tables) = relative {
            for (part, slot) in [
                ("k.embeddings_table_v", tables.k_vertical),
                ("k.embeddings_table_h", tables.k_horizontal),
                ("v.embeddings_table_v", tables.v_vertical),
                ("v.embeddings_table_h", tables.v_horizontal),
            ] {
                list.push((name(&format!("attn.rel_pos_embed_{part}")), Slots::Rows(slot, 0)));
            }
        }
        norm(&mut list, &name("norm2"), *norm2);
        linear(&mut list, &name("mlp.fc1"), *fc1);
        linear(&mut list, &name("mlp.fc2"), *fc2);
    }
    norm(&mut list, "norm", encoder.norm);
    if let Some(head) = head {
        linear(&mut list, "head", head);
    }
    list
}

fn export(
    params: &Params,
    encoder: &Encoder,
    regions: &[(Slot, Region)],
    head: Option<Linear>,
) -> Result<Weights> {
    let mut used: std::collections::BTreeMap<Slot, Region> = regions.iter().copied().collect();
    if let Some(head) = head {
        used.extend([head.weight, head.bias].map(|slot| (slot, params.shape(slot))));
    }
    let mut weights = Weights::default();
    for (name, slots) in entries(encoder, head) {
        let Some(&[rows, columns]) = used.get(&slots.first()) else { continue };
        let values = |slot: Slot| -> Result<Vec<f32>> {
            to_host(&params.value(slot).clone().slice([0..rows, 0..columns]))
        };
        let tensor = match slots {
            Slots::Matrix(slot) => {
                HostTensor::f32([columns, rows], transposed(&values(slot)?, rows, columns))
            }
            Slots::Vector(slot) => HostTensor::f32([columns], values(slot)?),
            Slots::Rows(slot, ones) => {
                let shape: Vec<usize> = std::iter::repeat_n(1, ones).chain([rows, columns]).collect();
                HostTensor::f32(shape, values(slot)?)
            }
            Slots::Filters(slot, patch) => {
                HostTensor::f32([columns, 3, patch, patch], transposed(&values(slot)?, rows, columns))
            }
            Slots::Stack(parts) => {
                let mut stacked = Vec::with_capacity(3 * rows * columns);
                for slot in parts {
                    stacked.extend(transposed(&values(slot)?, rows, columns));
                }
                HostTensor::f32([3 * columns, rows], stacked)
            }
            Slots::Join(parts) => {
                let mut joined = Vec::with_capacity(3 * columns);
                for slot in parts {
                    joined.extend(values(slot)?);
                }
                HostTensor::f32([3 * columns], joined)
            }
        };
        weights.tensors.insert(name, tensor.map_err(masktas_export::Error::from)?);
    }
    Ok(weights)
}

/// Rows `[rows, columns]` to `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

fn find<'a>(weights: &'a Weights, name: &str) -> Result<&'a [f32]> {
    let tensor = weights.tensors.get(name);
    let values = tensor.and_then(HostTensor::as_f32);
    values.ok_or_else(|| Error::Checkpoint(format!("the weights have no float tensor {name}")))
}

fn import(params: &mut Params, slots: &Slots, values: &[f32]) -> Result<()> {
    let shape = params.shape(slots.first());
    let [rows, columns] = shape;
    let device = params.device().clone();
    let mut set = |slot, values| params.set(slot, super::params::matrix(values, shape, &device));
    match slots {
        Slots::Matrix(slot) | Slots::Filters(slot, _) => set(*slot, transposed(values, columns, rows)),
        Slots::Vector(slot) | Slots::Rows(slot, _) => set(*slot, values.to_vec()),
        Slots::Stack(parts) => {
            for (slot, values) in parts.iter().zip(values.chunks_exact(rows * columns)) {
                set(*slot, transposed(values, columns, rows));
            }
        }
        Slots::Join(parts) => {
            for (slot, values) in parts.iter().zip(values.chunks_exact(columns)) {
                set(*slot, values.to_vec());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use masktas_export::VitBlock;

    use super::*;
    use crate::rand::{Draw, stream};
    use crate::supernet::{DecoderShape, Mask, MaskedBatch, Supernet};

    fn arch(embed: usize, heads: &[usize], hidden: usize, relative: Option<usize>) -> VitArch {
        let blocks = heads.iter().map(|heads| VitBlock { heads: *heads, hidden }).collect();
        VitArch { image: 16, patch: 4, embed, head_dim: 8, blocks, relative }
    }

    fn pixels(images: usize) -> Vec<f32> {
        let mut rng = stream(3, "pixels", 0);
        (0..images * 3 * 16 * 16).map(|_| rng.normal() as f32).collect()
    }

    /// Fresh biases and norms are constants; make every weight count.
    fn shaken(mut supernet: Supernet) -> Supernet {
        let mut rng = stream(5, "shake", 0);
        for slot in supernet.params.slots() {
            let shape = supernet.params.shape(slot);
            let noise = (0..shape[0] * shape[1]).map(|_| 0.1 * rng.normal() as f32).collect();
            let noise = crate::supernet::params::matrix(noise, shape, supernet.params.device());
            let value = supernet.params.value(slot).clone() + noise;
            supernet.params.set(slot, value);
        }
        supernet
    }

    #[test]
    fn a_slice_of_the_supernet_is_the_extracted_network_bit_for_bit() {
        for relative in [None, Some(3)] {
            let device = Device::flex();
            let decoder = DecoderShape { width: 16, depth: 1, heads: 2 };
            let largest = arch(40, &[4, 4, 4], 96, relative);
            let supernet = shaken(Supernet::new(&largest, decoder, &[], 0, 7, &device));
            let subnets =
                [largest.clone(), arch(24, &[2, 3], 32, relative), arch(40, &[1, 4, 2], 56, relative)];
            for sub in subnets {
                let weights = extract(&supernet.params, &supernet.encoder, &sub).unwrap();
                let network = Network::from_weights(&sub, None, &weights, 0, &device).unwrap();
                let pixels = pixels(3);
                let mask = |i| Mask::draw(&mut stream(1, "mask", i), 16, 0.5);
                let masked = MaskedBatch::new(&pixels, &[mask(0), mask(1), mask(2)], &sub, &device).visible;
                for visible in [Visible::all(&pixels, &sub, &device), masked] {
                    let inside = supernet.encoder.encode(&supernet.params.frozen(), &sub, &visible);
                    let outside = network.encoder.encode(&network.params.frozen(), &sub, &visible);
                    let bits = |t: &Tensor<3>| -> Vec<u32> {
                        to_host(t).unwrap().iter().map(|x| x.to_bits()).collect()
                    };
                    assert_eq!(bits(&inside), bits(&outside), "{sub:?}");
                }
            }
        }
    }

    #[test]
    fn weights_survive_the_way_out_and_back() {
        let device = Device::flex();
        let network = Network::new(&arch(24, &[2, 3], 32, Some(3)), Some(5), 11, &device);
        let weights = network.weights().unwrap();
        let again = Network::from_weights(network.encoder.arch(), Some(5), &weights, 0, &device).unwrap();
        assert_eq!(weights, again.weights().unwrap());
        let parameters: usize = weights.tensors.values().map(HostTensor::elements).sum();
        assert_eq!(parameters as u64, network.encoder.arch().parameters(Some(5)));
    }
}
