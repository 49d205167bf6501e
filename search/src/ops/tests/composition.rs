//! The operations against their composition of tensor operations: answers and every gradient.

use burn::tensor::{Device, Tensor, TensorData};

use super::super::{
    Join, attention, embed, feed_forward, join, norm_of, pixel, relation, relation_each, smooth_l1, tail,
};
use super::{FAMILIES, noise};
use crate::objective::terms::composed;
use crate::ops::{Precision, flex};
use crate::supernet::block::{Block, BlockShape};
use crate::supernet::params::{Layout, Leaves, Params};
use crate::supernet::{DecoderShape, Mask, MaskedBatch, Supernet, without_class};
use crate::train::Gradients;

fn tensor<const D: usize>(name: &str, dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(noise(name, dims.iter().product()), dims), device)
}

fn host<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    flex(tensor).expect("a tensor of the CPU").as_slice::<f32>().expect("floats").to_vec()
}

/// Gains of one and biases of zero would hide mistakes.
fn shake(params: &mut Params) {
    for slot in params.slots() {
        let value = tensor(params.name(slot), params.shape(slot), params.device());
        params.set(slot, value * 0.3);
    }
}

/// Answer and gradients (of `x`, then of every parameter) of a loss that weighs each element differently: by the
/// operation or by its composition, which is told so by leaves without host values.
fn run<const D: usize, const E: usize>(
    params: &Params,
    fused: bool,
    dims: [usize; D],
    forward: impl Fn(&Leaves, Tensor<D>) -> Tensor<E>,
) -> Vec<Vec<f32>> {
    run_in(params, fused, Precision::F32, dims, forward)
}

/// As [`run`], with products in `precision`.
fn run_in<const D: usize, const E: usize>(
    params: &Params,
    fused: bool,
    precision: Precision,
    dims: [usize; D],
    forward: impl Fn(&Leaves, Tensor<D>) -> Tensor<E>,
) -> Vec<Vec<f32>> {
    let device = params.device();
    let gradients = Gradients::new(params, precision);
    let leaves = match fused {
        true => gradients.leaves(params),
        false => params.leaves(None, precision),
    };
    let x = tensor::<D>("x", dims, &device.clone().autodiff()).require_grad();
    let out = forward(&leaves, x.clone());
    let mut results = vec![host(&out)];
    let weights = tensor::<E>("loss", out.dims(), device);
    let loss = (out * Tensor::from_inner(weights)).sum();
    // One pass: what our operations learn is in the sums now, what burn's learn is in the graph's gradients.
    let mut found = loss.backward();
    results.push(x.grad_remove(&mut found).map(|of| host(&of)).unwrap_or_default());
    let sums = if fused { gradients.to_host().expect("sums") } else { vec![None; params.len()] };
    for (slot, sum) in params.slots().zip(sums) {
        let mut of = sum.unwrap_or_else(|| vec![0.0; params.shape(slot).iter().product()]);
        if let Some(more) = leaves.get(slot).grad_remove(&mut found) {
            of.iter_mut().zip(host(&more)).for_each(|(of, more)| *of += more);
        }
        results.push(of);
    }
    results
}

fn agree(what: &str, one: Vec<Vec<f32>>, other: Vec<Vec<f32>>) {
    assert_eq!(one.len(), other.len());
    for (i, (a, b)) in one.iter().zip(&other).enumerate() {
        assert_eq!(a.len(), b.len(), "{what}, result {i}");
        // A key's bias has no gradient but rounding, at the scale of the others': softmax takes out what all keys share.
        let largest = b.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        let difference = a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(difference <= 3e-5 * largest, "{what}, result {i}: {difference} of {largest}");
    }
}

fn block(of: BlockShape) -> (Block, Params) {
    let mut layout = Layout::default();
    let block = Block::declare(&mut layout, "block", of);
    let mut params = Params::new(layout, 3, &Device::flex());
    shake(&mut params);
    (block, params)
}

#[test]
fn branches_are_their_compositions() {
    for (of, members) in FAMILIES {
        let (block, params) = block(of);
        let path = Some(vec![0.0, 1.25, 0.5]);
        for shape in members {
            for (tokens, path) in [(1, None), (5, path.clone()), (17, None)] {
                let factors: Tensor<3> = match &path {
                    Some(path) => {
                        Tensor::from_data(TensorData::new(path.clone(), [3, 1, 1]), params.device())
                    }
                    None => Tensor::ones([3, 1, 1], params.device()),
                };
                let dims = [3, tokens, shape.embed];
                let along =
                    |x: Tensor<3>, branch: Tensor<3>| x + branch * Tensor::from_inner(factors.clone());
                let both = |fused: bool| {
                    run(&params, fused, dims, |leaves, x| match leaves.host() {
                        Some(host) => attention(host, &block, x, 0, *shape, path.clone()),
                        None => along(x.clone(), block.attention(leaves, x, 0, *shape, None)),
                    })
                };
                agree(&format!("attention {shape:?}, {tokens} tokens"), both(true), both(false));
                let both = |fused: bool| {
                    run(&params, fused, dims, |leaves, x| match leaves.host() {
                        Some(host) => feed_forward(host, &block, x, *shape, path.clone()),
                        None => along(x.clone(), block.feed_forward(leaves, x, *shape)),
                    })
                };
                agree(&format!("feed-forward {shape:?}, {tokens} tokens"), both(true), both(false));
            }
        }
    }
}

