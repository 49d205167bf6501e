//! The operations as the networks call them: on tensors, with weights by slot.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use masktas_export::arch::NORM_EPSILON;

use super::host::{Host, flex, of_linear, of_norm};
use super::last_rows::LastRows;
use super::node::{Answer, Pull, apply};
use super::places::{self, Hidden, Positions};
use super::{attention as attention_branch, feed_forward as feed_forward_branch, loss, tail as tail_rows};
use crate::supernet::Slot;
use crate::supernet::block::{Block, BlockShape, Linear, Norm};

/// `x` and the attention branch of it, `[images, tokens, embed]`, for tokens from `skip` on: `[images, tokens - skip,
/// embed]`. `path` scales the branch image by image.
pub(crate) fn attention(
    host: &Arc<Host>,
    block: &Block,
    x: Tensor<3>,
    skip: usize,
    shape: BlockShape,
    path: Option<Vec<f32>>,
) -> Tensor<3> {
    let host = host.clone();
    let (norm, [q, k, v, proj]) = (block.norm1, [block.q, block.k, block.v, block.proj]);
    let [images, tokens, embed] = x.dims();
    let width = shape.heads * shape.head_dim;
    let sizes =
        attention_branch::Shape { images, tokens, skip, heads: shape.heads, head_dim: shape.head_dim };
    fn weights(
        host: &Host,
        norm: Norm,
        [q, k, v, proj]: [Linear; 4],
        embed: usize,
        width: usize,
    ) -> attention_branch::Weights<'_> {
        attention_branch::Weights {
            norm: host.norm(norm, embed),
            q: host.linear(q, embed, width),
            k: host.linear(k, embed, width),
            v: host.linear(v, embed, width),
            proj: host.linear(proj, width, embed),
        }
    }
    apply(x, move |x, learn| {
        let parts = weights(&host, norm, [q, k, v, proj], embed, width);
        let (values, kept) =
            attention_branch::forward(x, &parts, sizes, NORM_EPSILON, path.as_deref(), learn);
        let pull = kept.map(|kept| -> Pull {
            let host = host.clone();
            Box::new(move |gradient| {
                let slots = [
                    norm.gain,
                    norm.bias,
                    q.weight,
                    q.bias,
                    k.weight,
                    k.bias,
                    v.weight,
                    v.bias,
                    proj.weight,
                    proj.bias,
                ];
                let parts = weights(&host, norm, [q, k, v, proj], embed, width);
                host.learn(slots, |[gain, bias, qw, qb, kw, kb, vw, vb, pw, pb]| {
                    let mut of = attention_branch::Gradients {
                        norm: of_norm(gain, bias),
                        q: of_linear(qw, qb),
                        k: of_linear(kw, kb),
                        v: of_linear(vw, vb),
                        proj: of_linear(pw, pb),
                    };
                    attention_branch::backward(gradient, kept, &parts, sizes, path.as_deref(), &mut of)
                })
            })
        });
        Answer { values, dims: vec![images, tokens - skip, embed], pull }
    })
}

/// `x` and the feed-forward branch of it, `[images, tokens, embed]`. `path` scales the branch image by image.
pub(crate) fn feed_forward(
    host: &Arc<Host>,
    block: &Block,
    x: Tensor<3>,
    shape: BlockShape,
    path: Option<Vec<f32>>,
) -> Tensor<3> {
    let (host, dims) = (host.clone(), x.dims());
    let (norm, fc1, fc2) = (block.norm2, block.fc1, block.fc2);
    let [images, tokens, embed] = dims;
    let rows = images * tokens;
    let hidden = shape.hidden;
    fn weights(
        host: &Host,
        norm: Norm,
        [fc1, fc2]: [Linear; 2],
        embed: usize,
        hidden: usize,
    ) -> feed_forward_branch::Weights<'_> {
        feed_forward_branch::Weights {
            norm: host.norm(norm, embed),
            fc1: host.linear(fc1, embed, hidden),
            fc2: host.linear(fc2, hidden, embed),
        }
    }
    apply(x, move |x, learn| {
        let parts = weights(&host, norm, [fc1, fc2], embed, hidden);
        let (values, kept) =
            feed_forward_branch::forward(x, &parts, rows, NORM_EPSILON, path.as_deref(), learn);
        let pull = kept.map(|kept| -> Pull {
            let host = host.clone();
            Box::new(move |gradient| {
                let slots = [norm.gain, norm.bias, fc1.weight, fc1.bias, fc2.weight, fc2.bias];
                let parts = weights(&host, norm, [fc1, fc2], embed, hidden);
                host.learn(slots, |[gain, bias, w1, b1, w2, b2]| {
                    let mut of = feed_forward_branch::Gradients {
                        norm: of_norm(gain, bias),
                        fc1: of_linear(w1, b1),
                        fc2: of_linear(w2, b2),
                    };
                    feed_forward_branch::backward(gradient, kept, &parts, rows, path.as_deref(), &mut of)
                })
            })
        });
        Answer { values, dims: dims.to_vec(), pull }
    })
}

