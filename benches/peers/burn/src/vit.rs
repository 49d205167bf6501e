//! The forward pass of an exported vision transformer in burn, with the file's own weights.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor, TensorData, activation, module};
use masktas_runtime::{Dim, Graph};

/// What export adds to the variance (`masktas_export::arch::NORM_EPSILON`).
const EPSILON: f64 = 1e-6;

/// How attention is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// As a product, softmax and a product.
    Composed,
    /// As burn's one operation for it, for which it has kernels of its own.
    Fused,
}

struct Linear {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Linear {
    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        module::linear(x, self.weight.clone(), Some(self.bias.clone()))
    }
}

struct Norm {
    gain: Tensor<1>,
    shift: Tensor<1>,
}

impl Norm {
    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        module::layer_norm(x, self.gain.clone(), Some(self.shift.clone()), EPSILON)
    }
}

struct Block {
    norm1: Norm,
    /// Query, key and value side by side: one product.
    qkv: Linear,
    out: Linear,
    norm2: Norm,
    up: Linear,
    down: Linear,
}

pub struct Vit {
    side: usize,
    patch: usize,
    head: usize,
    /// A stride as large as the kernel makes the convolution a product.
    patches: Linear,
    class: Tensor<3>,
    positions: Tensor<3>,
    blocks: Vec<Block>,
    norm: Norm,
    device: Device,
}

/// The constants of a graph as tensors on a device.
struct Constants<'a> {
    graph: &'a Graph,
    device: &'a Device,
}

impl Constants<'_> {
    fn tensor<const D: usize>(&self, name: &str) -> Result<Tensor<D>, String> {
        let constant =
            self.graph.constants.get(name).ok_or_else(|| format!("the file has no constant `{name}`"))?;
        let values = constant.as_f32().ok_or_else(|| format!("`{name}` is not of 32-bit floats"))?;
        if constant.shape().len() != D {
            return Err(format!("`{name}` has {} axes, not {D}", constant.shape().len()));
        }
        Ok(Tensor::from_data(TensorData::new(values.to_vec(), constant.shape().to_vec()), self.device))
    }

    fn linear(&self, name: &str) -> Result<Linear, String> {
        Ok(Linear {
            weight: self.tensor(&format!("{name}.weight"))?,
            bias: self.tensor(&format!("{name}.bias"))?,
        })
    }

    fn norm(&self, name: &str) -> Result<Norm, String> {
        Ok(Norm {
            gain: self.tensor(&format!("{name}.weight"))?,
            shift: self.tensor(&format!("{name}.bias"))?,
        })
    }

    fn block(&self, name: &str) -> Result<Block, String> {
        let part = |letter: &str| self.linear(&format!("{name}.attn.{letter}"));
        let (q, k, v) = (part("q")?, part("k")?, part("v")?);
        Ok(Block {
            norm1: self.norm(&format!("{name}.norm1"))?,
            qkv: Linear {
                weight: Tensor::cat(vec![q.weight, k.weight, v.weight], 1),
                bias: Tensor::cat(vec![q.bias, k.bias, v.bias], 0),
            },
            out: self.linear(&format!("{name}.attn.proj"))?,
            norm2: self.norm(&format!("{name}.norm2"))?,
            up: self.linear(&format!("{name}.mlp.fc1"))?,
            down: self.linear(&format!("{name}.mlp.fc2"))?,
        })
    }
}

impl Vit {
    /// Takes the weights of a file that `write_vit` wrote.
    pub fn read(graph: &Graph, device: &Device) -> Result<Self, String> {
        let constants = Constants { graph, device };
        let side = match graph.inputs.first().map(|input| input.shape.as_slice()) {
            Some([Dim::Fixed(1), Dim::Fixed(3), Dim::Fixed(side), Dim::Fixed(_)]) => *side,
            _ => return Err("the input is not one RGB image".into()),
        };
        let scale = graph.constants.get("attn.scale").and_then(|t| t.as_f32()?.first().copied());
        let scale = scale.ok_or("the file has no constant `attn.scale`")?;
        let kernel: Tensor<4> = constants.tensor("patch_embed.proj.weight")?;
        let [width, channels, patch, _] = kernel.dims();
        let count = graph.nodes.iter().filter(|node| node.op == "Softmax").count();
        Ok(Self {
            side,
            patch,
            head: scale.powi(-2).round() as usize,
            patches: Linear {
                weight: kernel.reshape([width, channels * patch * patch]).transpose(),
                bias: constants.tensor("patch_embed.proj.bias")?,
            },
            class: constants.tensor("cls_token")?,
            positions: constants.tensor("pos_embed")?,
            blocks: (0..count).map(|i| constants.block(&format!("blocks.{i}"))).collect::<Result<_, _>>()?,
            norm: constants.norm("norm")?,
            device: device.clone(),
        })
    }

    /// From an image in the memory of the processor to features there.
    pub fn run(&self, pixels: &[f32], attention: Attention) -> Result<Vec<f32>, String> {
        let (grid, patch) = (self.side / self.patch, self.patch);
        let image: Tensor<4> =
            Tensor::from_data(TensorData::new(pixels.to_vec(), [1, 3, self.side, self.side]), &self.device);
        let parts: Tensor<3> = image
            .reshape([3, grid, patch, grid, patch])
            .permute([1, 3, 0, 2, 4])
            .reshape([1, grid * grid, 3 * patch * patch]);
        let tokens = Tensor::cat(vec![self.class.clone(), self.patches.apply(parts)], 1);
        let mut x = tokens + self.positions.clone();
        for block in &self.blocks {
            x = x.clone() + self.mix(block, block.norm1.apply(x), attention);
            let hidden = activation::gelu(block.up.apply(block.norm2.apply(x.clone())));
            x = x + block.down.apply(hidden);
        }
        let patches = self.norm.apply(x).narrow(1, 1, grid * grid);
        let features: Tensor<3> = patches.mean_dim(1);
        features.into_data().try_into_vec::<f32>().map_err(|error| format!("{error:?}"))
    }

    fn mix(&self, block: &Block, x: Tensor<3>, attention: Attention) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let joined = block.qkv.apply(x);
        let [_, _, width] = joined.dims();
        let (heads, head) = (width / 3 / self.head, self.head);
        let parts: Tensor<5> = joined.reshape([batch, tokens, 3, heads, head]).permute([2, 0, 3, 1, 4]);
        let part = |index: usize| parts.clone().narrow(0, index, 1).squeeze_dim::<4>(0);
        let (q, k, v) = (part(0), part(1), part(2));
        let mixed = match attention {
            Attention::Composed => {
                let scores = q.mul_scalar((head as f32).powf(-0.5)).matmul(k.transpose());
                activation::softmax(scores, 3).matmul(v)
            }
            Attention::Fused => module::attention(q, k, v, None, None, AttentionModuleOptions::default()),
        };
        block.out.apply(mixed.swap_dims(1, 2).reshape([batch, tokens, heads * head]))
    }
}