/// What a GPU computes in bf16 and f16: answers and gradients of f32, but for the rounding of products' inputs.
#[test]
fn compositions_round_what_products_read() {
    for (of, _) in FAMILIES {
        let (block, params) = block(of);
        let all = |precision| {
            run_in(&params, false, precision, [3, 17, of.embed], |leaves, x| {
                block.apply(leaves, x, of, None, None)
            })
        };
        let exact = all(Precision::F32);
        // A product of n terms of either sign is off by about half a unit in the last place, whatever n.
        for (precision, rounding) in [(Precision::Bf16, 2f32.powi(-8)), (Precision::F16, 2f32.powi(-11))] {
            for (i, (rounded, exact)) in all(precision).iter().zip(&exact).enumerate() {
                let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
                let length = norm(&mut exact.iter().copied());
                let off = norm(&mut rounded.iter().zip(exact).map(|(a, b)| a - b));
                // A key's bias has no gradient but rounding.
                let key = i > 1 && params.name(params.slots().nth(i - 2).unwrap()).ends_with("attn.k.bias");
                assert!(key || off < 4.0 * rounding * length, "{precision:?}, result {i}: {off} of {length}");
                assert!(i > 0 || off > 0.1 * rounding * length, "{precision:?}: nothing was rounded");
            }
        }
    }
}

/// What is composed on the CPU, such as a classifier's logits, stays in f32 when our operations multiply bf16.
#[test]
fn compositions_beside_our_operations_stay_exact() {
    let (block, params) = block(FAMILIES[0].0);
    let all = |precision| {
        run_in(&params, true, precision, [3, 5, 40], |leaves, x| {
            let scores = leaves.product(x.clone(), x.clone().swap_dims(1, 2));
            block.fc1.apply(leaves, leaves.product(scores, x), 75)
        })
    };
    assert_eq!(all(Precision::Bf16), all(Precision::F32));
}

/// Asking for the last tokens alone is asking for all and forgetting the others, by the operations and composed.
#[test]
fn the_last_tokens_are_those_of_the_whole_block() {
    for (of, members) in FAMILIES {
        let (block, params) = block(of);
        for (shape, (tokens, skip)) in members.iter().zip([(5, 2), (17, 16), (9, 1)].into_iter().cycle()) {
            let dims = [3, tokens, shape.embed];
            let whole = run(&params, false, dims, |leaves, x| {
                let all = block.apply(leaves, x, *shape, None, None);
                all.slice([0..3, skip..tokens, 0..shape.embed])
            });
            for fused in [true, false] {
                let last =
                    run(&params, fused, dims, |leaves, x| block.apply_to_last(leaves, x, skip, *shape));
                agree(&format!("{shape:?}, {tokens} tokens from {skip}, fused {fused}"), last, whole.clone());
            }
        }
    }
}

#[test]
fn norms_and_tails_are_their_compositions() {
    let (block, params) = block(FAMILIES[0].0);
    for (width, skip, out) in [(40, 0, 75), (17, 1, 33), (24, 4, 1)] {
        let dims = [3, 5, width];
        let both = |fused: bool| {
            run(&params, fused, dims, |leaves, x| match leaves.host() {
                Some(host) => norm_of(host, block.norm2, x),
                None => block.norm2.apply(leaves, x),
            })
        };
        agree(&format!("norm {width}"), both(true), both(false));
        for norm in [None, Some(block.norm2)] {
            let both = |fused: bool| {
                run(&params, fused, dims, |leaves, x| match leaves.host() {
                    Some(host) => tail(host, norm, block.fc1, x, skip, out),
                    None => {
                        let x = x.slice([0..3, skip..5, 0..width]);
                        let x = norm.map_or(x.clone(), |norm| norm.apply(leaves, x));
                        block.fc1.apply(leaves, x, out)
                    }
                })
            };
            agree(&format!("tail {width}, {skip}, {norm:?}"), both(true), both(false));
        }
    }
}

/// Through a whole supernet: embedding, blocks, projectors, decoder, every term.
#[test]
fn a_supernet_is_its_composition() {
    use masktas_export::{VitArch, VitBlock};
    let device = Device::flex();
    for relative in [None, Some(3)] {
        let arch = |embed: usize, heads: &[usize], hidden: usize| VitArch {
            image: 16,
            patch: 4,
            embed,
            head_dim: 8,
            blocks: heads.iter().map(|heads| VitBlock { heads: *heads, hidden }).collect(),
            relative,
        };
        a_supernet(&[arch(40, &[4, 4, 4], 96), arch(24, &[2, 3], 33), arch(40, &[1, 4, 2], 56)], &device);
    }
}

