//! Vision transformers as graphs.
//!
//! Three plain projections for q, k and v, the scale on q before the product with k, `LayerNormalization`
//! and `Gelu` as one node each: the forms that ONNX Runtime, tract and TensorRT all recognise.

use std::sync::Arc;

use masktas_runtime::{Attribute, Dim, Dtype, Graph, GraphBuilder, Tensor};

use crate::arch::{NORM_EPSILON, VitArch, VitBlock};
use crate::error::Result;
use crate::lower::{BATCH, Batch, FEATURES, Head, INPUT, LOGITS, LowerOptions, relative};
use crate::weights::Weights;

pub(super) fn lower(arch: &VitArch, weights: Option<&Weights>, options: &LowerOptions) -> Result<Graph> {
    let mut lowering =
        Lowering { arch, weights, options: *options, build: GraphBuilder::new("vit", options.opset) };
    let tokens = lowering.embed()?;
    let two_hot = lowering.relative_positions()?;
    let mut x = tokens;
    for (index, block) in arch.blocks.iter().enumerate() {
        x = lowering.block(&format!("blocks.{index}"), block, &x, two_hot.as_ref())?;
    }
    let norm = lowering.norm("norm", &x)?;
    lowering.head(&norm)?;
    Ok(lowering.build.finish()?)
}

/// The shared two-hot tensor `[T, T, 2R]` and its transpose `[T, 2R, T]`.
struct TwoHot {
    plain: String,
    turned: String,
}

struct Lowering<'a> {
    arch: &'a VitArch,
    weights: Option<&'a Weights>,
    options: LowerOptions,
    build: GraphBuilder,
}