/// A layer norm over the last axis.
pub(crate) fn norm_of(host: &Arc<Host>, norm: Norm, x: Tensor<3>) -> Tensor<3> {
    let (host, dims) = (host.clone(), x.dims());
    let width = dims[2];
    apply(x, move |x, learn| {
        let (values, kept) = host.norm(norm, width).forward(x, NORM_EPSILON);
        let pull = learn.then(|| -> Pull {
            let host = host.clone();
            Box::new(move |gradient| {
                let parts = host.norm(norm, width);
                host.learn([norm.gain, norm.bias], |[gain, bias]| {
                    let mut of_x = vec![0.0; gradient.len()];
                    parts.backward(&kept, &gradient, &mut of_x, &mut of_norm(gain, bias));
                    of_x
                })
            })
        });
        Answer { values, dims: dims.to_vec(), pull }
    })
}

/// Tokens from `skip` on, normed if there is a norm, through a linear layer: `[images, tokens - skip, output]`.
pub(crate) fn tail(
    host: &Arc<Host>,
    norm: Option<Norm>,
    linear: Linear,
    x: Tensor<3>,
    skip: usize,
    output: usize,
) -> Tensor<3> {
    let host = host.clone();
    let [images, tokens, input] = x.dims();
    let shape = LastRows { images, tokens, skip };
    apply(x, move |x, learn| {
        let parts = host.linear(linear, input, output);
        let normed = norm.map(|norm| host.norm(norm, input));
        let (values, kept) = tail_rows::forward(x, normed, parts, shape, NORM_EPSILON);
        let pull = learn.then(|| -> Pull {
            let host = host.clone();
            Box::new(move |gradient| {
                let parts = host.linear(linear, input, output);
                match norm {
                    Some(norm) => {
                        let slots = [linear.weight, linear.bias, norm.gain, norm.bias];
                        host.learn(slots, |[weight, bias, gain, shift]| {
                            let norm = Some((host.norm(norm, input), of_norm(gain, shift)));
                            tail_rows::backward(
                                &gradient,
                                &kept,
                                norm,
                                (parts, of_linear(weight, bias)),
                                shape,
                            )
                        })
                    }
                    None => host.learn([linear.weight, linear.bias], |[weight, bias]| {
                        tail_rows::backward(&gradient, &kept, None, (parts, of_linear(weight, bias)), shape)
                    }),
                }
            })
        });
        Answer { values, dims: vec![images, tokens - skip, output], pull }
    })
}

/// Seen patches `[images, count, pixels]` to tokens `[images, 1 + count, width]`, class token first. `anchor` is
/// what the gradient graph begins with; its value does not matter.
pub(crate) fn embed(
    host: &Arc<Host>,
    [token, positions]: [Slot; 2],
    linear: Linear,
    patches: &Tensor<3>,
    places: Option<Arc<Vec<u32>>>,
    width: usize,
    anchor: Tensor<1>,
) -> Tensor<3> {
    let host = host.clone();
    let [images, count, pixels] = patches.dims();
    let patches = flex(patches);
    apply(anchor, move |_, learn| {
        let table = Positions { table: host.values(positions), stride: host.stride(positions), width };
        let parts = host.linear(linear, pixels, width);
        let seen = places.as_deref().map(Vec::as_slice);
        let out = places::embed(elements(&patches), count, parts, host.values(token), table, seen);
        let pull = learn.then(|| -> Pull {
            let (host, patches) = (host.clone(), patches.clone());
            Box::new(move |gradient| {
                let table =
                    Positions { table: host.values(positions), stride: host.stride(positions), width };
                let parts = host.linear(linear, pixels, width);
                host.learn(
                    [linear.weight, linear.bias, token, positions],
                    |[weight, bias, token, positions]| {
                        let mut of = places::Gradients { linear: of_linear(weight, bias), token, positions };
                        let seen = places.as_deref().map(Vec::as_slice);
                        places::embed_backward(
                            &gradient,
                            elements(&patches),
                            count,
                            parts,
                            table,
                            seen,
                            &mut of,
                        );
                        vec![0.0]
                    },
                )
            })
        });
        Answer { values: out, dims: vec![images, 1 + count, width], pull }
    })
}

fn elements(tensor: &Option<FlexTensor>) -> &[f32] {
    match tensor.as_ref().and_then(|tensor| tensor.as_slice::<f32>()) {
        Some(elements) => elements,
        None => unreachable!("a float tensor of the CPU, beside another one"),
    }
}

/// As burn's own operations do, refuses tensors that do not belong together.
fn same(a: [usize; 3], b: [usize; 3], what: &str) {
    assert_eq!(a, b, "shapes of {what} differ");
}