/// With relative positions attention is composed in both, and its gradients come by burn's graph.
fn a_supernet(subnets: &[masktas_export::VitArch], device: &Device) {
    let largest = &subnets[0];
    let decoder = DecoderShape { width: 16, depth: 1, heads: 2 };
    let mut supernet = Supernet::new(largest, decoder, &[0.5, 1.0], 24, 7, device);
    shake(&mut supernet.params);
    let pixels = noise("pixels", 3 * 3 * 16 * 16);
    let mask = |i| Mask::draw(&mut crate::rand::stream(1, "mask", i), 16, 0.6);
    for sub in subnets {
        let batch = MaskedBatch::new(&pixels, &[mask(0), mask(1), mask(2)], sub, device);
        let both = |fused: bool| {
            // The tokens scale what comes out, so that there is an `x`.
            run(&supernet.params, fused, [1], |leaves, x: Tensor<1>| {
                let encoded = supernet.encode(leaves, sub, &batch.visible, true);
                let guess = supernet.decode(leaves, &encoded, &batch);
                let flat = |t: Tensor<3>| t.clone().reshape([t.dims().iter().product::<usize>()]);
                let parts = encoded.projected.into_iter().chain([encoded.tokens, guess]).map(flat).collect();
                Tensor::cat(parts, 0) * x
            })
        };
        agree(&format!("{sub:?}"), both(true), both(false));
    }
}

#[test]
fn embedding_and_joining_take_any_width() {
    let mut layout = Layout::default();
    use crate::supernet::block::Linear;
    use crate::supernet::params::Init;
    let linear = Linear::declare(&mut layout, "linear", [12, 20]);
    let token = layout.vector("token", [1, 20], Init::Zero);
    let positions = layout.vector("positions", [10, 20], Init::Zero);
    let mut params = Params::new(layout, 3, &Device::flex());
    shake(&mut params);
    let leaves = params.frozen();
    let host_values = leaves.host().expect("values on the host");
    let patches = tensor("patches", [2, 3, 12], params.device());
    let seen: Vec<u32> = vec![0, 4, 8, 1, 2, 7];
    let out = embed(
        host_values,
        [token, positions],
        linear,
        &patches,
        Some(seen.clone().into()),
        13,
        leaves.anchor(),
    );
    assert_eq!(out.dims(), [2, 4, 13]);
    let values = host(&out);
    let table = host(params.value(positions));
    let expected = host(params.value(token))[3] + table[3];
    assert_eq!([values[3], values[4 * 13 + 3]], [expected; 2], "the class token comes first in each image");
    let plain = linear.apply(&leaves, patches, 13);
    let expected = host(&plain)[4 * 13 + 5] + table[(1 + 2) * 20 + 5];
    assert!((values[(4 + 2) * 13 + 5] - expected).abs() < 1e-5, "a patch knows its place");

    let masked: Vec<u32> = vec![1, 2, 3, 5, 6, 7, 0, 3, 4, 5, 6, 8];
    let tokens = tensor("tokens", [2, 4, 12], params.device());
    let (seen, masked) = (seen.into(), masked.into());
    let out = join(host_values, tokens, Join { linear, token, positions, width: 20, seen, masked });
    assert_eq!(out.dims(), [2, 10, 20]);
    let expected = host(params.value(token))[7] + table[(1 + 3) * 20 + 7];
    assert_eq!(host(&out)[(4 + 2) * 20 + 7], expected, "a mask token knows its place");
}

#[test]
fn terms_are_their_compositions() {
    let params = Params::new(Layout::default(), 0, &Device::flex());
    for (tokens, width, other) in [(2, 3, 5), (17, 40, 24), (16, 96, 192)] {
        let dims = [3, tokens, width];
        let teacher = tensor("teacher", [3, tokens, other], params.device());
        let same = tensor("teacher", dims, params.device());
        let scalar = |terms: [Tensor<1>; 3]| Tensor::cat(terms.to_vec(), 0);
        let one = run(&params, true, dims, |_, x| {
            scalar([
                pixel(x.clone(), &same),
                smooth_l1(x.clone(), &same, 1e-6),
                relation(x, &teacher, 0.1, 1e-6),
            ])
        });
        let other = run(&params, false, dims, |_, x| {
            scalar([
                composed::pixel(x.clone(), Tensor::from_inner(same.clone())),
                composed::smooth_l1(x.clone(), Tensor::from_inner(same.clone())),
                composed::relation_each(x, Tensor::from_inner(teacher.clone()), 0.1).mean(),
            ])
        });
        agree(&format!("terms of {tokens} tokens"), one, other);
        let student = tensor("student", dims, params.device());
        let each = host(&relation_each(student.clone(), &teacher, 0.1, 1e-6));
        let plain = host(&composed::relation_each(student, teacher, 0.1));
        agree("relations image by image", vec![each], vec![plain]);
    }
    // A class token alone leaves no patch and no relation.
    let lone = tensor("lone", [2, 2, 4], params.device());
    let value = host(&relation(without_class(lone.clone()), &without_class(lone), 0.1, 1e-6));
    assert_eq!(value, [0.0]);
}
