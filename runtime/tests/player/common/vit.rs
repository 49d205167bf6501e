//! A small vision transformer as an exporter writes it: patch embedding, class token, positions,
//! blocks, mean of the patch tokens.

use masktas_runtime::graph::GraphBuilder;
use masktas_runtime::{Attribute, Dim, Dtype, Graph, Tensor};

use super::{random, unchecked};

/// Sizes of the transformer.
#[derive(Clone, Copy)]
pub struct Vit {
    pub image: usize,
    pub patch: usize,
    pub width: usize,
    pub heads: usize,
    pub head: usize,
    pub hidden: usize,
    pub depth: usize,
}

fn weight(shape: &[usize], seed: u64) -> Tensor {
    let scale = 1.7 / (shape[0] as f32).sqrt();
    let values = random(shape, seed).as_f32().unwrap().iter().map(|v| v * scale).collect::<Vec<_>>();
    Tensor::f32(shape, values).unwrap()
}

impl Vit {
    /// The graph, with random weights, and its input.
    pub fn build(self) -> (Graph, Vec<(String, Tensor)>) {
        let mut b = GraphBuilder::new("vit", 20);
        let Vit { image, patch, width: d, heads, head, hidden, depth } = self;
        let (grid, inner) = (image / patch, heads * head);
        let tokens = grid * grid + 1;
        let mut seed = 0;
        let mut fixed = |b: &mut GraphBuilder, name: String, shape: &[usize]| {
            seed += 1;
            b.constant(&name, weight(shape, seed))
        };
        let x = b.input("image", Dtype::F32, [1, 3, image, image].map(Dim::Fixed));
        let w = b.constant("patch.weight", weight(&[d, 3, patch, patch], 1000));
        let c = fixed(&mut b, "patch.bias".into(), &[d]);
        let p = Attribute::Ints(vec![patch as i64; 2]);
        let x = b.node("Conv", "patch", &[&x, &w, &c], [("strides", p.clone()), ("kernel_shape", p)]);
        let to = b.integers("rows", &[1, d as i64, -1]);
        let x = b.node("Reshape", "flat", &[&x, &to], []);
        let x = b.node("Transpose", "turned", &[&x], [("perm", Attribute::Ints(vec![0, 2, 1]))]);
        let class = fixed(&mut b, "class".into(), &[1, 1, d]);
        let x = b.node("Concat", "tokens", &[&class, &x], [("axis", Attribute::Int(1))]);
        let position = fixed(&mut b, "position".into(), &[1, tokens, d]);
        let mut x = b.node("Add", "positioned", &[&x, &position], []);
        let epsilon = || [("epsilon", Attribute::Float(1e-6))];
        for layer in 0..depth {
            let name = |part: &str| format!("block{layer}.{part}");
            let norm =
                |b: &mut GraphBuilder,
                 x: &str,
                 part: &str,
                 fixed: &mut dyn FnMut(&mut GraphBuilder, String, &[usize]) -> String| {
                    let (s, t) = (
                        fixed(b, name(&format!("{part}.scale")), &[d]),
                        fixed(b, name(&format!("{part}.shift")), &[d]),
                    );
                    b.node("LayerNormalization", &name(part), &[x, &s, &t], epsilon())
                };
            let n = norm(&mut b, &x, "norm1", &mut fixed);
            let split = b.integers(&name("split"), &[1, tokens as i64, heads as i64, head as i64]);
            let mut parts = Vec::new();
            for part in ["q", "k", "v"] {
                let w = fixed(&mut b, name(&format!("{part}.weight")), &[d, inner]);
                let c = fixed(&mut b, name(&format!("{part}.bias")), &[inner]);
                let y = b.node("MatMul", &name(&format!("{part}.product")), &[&n, &w], []);
                let mut y = b.node("Add", &name(&format!("{part}.sum")), &[&y, &c], []);
                if part == "q" {
                    let scale =
                        b.constant(&name("scale"), Tensor::f32([], vec![(head as f32).powf(-0.5)]).unwrap());
                    y = b.node("Mul", &name("q.scaled"), &[&y, &scale], []);
                }
                let y = b.node("Reshape", &name(&format!("{part}.heads")), &[&y, &split], []);
                let perm = if part == "k" { vec![0, 2, 3, 1] } else { vec![0, 2, 1, 3] };
                parts.push(b.node("Transpose", &name(part), &[&y], [("perm", Attribute::Ints(perm))]));
            }
            let s = b.node("MatMul", &name("scores"), &[&parts[0], &parts[1]], []);
            let s = b.node("Softmax", &name("softmax"), &[&s], [("axis", Attribute::Int(-1))]);
            let s = b.node("MatMul", &name("mixed"), &[&s, &parts[2]], []);
            let s = b.node("Transpose", &name("back"), &[&s], [("perm", Attribute::Ints(vec![0, 2, 1, 3]))]);
            let whole = b.integers(&name("whole"), &[1, tokens as i64, inner as i64]);
            let s = b.node("Reshape", &name("joined"), &[&s, &whole], []);
            let (w, c) =
                (fixed(&mut b, name("out.weight"), &[inner, d]), fixed(&mut b, name("out.bias"), &[d]));
            let s = b.node("MatMul", &name("out.product"), &[&s, &w], []);
            let s = b.node("Add", &name("out"), &[&s, &c], []);
            let y = b.node("Add", &name("attended"), &[&x, &s], []);
            let n = norm(&mut b, &y, "norm2", &mut fixed);
            let (w, c) =
                (fixed(&mut b, name("up.weight"), &[d, hidden]), fixed(&mut b, name("up.bias"), &[hidden]));
            let h = b.node("MatMul", &name("up.product"), &[&n, &w], []);
            let h = b.node("Add", &name("up"), &[&h, &c], []);
            let h = b.node("Gelu", &name("gelu"), &[&h], []);
            let (w, c) =
                (fixed(&mut b, name("down.weight"), &[hidden, d]), fixed(&mut b, name("down.bias"), &[d]));
            let h = b.node("MatMul", &name("down.product"), &[&h, &w], []);
            let h = b.node("Add", &name("down"), &[&h, &c], []);
            x = b.node("Add", &name("output"), &[&y, &h], []);
        }
        let (s, t) = (fixed(&mut b, "norm.scale".into(), &[d]), fixed(&mut b, "norm.shift".into(), &[d]));
        let x = b.node("LayerNormalization", "norm", &[&x, &s, &t], epsilon());
        let [start, end, axis] =
            [("start", 1), ("end", i64::MAX), ("axis", 1)].map(|(n, v)| b.integers(n, &[v]));
        let x = b.node("Slice", "patches", &[&x, &start, &end, &axis], []);
        let x = b.node("ReduceMean", "features", &[&x, &axis], [("keepdims", Attribute::Int(0))]);
        let graph = unchecked(b, &[&x]);
        (graph, vec![("image".to_owned(), random(&[1, 3, image, image], 77))])
    }
}