/// What [`join`] needs beside the tokens: the decoder's first layer, mask token and positions, and the places of the
/// seen and masked patches.
pub(crate) struct Join {
    pub(crate) linear: Linear,
    pub(crate) token: Slot,
    pub(crate) positions: Slot,
    pub(crate) width: usize,
    pub(crate) seen: Arc<Vec<u32>>,
    pub(crate) masked: Arc<Vec<u32>>,
}

/// The encoder's tokens `[images, 1 + seen, input]` to the decoder's `[images, 1 + seen + masked, width]`.
pub(crate) fn join(host: &Arc<Host>, tokens: Tensor<3>, join: Join) -> Tensor<3> {
    let host = host.clone();
    let [images, count, input] = tokens.dims();
    let Join { linear, token, positions, width, seen, masked } = join;
    let dims = vec![images, count + masked.len() / images, width];
    apply(tokens, move |x, learn| {
        let table = Positions { table: host.values(positions), stride: host.stride(positions), width };
        let parts = host.linear(linear, input, width);
        let hidden = Hidden { images, seen: &seen, masked: &masked };
        let values = places::join(x, parts, host.values(token), table, hidden);
        let pull = learn.then(|| -> Pull {
            let (host, x, seen, masked) = (host.clone(), x.to_vec(), seen.clone(), masked.clone());
            Box::new(move |gradient| {
                let table =
                    Positions { table: host.values(positions), stride: host.stride(positions), width };
                let parts = host.linear(linear, input, width);
                host.learn(
                    [linear.weight, linear.bias, token, positions],
                    |[weight, bias, token, positions]| {
                        let mut of = places::Gradients { linear: of_linear(weight, bias), token, positions };
                        let hidden = Hidden { images, seen: &seen, masked: &masked };
                        places::join_backward(&gradient, &x, parts, table, hidden, &mut of)
                    },
                )
            })
        });
        Answer { values, dims, pull }
    })
}

/// A loss of one number: its value and its slope, which waits for the gradient of the sum.
fn scalar(value: f32, slope: Vec<f32>, learn: bool) -> Answer {
    let pull = learn.then(|| -> Pull {
        Box::new(move |gradient| {
            let factor = gradient.first().copied().unwrap_or(0.0);
            let mut slope = slope;
            slope.iter_mut().for_each(|value| *value *= factor);
            slope
        })
    });
    Answer { values: vec![value], dims: vec![1], pull }
}

/// Mean squared error.
pub(crate) fn pixel(guess: Tensor<3>, target: &Tensor<3>) -> Tensor<1> {
    same(guess.dims(), target.dims(), "guess and target");
    let target = flex(target);
    apply(guess, move |guess, learn| {
        let (value, slope) = loss::mean_square(guess, elements(&target));
        scalar(value, slope, learn)
    })
}

/// Mean smooth L1 distance from the teacher's features, whitened token by token.
pub(crate) fn smooth_l1(student: Tensor<3>, teacher: &Tensor<3>, epsilon: f32) -> Tensor<1> {
    same(student.dims(), teacher.dims(), "student's and teacher's features");
    let width = student.dims()[2];
    let teacher = flex(teacher);
    apply(student, move |student, learn| {
        let (value, slope) = loss::smooth_l1(student, elements(&teacher), width, epsilon);
        scalar(value, slope, learn)
    })
}

/// Divergence of token relations, mean over tokens and images.
pub(crate) fn relation(student: Tensor<3>, teacher: &Tensor<3>, tau: f32, epsilon: f32) -> Tensor<1> {
    let [images, tokens, _] = student.dims();
    let [other_images, other_tokens, _] = teacher.dims();
    same([images, tokens, 0], [other_images, other_tokens, 0], "student's and teacher's tokens");
    let teacher = flex(teacher);
    apply(student, move |student, learn| {
        let divergence = loss::relation(student, elements(&teacher), images, tokens, tau, epsilon);
        let value = divergence.each.iter().sum::<f32>() / images as f32;
        let pull = learn.then(|| -> Pull {
            Box::new(move |gradient| divergence.gradient(gradient.first().copied().unwrap_or(0.0)))
        });
        Answer { values: vec![value], dims: vec![1], pull }
    })
}

/// As [`relation`], image by image and without gradient: `[images]`.
pub(crate) fn relation_each(student: Tensor<3>, teacher: &Tensor<3>, tau: f32, epsilon: f32) -> Tensor<1> {
    let [images, tokens, _] = student.dims();
    let [other_images, other_tokens, _] = teacher.dims();
    same([images, tokens, 0], [other_images, other_tokens, 0], "student's and teacher's tokens");
    let teacher = flex(teacher);
    apply(student.inner(), move |student, _| {
        let divergence = loss::relation(student, elements(&teacher), images, tokens, tau, epsilon);
        Answer { values: divergence.each, dims: vec![images], pull: None }
    })
}
