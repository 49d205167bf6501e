//! The branches against their composition of tensor operations: answers and every gradient.

use burn::tensor::{Device, Tensor, TensorData};

use super::{attention, feed_forward};
use crate::rand::{Draw, stream};
use crate::supernet::block::{Block, BlockShape};
use crate::supernet::params::{Layout, Leaves, Params};

/// A super block, and members of it from its smallest to itself.
const SUPER: BlockShape = BlockShape { embed: 40, heads: 4, head_dim: 8, hidden: 75, relative_rows: 0 };
const MEMBERS: [BlockShape; 4] = [
    SUPER,
    BlockShape { embed: 24, heads: 1, hidden: 33, ..SUPER },
    BlockShape { embed: 40, heads: 3, hidden: 17, ..SUPER },
    BlockShape { embed: 17, heads: 4, hidden: 75, ..SUPER },
];

type Branch = fn(&Block, &Leaves, Tensor<3>, BlockShape) -> Tensor<3>;

fn noise(name: &str, count: usize) -> Vec<f32> {
    let mut rng = stream(5, name, 0);
    (0..count).map(|_| rng.normal() as f32).collect()
}

/// Answer and gradients (of `x`, then of every parameter) of a loss that weighs each element differently.
fn run(branch: Branch, shape: BlockShape, tokens: usize) -> Vec<Vec<f32>> {
    let device = Device::flex();
    let mut layout = Layout::default();
    let block = Block::declare(&mut layout, "block", SUPER);
    let mut params = Params::new(layout, 3, &device);
    // Gains of one and biases of zero would hide mistakes.
    for slot in params.slots() {
        let [rows, columns] = params.shape(slot);
        let values = noise(params.name(slot), rows * columns);
        let value = Tensor::from_data(TensorData::new(values, [rows, columns]), &device);
        params.set(slot, value * 0.3);
    }
    let leaves = params.leaves();
    let dims = [3, tokens, shape.embed];
    let count = dims.iter().product();
    let x = Tensor::<3>::from_data(TensorData::new(noise("x", count), dims), &device.clone().autodiff())
        .require_grad();
    let weights = Tensor::<3>::from_data(TensorData::new(noise("loss", count), dims), &device);
    let out = branch(&block, &leaves, x.clone(), shape);
    let mut results = vec![out.clone().inner().try_to_vec_as::<f32>().expect("values")];
    let mut gradients = (out * Tensor::from_inner(weights)).sum().backward();
    results.push(x.grad(&gradients).expect("a gradient").try_to_vec_as::<f32>().expect("values"));
    for slot in params.slots() {
        let of = leaves.get(slot).grad_remove(&mut gradients);
        results.push(of.map(|of| of.try_to_vec_as::<f32>().expect("values")).unwrap_or_default());
    }
    results
}

fn agree(one: Branch, other: Branch) {
    for shape in MEMBERS {
        for tokens in [1, 5, 17] {
            let pairs = run(one, shape, tokens).into_iter().zip(run(other, shape, tokens));
            for (i, (a, b)) in pairs.enumerate() {
                assert_eq!(a.len(), b.len(), "{shape:?}, {tokens} tokens, result {i}");
                // A key's bias has no gradient but rounding: softmax takes out what all keys share.
                let largest = b.iter().fold(0.5f32, |largest, value| largest.max(value.abs()));
                let difference = a.iter().zip(&b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(
                    difference <= 2e-5 * largest,
                    "{shape:?}, {tokens} tokens, result {i}: {difference} of {largest}"
                );
            }
        }
    }
}

#[test]
fn attention_is_its_composition() {
    agree(attention, |block, leaves, x, shape| block.attention(leaves, x, shape, None));
}

#[test]
fn feed_forward_is_its_composition() {
    agree(feed_forward, |block, leaves, x, shape| block.feed_forward(leaves, x, shape));
}
