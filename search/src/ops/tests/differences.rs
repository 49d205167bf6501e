//! Gradients of every operation against central differences of the plain reference in f64.

use masktas_export::arch::NORM_EPSILON;

use super::super::last_rows::LastRows;
use super::super::precision::Precision;
use super::super::{attention, feed_forward, linear, loss, norm, places, tail};
use super::{FAMILIES, noise, plain};
use crate::rand::{Draw, stream};
use crate::supernet::block::BlockShape;

/// Elements of each input that are looked at, at most.
const SAMPLES: usize = 12;
/// Step of the differences.
const STEP: f64 = 1e-5;

/// Inputs in f32 and their names; everything is a function of them.
type Inputs = Vec<(&'static str, Vec<f32>)>;

/// Compares value and gradients (one for each input, in their order; empty ones are not learnt) of a sum that weighs
/// each element of the answer differently.
fn check(
    what: &str,
    inputs: &Inputs,
    answer: &[f32],
    gradients: &[Vec<f32>],
    plain: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let weights: Vec<f64> = noise("loss", answer.len()).into_iter().map(f64::from).collect();
    let wide: Vec<Vec<f64>> = inputs.iter().map(|(_, x)| x.iter().map(|x| f64::from(*x)).collect()).collect();
    let expected = plain(&wide);
    assert_eq!(expected.len(), answer.len(), "{what}");
    let largest = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    for (i, (a, b)) in answer.iter().zip(&expected).enumerate() {
        assert!((f64::from(*a) - b).abs() < 1e-5 * largest, "{what}, element {i}: {a}, not {b}");
    }
    let sum = |inputs: &[Vec<f64>]| plain(inputs).iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
    let mut rng = stream(9, what, 0);
    for (number, ((name, input), gradient)) in inputs.iter().zip(gradients).enumerate() {
        if gradient.is_empty() {
            continue;
        }
        assert_eq!(gradient.len(), input.len(), "{what}: gradient of {name}");
        let largest = gradient.iter().fold(0.5f32, |most, x| most.max(x.abs()));
        let mut places: Vec<usize> = (0..input.len()).collect();
        rng.shuffle(&mut places);
        for place in places.into_iter().take(SAMPLES) {
            let mut moved = wide.clone();
            let mut at = |value: f64| {
                moved[number][place] = wide[number][place] + value;
                sum(&moved)
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let got = f64::from(gradient[place]);
            assert!(
                (got - expected).abs() < 4e-5 * f64::from(largest),
                "{what}: gradient of {name} at {place} of {}: {got}, not {expected} (largest {largest})",
                input.len()
            );
        }
    }
}

/// The gradient that [`check`] gives the answer.
fn seed(count: usize) -> Vec<f32> {
    noise("loss", count)
}

fn inputs(sizes: &[(&'static str, usize)]) -> Inputs {
    let scaled = |name: &str, size: usize| {
        let scale = if name == "x" { 1.0 } else { 0.3 };
        noise(name, size).into_iter().map(|x| x * scale).collect()
    };
    sizes.iter().map(|(name, size)| (*name, scaled(name, *size))).collect()
}

fn layer<'a>(weight: &'a [f32], bias: &'a [f32], [input, output, stride]: [usize; 3]) -> linear::Linear<'a> {
    linear::Linear { weight, bias, input, output, stride, precision: Precision::F32 }
}

fn zeros(inputs: &Inputs) -> Vec<Vec<f32>> {
    inputs.iter().map(|(_, x)| vec![0.0; x.len()]).collect()
}

#[test]
fn branches_at_every_corner() {
    for (of, members) in FAMILIES {
        for shape in members {
            feed_forward_branch(of, *shape, None);
            for skip in [0, 1, TOKENS - 1] {
                attention_branch(of, *shape, None, skip);
            }
        }
        feed_forward_branch(of, members[1], Some(&[0.5, 1.25]));
        for skip in [0, 2] {
            attention_branch(of, members[1], Some(&[0.5, 1.25]), skip);
        }
    }
}

const IMAGES: usize = 2;
const TOKENS: usize = 3;

/// `x` and a branch that is scaled image by image.
fn along(x: &[f64], branch: Vec<f64>, path: Option<&[f32]>) -> Vec<f64> {
    let share = x.len() / IMAGES;
    let factor = |i: usize| path.map_or(1.0, |path| f64::from(path[i / share]));
    x.iter().zip(branch).enumerate().map(|(i, (x, y))| x + factor(i) * y).collect()
}

fn feed_forward_branch(of: BlockShape, shape: BlockShape, path: Option<&[f32]>) {
    let (embed, hidden) = (shape.embed, shape.hidden);
    let inputs = inputs(&[
        ("x", IMAGES * TOKENS * embed),
        ("gain", of.embed),
        ("shift", of.embed),
        ("fc1", of.embed * of.hidden),
        ("fc1 bias", of.hidden),
        ("fc2", of.hidden * of.embed),
        ("fc2 bias", of.embed),
    ]);
    let one = [embed, hidden, of.hidden];
    let two = [hidden, embed, of.embed];
    let value = |i: usize| inputs[i].1.as_slice();
    let weights = feed_forward::Weights {
        norm: norm::Norm { gain: &value(1)[..embed], bias: &value(2)[..embed] },
        fc1: layer(value(3), value(4), one),
        fc2: layer(value(5), value(6), two),
    };
    let rows = IMAGES * TOKENS;
    let (answer, kept) = feed_forward::forward(value(0), &weights, rows, NORM_EPSILON, path, true);
    let (again, none) = feed_forward::forward(value(0), &weights, rows, NORM_EPSILON, path, false);
    assert!(none.is_none() && again == answer, "without a gradient the answer is the same, bit for bit");
    let mut all = zeros(&inputs);
    let [of_x, gain, shift, w1, b1, w2, b2] = all.as_mut_slice() else { unreachable!() };
    let mut sums = feed_forward::Gradients {
        norm: norm::Gradient { gain, bias: shift },
        fc1: linear::Gradient { weight: w1, bias: b1 },
        fc2: linear::Gradient { weight: w2, bias: b2 },
    };
    *of_x = feed_forward::backward(seed(answer.len()), kept.unwrap(), &weights, rows, path, &mut sums);
    check(&format!("feed-forward {shape:?}"), &inputs, &answer, &all, |at| {
        let normed = plain::norm(&at[0], &at[1], &at[2], embed);
        let hidden =
            plain::linear(&normed, &at[3], &at[4], one).into_iter().map(plain::gelu).collect::<Vec<_>>();
        along(&at[0], plain::linear(&hidden, &at[5], &at[6], two), path)
    });
}

/// The branch for the tokens from `skip` on.
fn attention_branch(of: BlockShape, shape: BlockShape, path: Option<&[f32]>, skip: usize) {
    let (embed, width, whole) = (shape.embed, shape.heads * shape.head_dim, of.heads * of.head_dim);
    let inputs = inputs(&[
        ("x", IMAGES * TOKENS * embed),
        ("gain", of.embed),
        ("shift", of.embed),
        ("q", of.embed * whole),
        ("q bias", whole),
        ("k", of.embed * whole),
        ("k bias", whole),
        ("v", of.embed * whole),
        ("v bias", whole),
        ("proj", whole * of.embed),
        ("proj bias", of.embed),
    ]);
    let (into, out) = ([embed, width, whole], [width, embed, of.embed]);
    let value = |i: usize| inputs[i].1.as_slice();
    let weights = attention::Weights {
        norm: norm::Norm { gain: &value(1)[..embed], bias: &value(2)[..embed] },
        q: layer(value(3), value(4), into),
        k: layer(value(5), value(6), into),
        v: layer(value(7), value(8), into),
        proj: layer(value(9), value(10), out),
    };
    let sizes = attention::Shape {
        images: IMAGES,
        tokens: TOKENS,
        skip,
        heads: shape.heads,
        head_dim: shape.head_dim,
    };
    let (answer, kept) = attention::forward(value(0), &weights, sizes, NORM_EPSILON, path, true);
    let (again, none) = attention::forward(value(0), &weights, sizes, NORM_EPSILON, path, false);
    assert!(none.is_none() && again == answer, "without a gradient the answer is the same, bit for bit");
    let mut all = zeros(&inputs);
    let [of_x, gain, shift, qw, qb, kw, kb, vw, vb, pw, pb] = all.as_mut_slice() else { unreachable!() };
    let mut sums = attention::Gradients {
        norm: norm::Gradient { gain, bias: shift },
        q: linear::Gradient { weight: qw, bias: qb },
        k: linear::Gradient { weight: kw, bias: kb },
        v: linear::Gradient { weight: vw, bias: vb },
        proj: linear::Gradient { weight: pw, bias: pb },
    };
    *of_x = attention::backward(seed(answer.len()), kept.unwrap(), &weights, sizes, path, &mut sums);
    check(&format!("attention {shape:?} from token {skip}"), &inputs, &answer, &all, |at| {
        let normed = plain::norm(&at[0], &at[1], &at[2], embed);
        let [q, k, v] = [3, 5, 7].map(|i| plain::linear(&normed, &at[i], &at[i + 1], into));
        let mixed = plain::attention([&q, &k, &v], IMAGES, shape.heads, shape.head_dim);
        let all = along(&at[0], plain::linear(&mixed, &at[9], &at[10], out), path);
        all.chunks(TOKENS * embed).flat_map(|image| &image[skip * embed..]).copied().collect()
    });
}

#[test]
fn tails() {
    for (skip, normed) in [(0, true), (1, false), (2, true)] {
        let (tokens, embed, output) = (4, 21, 13);
        let inputs =
            inputs(&[("x", IMAGES * tokens * embed), ("gain", 30), ("shift", 30), ("w", 30 * 17), ("b", 17)]);
        let value = |i: usize| inputs[i].1.as_slice();
        let sizes = [embed, output, 17];
        let norm = normed.then(|| norm::Norm { gain: &value(1)[..embed], bias: &value(2)[..embed] });
        let linear = layer(value(3), value(4), sizes);
        let shape = LastRows { images: IMAGES, tokens, skip };
        let (answer, kept) = tail::forward(value(0), norm, linear, shape, NORM_EPSILON);
        let mut all = zeros(&inputs);
        let [of_x, gain, shift, w, b] = all.as_mut_slice() else { unreachable!() };
        let of_linear = linear::Gradient { weight: w, bias: b };
        let norm = norm.map(|norm| (norm, norm::Gradient { gain, bias: shift }));
        *of_x = tail::backward(&seed(answer.len()), &kept, norm, (linear, of_linear), shape);
        check(&format!("tail {skip}"), &inputs, &answer, &all, |at| {
            let rows: Vec<f64> =
                at[0].chunks(tokens * embed).flat_map(|image| &image[skip * embed..]).copied().collect();
            let rows = if normed { plain::norm(&rows, &at[1], &at[2], embed) } else { rows };
            plain::linear(&rows, &at[3], &at[4], sizes)
        });
    }
}

#[test]
fn places_of_patches() {
    let (count, pixels, width, stride, grid) = (3, 12, 13, 20, 9);
    let seen = [0u32, 4, 8, 1, 4, 7];
    let masked = [1u32, 2, 3, 0, 5, 8];
    let names = [("x", IMAGES * count * pixels), ("w", pixels * stride), ("b", stride), ("token", stride)];
    let inputs = inputs(&[&names[..], &[("positions", (1 + grid) * stride)]].concat());
    let value = |i: usize| inputs[i].1.as_slice();
    let sizes = [pixels, width, stride];
    let linear = layer(value(1), value(2), sizes);
    let positions = places::Positions { table: value(4), stride, width };
    let place = |table: &[f64], row: usize, i: usize| table[row * stride + i];

    let answer = places::embed(value(0), count, linear, value(3), positions, Some(&seen));
    let mut all = zeros(&inputs);
    let [of_x, w, b, token, table] = all.as_mut_slice() else { unreachable!() };
    of_x.clear();
    let mut sums =
        places::Gradients { linear: linear::Gradient { weight: w, bias: b }, token, positions: table };
    let gradient = seed(answer.len());
    places::embed_backward(&gradient, value(0), count, linear, positions, Some(&seen), &mut sums);
    check("embedding", &inputs, &answer, &all, |at| {
        let rows = plain::linear(&at[0], &at[1], &at[2], sizes);
        let mut out = Vec::new();
        for (image, rows) in rows.chunks(count * width).enumerate() {
            out.extend((0..width).map(|i| at[3][i] + place(&at[4], 0, i)));
            for (patch, row) in rows.chunks(width).enumerate() {
                let at_place = 1 + seen[image * count + patch] as usize;
                out.extend(row.iter().enumerate().map(|(i, x)| x + place(&at[4], at_place, i)));
            }
        }
        out
    });

    // The first of the three rows an image is its class token now.
    let (seen, hidden) = (&seen[..4], 3);
    let given = places::Hidden { images: IMAGES, seen, masked: &masked };
    let answer = places::join(value(0), linear, value(3), positions, given);
    let mut all = zeros(&inputs);
    let [of_x, w, b, token, table] = all.as_mut_slice() else { unreachable!() };
    let mut sums =
        places::Gradients { linear: linear::Gradient { weight: w, bias: b }, token, positions: table };
    *of_x = places::join_backward(&seed(answer.len()), value(0), linear, positions, given, &mut sums);
    check("joining", &inputs, &answer, &all, |at| {
        let rows = plain::linear(&at[0], &at[1], &at[2], sizes);
        let mut out = Vec::new();
        for (image, rows) in rows.chunks(count * width).enumerate() {
            for (patch, row) in rows.chunks(width).enumerate() {
                let at_place = if patch == 0 { 0 } else { 1 + seen[image * 2 + patch - 1] as usize };
                out.extend(row.iter().enumerate().map(|(i, x)| x + place(&at[4], at_place, i)));
            }
            for patch in 0..hidden {
                let at_place = 1 + masked[image * hidden + patch] as usize;
                out.extend((0..width).map(|i| at[3][i] + place(&at[4], at_place, i)));
            }
        }
        out
    });
}

#[test]
fn terms_of_the_loss() {
    let (images, tokens, width, other) = (2, 5, 7, 4);
    let count = images * tokens * width;
    let weigh = |slope: Vec<f32>| -> Vec<f32> { slope.into_iter().map(|x| x * seed(1)[0]).collect() };
    let inputs = inputs(&[("x", count), ("teacher", count), ("relations", images * tokens * other)]);
    let value = |i: usize| inputs[i].1.as_slice();
    let not_learnt = || vec![Vec::new(), Vec::new()];

    let (term, slope) = loss::mean_square(value(0), value(1));
    let gradients = [vec![weigh(slope)], not_learnt()].concat();
    check("pixel", &inputs, &[term], &gradients, |at| vec![plain::pixel(&at[0], &at[1])]);

    let (term, slope) = loss::smooth_l1(value(0), value(1), width, NORM_EPSILON);
    let gradients = [vec![weigh(slope)], not_learnt()].concat();
    check("smooth L1", &inputs, &[term], &gradients, |at| vec![plain::smooth_l1(&at[0], &at[1], width)]);

    let divergence = loss::relation(value(0), value(2), images, tokens, 0.1, 1e-6);
    let term = divergence.each.iter().sum::<f32>() / images as f32;
    let gradients = [vec![divergence.gradient(seed(1)[0])], not_learnt()].concat();
    check("relation", &inputs, &[term], &gradients, |at| {
        vec![plain::relation(&at[0], &at[2], images, tokens, 0.1)]
    });
}