impl Lowering<'_> {
    /// Extent of the batch in an input or output.
    fn batch_dim(&self) -> Dim {
        match self.options.batch {
            Batch::Fixed(batch) => Dim::Fixed(batch),
            Batch::Dynamic => Dim::Symbol(BATCH.to_owned()),
        }
    }

    /// Adds the shape `[batch, rest...]` as a constant, once for each name.
    fn shape(&mut self, name: &str, rest: &[usize]) -> String {
        let batch = match self.options.batch {
            Batch::Fixed(batch) => batch as i64,
            Batch::Dynamic => -1,
        };
        let extents: Vec<i64> = std::iter::once(batch).chain(rest.iter().map(|e| *e as i64)).collect();
        self.build.integers(name, &extents)
    }

    /// Adds a parameter as it is and returns its name.
    fn parameter(&mut self, name: &str, shape: &[usize]) -> Result<String> {
        let tensor = match self.weights {
            Some(weights) => weights.tensor(name, shape)?.clone(),
            None => Tensor::unset(shape, Dtype::F32),
        };
        Ok(self.build.constant(name, tensor))
    }

    /// Adds rows `from..from + rows` of the matrix `source [all, inner]`, transposed to `[inner, rows]`.
    fn turned(
        &mut self,
        name: &str,
        source: &str,
        all: usize,
        inner: usize,
        from: usize,
        rows: usize,
    ) -> Result<String> {
        let tensor = match self.weights {
            Some(weights) => {
                let values = weights.tensor(source, &[all, inner])?.as_f32().unwrap_or(&[]);
                let part = values.get(from * inner..(from + rows) * inner).unwrap_or(&[]);
                Tensor::f32(vec![inner, rows], transpose(part, rows, inner))?
            }
            None => Tensor::unset([inner, rows], Dtype::F32),
        };
        Ok(self.build.constant(name, tensor))
    }

    /// Adds elements `from..from + count` of the vector `source [all]`.
    fn part(&mut self, name: &str, source: &str, all: usize, from: usize, count: usize) -> Result<String> {
        let tensor = match self.weights {
            Some(weights) => {
                let values = weights.tensor(source, &[all])?.as_f32().unwrap_or(&[]);
                Tensor::f32(vec![count], values.get(from..from + count).unwrap_or(&[]))?
            }
            None => Tensor::unset([count], Dtype::F32),
        };
        Ok(self.build.constant(name, tensor))
    }

    /// `x [B, 3, S, S]` to tokens `[B, N + 1, d]` with class token and positions.
    fn embed(&mut self) -> Result<String> {
        let arch = self.arch;
        let (d, n, p) = (arch.embed, arch.patches(), arch.patch);
        let batch = self.batch_dim();
        let image = [Dim::Fixed(3), Dim::Fixed(arch.image), Dim::Fixed(arch.image)];
        let pixels = self.build.input(INPUT, Dtype::F32, std::iter::once(batch).chain(image));
        let weight = self.parameter("patch_embed.proj.weight", &[d, 3, p, p])?;
        let bias = self.parameter("patch_embed.proj.bias", &[d])?;
        let side = p as i64;
        let attributes = [("kernel_shape", [side, side].into()), ("strides", [side, side].into())];
        let grid = self.build.node("Conv", "patch_embed.proj", &[&pixels, &weight, &bias], attributes);
        let shape = self.shape("shape.patches", &[d, n]);
        let columns = self.build.node("Reshape", "patch_embed.columns", &[&grid, &shape], []);
        let patches = self.build.node("Transpose", "patch_embed", &[&columns], [("perm", [0, 2, 1].into())]);
        let class = self.class_token(&pixels)?;
        let joined = self.build.node("Concat", "tokens.joined", &[&class, &patches], [("axis", 1.into())]);
        let positions = self.parameter("pos_embed", &[1, n + 1, d])?;
        Ok(self.build.node("Add", "tokens", &[&joined, &positions], []))
    }

    /// The class token, once for each image: a constant where the batch is fixed.
    fn class_token(&mut self, pixels: &str) -> Result<String> {
        let d = self.arch.embed;
        let Batch::Fixed(batch) = self.options.batch else {
            let token = self.parameter("cls_token", &[1, 1, d])?;
            let (zero, one) =
                (self.build.integers("shape.zero", &[0]), self.build.integers("shape.one", &[1]));
            let tail = self.build.integers("shape.token", &[1, d as i64]);
            let shape = self.build.node("Shape", "batch.shape", &[pixels], []);
            let size = self.build.node("Slice", "batch.size", &[&shape, &zero, &one], []);
            let target =
                self.build.node("Concat", "batch.token_shape", &[&size, &tail], [("axis", 0.into())]);
            return Ok(self.build.node("Expand", "tokens.class", &[&token, &target], []));
        };
        let tensor = match self.weights {
            Some(weights) => {
                let token = weights.tensor("cls_token", &[1, 1, d])?.as_f32().unwrap_or(&[]);
                Tensor::f32(vec![batch, 1, d], token.repeat(batch))?
            }
            None => Tensor::unset([batch, 1, d], Dtype::F32),
        };
        Ok(self.build.constant("cls_token", tensor))
    }

    fn relative_positions(&mut self) -> Result<Option<TwoHot>> {
        let Some(clip) = self.arch.relative.filter(|_| !self.arch.blocks.is_empty()) else { return Ok(None) };
        let tensor = relative::two_hot(self.arch, clip, self.weights.is_some())?;
        let plain = self.build.constant("relative.two_hot", tensor);
        let perm = [("perm", [0, 2, 1].into())];
        let turned = self.build.node("Transpose", "relative.two_hot_turned", &[&plain], perm);
        Ok(Some(TwoHot { plain, turned }))
    }

    fn norm(&mut self, name: &str, x: &str) -> Result<String> {
        let d = self.arch.embed;
        let weight = self.parameter(&format!("{name}.weight"), &[d])?;
        let bias = self.parameter(&format!("{name}.bias"), &[d])?;
        let attributes = [("axis", (-1).into()), ("epsilon", Attribute::Float(NORM_EPSILON))];
        Ok(self.build.node("LayerNormalization", name, &[x, &weight, &bias], attributes))
    }

    /// `x W + b` with constants that exist.
    fn affine(&mut self, name: &str, x: &str, weight: &str, bias: &str) -> String {
        let product = self.build.node("MatMul", &format!("{name}.matmul"), &[x, weight], []);
        self.build.node("Add", name, &[&product, bias], [])
    }

    /// A linear layer whose parameters are `name.weight [rows, inner]` and `name.bias [rows]`.
    fn linear(&mut self, name: &str, x: &str, rows: usize, inner: usize) -> Result<String> {
        let source = format!("{name}.weight");
        let weight = self.turned(&source, &source, rows, inner, 0, rows)?;
        let bias = self.parameter(&format!("{name}.bias"), &[rows])?;
        Ok(self.affine(name, x, &weight, &bias))
    }

    fn block(&mut self, name: &str, block: &VitBlock, x: &str, two_hot: Option<&TwoHot>) -> Result<String> {
        let (d, m) = (self.arch.embed, block.hidden);
        let norm = self.norm(&format!("{name}.norm1"), x)?;
        let mixed = self.attention(&format!("{name}.attn"), block, &norm, two_hot)?;
        let x = self.build.node("Add", &format!("{name}.attn.residual"), &[x, &mixed], []);
        let norm = self.norm(&format!("{name}.norm2"), &x)?;
        let hidden = self.linear(&format!("{name}.mlp.fc1"), &norm, m, d)?;
        let active = self.gelu(&format!("{name}.mlp.gelu"), &hidden)?;
        let out = self.linear(&format!("{name}.mlp.fc2"), &active, d, m)?;
        Ok(self.build.node("Add", &format!("{name}.mlp.residual"), &[&x, &out], []))
    }

    /// Self-attention of `x [B, T, d]`.
    fn attention(
        &mut self,
        name: &str,
        block: &VitBlock,
        x: &str,
        two_hot: Option<&TwoHot>,
    ) -> Result<String> {
        let (d, t, h, w) = (self.arch.embed, self.arch.tokens(), block.heads, self.arch.head_dim);
        let q_width = h * w;
        let split = self.shape(&format!("shape.heads.{h}"), &[t, h, w]);
        let mut parts = Vec::with_capacity(3);
        for (place, letter) in ["q", "k", "v"].into_iter().enumerate() {
            let own = format!("{name}.{letter}");
            let (from, all) = (place * q_width, 3 * q_width);
            let source = format!("{name}.qkv");
            let weight =
                self.turned(&format!("{own}.weight"), &format!("{source}.weight"), all, d, from, q_width)?;
            let bias = self.part(&format!("{own}.bias"), &format!("{source}.bias"), all, from, q_width)?;
            let projected = self.affine(&own, x, &weight, &bias);
            // [B, T, h, w]
            parts.push(self.build.node("Reshape", &format!("{own}.split"), &[&projected, &split], []));
        }
        let [q, k, v] = parts.as_slice() else { return Ok(x.to_owned()) };
        let scale = Tensor::f32(vec![], vec![(w as f32).powf(-0.5)])?;
        let scale = self.build.constant("attn.scale", scale);
        let swap = || [("perm", Attribute::from([0, 2, 1, 3]))];
        let k =
            self.build.node("Transpose", &format!("{name}.k.heads"), &[k], [("perm", [0, 2, 3, 1].into())]);
        let v = self.build.node("Transpose", &format!("{name}.v.heads"), &[v], swap());
        let q = self.build.node("Mul", &format!("{name}.q.scaled"), &[q, &scale], []);
        let q_heads = self.build.node("Transpose", &format!("{name}.q.heads"), &[&q], swap());
        let mut logits = self.build.node("MatMul", &format!("{name}.logits"), &[&q_heads, &k], []);
        if let Some(two_hot) = two_hot {
            let offsets = self.key_offsets(name, &q, two_hot)?;
            logits = self.build.node("Add", &format!("{name}.logits.offset"), &[&logits, &offsets], []);
        }
        let weights =
            self.build.node("Softmax", &format!("{name}.softmax"), &[&logits], [("axis", (-1).into())]);
        let mixed = self.build.node("MatMul", &format!("{name}.mixed"), &[&weights, &v], []);
        let mut mixed = self.build.node("Transpose", &format!("{name}.mixed.tokens"), &[&mixed], swap());
        if let Some(two_hot) = two_hot {
            let offsets = self.value_offsets(name, &weights, two_hot)?;
            mixed = self.build.node("Add", &format!("{name}.mixed.offset"), &[&mixed, &offsets], []);
        }
        let shape = self.shape(&format!("shape.joined.{h}"), &[t, q_width]);
        let joined = self.build.node("Reshape", &format!("{name}.joined"), &[&mixed, &shape], []);
        self.linear(&format!("{name}.proj"), &joined, d, q_width)
    }

    /// Logits of the key tables: `q [B, T, h, w]` times the stacked tables, then for each query the row
    /// that each key uses; `[B, h, T, T]`.
    fn key_offsets(&mut self, name: &str, q: &str, two_hot: &TwoHot) -> Result<String> {
        let table = self.tables(name, "k", true)?;
        let rows = self.build.node("MatMul", &format!("{name}.rel_k.rows"), &[q, &table], []);
        let picked =
            self.build.node("MatMul", &format!("{name}.rel_k.picked"), &[&rows, &two_hot.turned], []);
        let perm = [("perm", [0, 2, 1, 3].into())];
        Ok(self.build.node("Transpose", &format!("{name}.rel_k"), &[&picked], perm))
    }

    /// What the value tables add to the output: attention weights `[B, h, T, T]` summed by table row,
    /// times the stacked tables; `[B, T, h, w]`.
    fn value_offsets(&mut self, name: &str, weights: &str, two_hot: &TwoHot) -> Result<String> {
        let table = self.tables(name, "v", false)?;
        let perm = [("perm", [0, 2, 1, 3].into())];
        let by_query = self.build.node("Transpose", &format!("{name}.rel_v.queries"), &[weights], perm);
        let summed =
            self.build.node("MatMul", &format!("{name}.rel_v.rows"), &[&by_query, &two_hot.plain], []);
        Ok(self.build.node("MatMul", &format!("{name}.rel_v"), &[&summed, &table], []))
    }

    /// Vertical table on top of the horizontal one, `[2R, w]`, or its transpose.
    fn tables(&mut self, name: &str, side: &str, turned: bool) -> Result<String> {
        let (rows, w) = (VitArch::relative_rows(self.arch.relative.unwrap_or(0)), self.arch.head_dim);
        let shape = if turned { vec![w, 2 * rows] } else { vec![2 * rows, w] };
        let tensor = match self.weights {
            Some(weights) => {
                let mut stacked = Vec::with_capacity(2 * rows * w);
                for axis in ["v", "h"] {
                    let source = format!("{name}.rel_pos_embed_{side}.embeddings_table_{axis}");
                    stacked.extend_from_slice(weights.tensor(&source, &[rows, w])?.as_f32().unwrap_or(&[]));
                }
                let values = if turned { transpose(&stacked, 2 * rows, w) } else { stacked.into() };
                Tensor::f32(shape, values)?
            }
            None => Tensor::unset(shape, Dtype::F32),
        };
        Ok(self.build.constant(&format!("{name}.rel_{side}.table"), tensor))
    }

    fn gelu(&mut self, name: &str, x: &str) -> Result<String> {
        if self.options.opset >= 20 {
            return Ok(self.build.node("Gelu", name, &[x], []));
        }
        // Exactly this chain is what runtimes fuse into one node.
        let mut number = |name: &str, value: f32| -> Result<String> {
            Ok(self.build.constant(name, Tensor::f32(vec![], vec![value])?))
        };
        let (root, one, half) = (
            number("gelu.root_two", std::f32::consts::SQRT_2)?,
            number("gelu.one", 1.0)?,
            number("gelu.half", 0.5)?,
        );
        let scaled = self.build.node("Div", &format!("{name}.scaled"), &[x, &root], []);
        let erf = self.build.node("Erf", &format!("{name}.erf"), &[&scaled], []);
        let shifted = self.build.node("Add", &format!("{name}.shifted"), &[&erf, &one], []);
        let product = self.build.node("Mul", &format!("{name}.product"), &[x, &shifted], []);
        Ok(self.build.node("Mul", name, &[&product, &half], []))
    }

    /// The mean of the patch tokens of `x [B, T, d]`, and the classifier on it.
    fn head(&mut self, x: &str) -> Result<()> {
        let (d, t) = (self.arch.embed, self.arch.tokens());
        let one = self.build.integers("shape.one", &[1]);
        let end = self.build.integers("shape.tokens", &[t as i64]);
        let patches = self.build.node("Slice", "pool.patches", &[x, &one, &end, &one], []);
        // Axes became an input in operator set 18.
        let features = if self.options.opset >= 18 {
            self.build.node("ReduceMean", FEATURES, &[&patches, &one], [("keepdims", 0.into())])
        } else {
            let attributes = [("axes", [1].into()), ("keepdims", 0.into())];
            self.build.node("ReduceMean", FEATURES, &[&patches], attributes)
        };
        let batch = self.batch_dim();
        let Head::Classifier { classes } = self.options.head else {
            self.build.output(&features, Dtype::F32, [batch, Dim::Fixed(d)]);
            return Ok(());
        };
        let weight = self.parameter("head.weight", &[classes, d])?;
        let bias = self.parameter("head.bias", &[classes])?;
        let logits = self.build.node("Gemm", LOGITS, &[&features, &weight, &bias], [("transB", 1.into())]);
        self.build.output(&logits, Dtype::F32, [batch, Dim::Fixed(classes)]);
        Ok(())
    }
}

/// The transpose of `values [rows, columns]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Arc<[f32]> {
    let at = |i: usize| values.get((i % rows) * columns + i / rows).copied().unwrap_or(0.0);
    (0..rows * columns).map(at).collect()
}
