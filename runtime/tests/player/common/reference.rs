//! A plain CPU reference of the operators, in 64-bit floats and with no shared code: loops over
//! coordinates, nothing clever.

use std::collections::BTreeMap;

use masktas_runtime::{Data, Dtype, Graph, Node, Tensor};

#[derive(Clone)]
struct Value {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<f64>,
}

fn from(tensor: &Tensor) -> Value {
    let data = match tensor.data() {
        Data::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::I64(v) => v.iter().map(|x| *x as f64).collect(),
        Data::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
        other => panic!("reference: {other:?}"),
    };
    Value { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data }
}

fn to(value: &Value) -> Tensor {
    let data = match value.dtype {
        Dtype::F32 => Data::F32(value.data.iter().map(|v| *v as f32).collect()),
        Dtype::I64 => Data::I64(value.data.iter().map(|v| *v as i64).collect()),
        Dtype::I32 => Data::I32(value.data.iter().map(|v| *v as i32).collect()),
        Dtype::Bool => Data::Bool(value.data.iter().map(|v| *v != 0.0).collect()),
        other => panic!("reference: {other:?}"),
    };
    Tensor::new(value.shape.clone(), data).unwrap()
}

fn coordinates(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for extent in shape {
        all =
            all.into_iter().flat_map(|c| (0..*extent).map(move |i| [c.clone(), vec![i]].concat())).collect();
    }
    all
}

impl Value {
    fn new(dtype: Dtype, shape: &[usize], f: impl FnMut(&[usize]) -> f64) -> Value {
        let mut f = f;
        let data = coordinates(shape).iter().map(|c| f(c)).collect();
        Value { dtype, shape: shape.to_vec(), data }
    }

    fn at(&self, c: &[usize]) -> f64 {
        let mut index = 0;
        for (i, extent) in c.iter().zip(&self.shape) {
            assert!(i < extent);
            index = index * extent + i;
        }
        self.data[index]
    }

    /// At coordinates of a shape that this one broadcasts to.
    fn spread(&self, c: &[usize]) -> f64 {
        let lead = c.len() - self.shape.len();
        let own: Vec<usize> =
            self.shape.iter().enumerate().map(|(i, e)| if *e == 1 { 0 } else { c[lead + i] }).collect();
        self.at(&own)
    }
}

/// The error function by its Taylor series, or by the continued fraction of erfc beyond 2.5.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..120 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return x.signum() * sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut fraction = a;
    for k in (1..200).rev() {
        fraction = a + f64::from(k) / 2.0 / fraction;
    }
    x.signum() * (1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt())
}

pub fn run(graph: &Graph, inputs: &[(String, Tensor)]) -> Vec<Tensor> {
    let shapes = graph.shapes(&BTreeMap::new()).unwrap();
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    for (name, tensor) in graph.constants.iter().chain(inputs.iter().map(|(n, t)| (n, t))) {
        values.insert(name.clone(), from(tensor));
    }
    for node in &graph.nodes {
        let ins: Vec<Option<Value>> = node.inputs.iter().map(|n| values.get(n).cloned()).collect();
        for (index, name) in node.outputs.iter().enumerate() {
            let (dtype, shape) = shapes[name].clone();
            values.insert(name.clone(), compute(node, &ins, index, dtype, &shape));
        }
    }
    graph.outputs.iter().map(|info| to(&values[&info.name])).collect()
}

fn compute(node: &Node, ins: &[Option<Value>], index: usize, dtype: Dtype, shape: &[usize]) -> Value {
    let x = |i: usize| ins[i].as_ref().unwrap();
    let has = |i: usize| ins.get(i).is_some_and(Option::is_some);
    let unary = |f: &dyn Fn(f64) -> f64| Value::new(dtype, shape, |c| f(x(0).at(c)));
    let binary =
        |f: &dyn Fn(f64, f64) -> f64| Value::new(dtype, shape, |c| f(x(0).spread(c), x(1).spread(c)));
    let test = |f: &dyn Fn(f64, f64) -> bool| binary(&|a, b| f64::from(u8::from(f(a, b))));
    let rank = |i: usize| x(i).shape.len();
    let axis = |default: i64, rank: usize| {
        let a = node.int("axis").unwrap_or(default);
        (if a < 0 { a + rank as i64 } else { a }) as usize
    };
    let moved = |f: &mut dyn FnMut(&[usize]) -> Vec<usize>| Value::new(dtype, shape, |c| x(0).at(&f(c)));
    match node.op.as_str() {
        "Add" => binary(&|a, b| a + b),
        "Sub" => binary(&|a, b| a - b),
        "Mul" => binary(&|a, b| a * b),
        "Div" => binary(&|a, b| if dtype == Dtype::F32 { a / b } else { (a / b).trunc() }),
        "Pow" => binary(&|a, b| a.powf(b)),
        "Max" => binary(&f64::max),
        "Min" => binary(&f64::min),
        "Equal" => test(&|a, b| a == b),
        "Less" => test(&|a, b| a < b),
        "Greater" => test(&|a, b| a > b),
        "GreaterOrEqual" => test(&|a, b| a >= b),
        "Where" => {
            Value::new(dtype, shape, |c| if x(0).spread(c) != 0.0 { x(1).spread(c) } else { x(2).spread(c) })
        }
        "Sqrt" => unary(&f64::sqrt),
        "Exp" => unary(&f64::exp),
        "Log" => unary(&f64::ln),
        "Erf" => unary(&erf),
        "Tanh" => unary(&f64::tanh),
        "Sigmoid" => unary(&|v| 1.0 / (1.0 + (-v).exp())),
        "Relu" => unary(&|v| if v < 0.0 { 0.0 } else { v }),
        "Neg" => unary(&|v| -v),
        "Abs" => unary(&f64::abs),
        "Reciprocal" => unary(&|v| 1.0 / v),
        "HardSwish" => unary(&|v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
        "HardSigmoid" => unary(&|v| (0.2 * v + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => {
            unary(&|v| if v < 0.0 { v * f64::from(node.float("alpha").unwrap_or(0.01)) } else { v })
        }
        "Clip" => {
            let low = if has(1) { x(1).data[0] } else { f64::NEG_INFINITY };
            let high = if has(2) { x(2).data[0] } else { f64::INFINITY };
            unary(&|v| v.max(low).min(high))
        }
        "Gelu" if node.text("approximate") == Some("tanh") => unary(&|v| {
            0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v)).tanh())
        }),
        "Gelu" => unary(&|v| 0.5 * v * (1.0 + erf(v / 2f64.sqrt()))),
        "Cast" => unary(&|v| match dtype {
            Dtype::F32 => v,
            Dtype::Bool => f64::from(u8::from(v != 0.0)),
            _ => v.trunc(),
        }),
        "MatMul" => {
            let (mut a, mut b) = (x(0).clone(), x(1).clone());
            let mut full = shape.to_vec();
            if a.shape.len() == 1 {
                a.shape.insert(0, 1);
                full.insert(full.len() - usize::from(b.shape.len() > 1), 1);
            }
            if b.shape.len() == 1 {
                b.shape.push(1);
                full.push(1);
            }
            let depth = *a.shape.last().unwrap();
            let out = Value::new(dtype, &full, |c| {
                let (batch, mn) = c.split_at(c.len() - 2);
                (0..depth)
                    .map(|k| {
                        a.spread(&[batch, &[mn[0], k]].concat()) * b.spread(&[batch, &[k, mn[1]]].concat())
                    })
                    .sum()
            });
            Value { shape: shape.to_vec(), ..out }
        }
        "Gemm" => {
            let (ta, tb) = (node.int("transA").unwrap_or(0) != 0, node.int("transB").unwrap_or(0) != 0);
            let (alpha, beta) = (node.float("alpha").unwrap_or(1.0), node.float("beta").unwrap_or(1.0));
            let depth = x(0).shape[usize::from(!ta)];
            Value::new(dtype, shape, |c| {
                let a = |k: usize| x(0).at(&if ta { [k, c[0]] } else { [c[0], k] });
                let b = |k: usize| x(1).at(&if tb { [c[1], k] } else { [k, c[1]] });
                let sum: f64 = (0..depth).map(|k| a(k) * b(k)).sum();
                f64::from(alpha) * sum + if has(2) { f64::from(beta) * x(2).spread(c) } else { 0.0 }
            })
        }
        "Conv" => {
            let get = |name: &str, default: i64| node.ints(name).map_or(vec![default; 4], <[i64]>::to_vec);
            let (strides, pads, dilations) = (get("strides", 1), get("pads", 0), get("dilations", 1));
            let groups = node.int("group").unwrap_or(1) as usize;
            let w = x(1);
            let per_group = shape[1] / groups;
            Value::new(dtype, shape, |c| {
                let mut sum = if has(2) { x(2).at(&[c[1]]) } else { 0.0 };
                for d in coordinates(&w.shape[1..]) {
                    let row = c[2] as i64 * strides[0] + d[1] as i64 * dilations[0] - pads[0];
                    let column = c[3] as i64 * strides[1] + d[2] as i64 * dilations[1] - pads[1];
                    let channel = c[1] / per_group * w.shape[1] + d[0];
                    let inside = row >= 0
                        && column >= 0
                        && row < x(0).shape[2] as i64
                        && column < x(0).shape[3] as i64;
                    if inside {
                        sum += x(0).at(&[c[0], channel, row as usize, column as usize])
                            * w.at(&[c[1], d[0], d[1], d[2]]);
                    }
                }
                sum
            })
        }
        "LayerNormalization" | "RMSNormalization" => {
            let first = axis(-1, rank(0));
            let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
            let tail = coordinates(&shape[first..]);
            Value::new(dtype, shape, |c| {
                let row: Vec<f64> = tail.iter().map(|t| x(0).at(&[&c[..first], t].concat())).collect();
                let centred = node.op == "LayerNormalization";
                let mean = if centred { row.iter().sum::<f64>() / row.len() as f64 } else { 0.0 };
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row.len() as f64;
                let y = (x(0).at(c) - mean) / (variance + epsilon).sqrt();
                y * x(1).spread(c) + if has(2) { x(2).spread(c) } else { 0.0 }
            })
        }
        "Softmax" => {
            let along = axis(-1, rank(0));
            Value::new(dtype, shape, |c| {
                let row: Vec<f64> = (0..shape[along])
                    .map(|i| {
                        let mut d = c.to_vec();
                        d[along] = i;
                        x(0).at(&d)
                    })
                    .collect();
                let peak = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                (x(0).at(c) - peak).exp() / row.iter().map(|v| (v - peak).exp()).sum::<f64>()
            })
        }
        _ if !has(1) && node.int("noop_with_empty_axes") == Some(1) => x(0).clone(),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "GlobalAveragePool" => {
            let r = rank(0) as i64;
            let axes: Vec<usize> = match node.op.as_str() {
                "GlobalAveragePool" => vec![2, 3],
                _ if has(1) => x(1).data.iter().map(|a| (*a as i64).rem_euclid(r) as usize).collect(),
                _ => (0..r as usize).collect(),
            };
            let keep = node.int("keepdims").unwrap_or(1) != 0;
            let inner: Vec<usize> = axes.iter().map(|a| x(0).shape[*a]).collect();
            Value::new(dtype, shape, |c| {
                let mut kept = c.iter().copied();
                let mut base: Vec<usize> = Vec::new();
                for a in 0..r as usize {
                    let reduced = axes.contains(&a);
                    base.push(if reduced {
                        if keep {
                            kept.next();
                        }
                        0
                    } else {
                        kept.next().unwrap()
                    });
                }
                let all: Vec<f64> = coordinates(&inner)
                    .iter()
                    .map(|d| {
                        let mut at = base.clone();
                        for (a, i) in axes.iter().zip(d) {
                            at[*a] = *i;
                        }
                        x(0).at(&at)
                    })
                    .collect();
                match node.op.as_str() {
                    "ReduceSum" => all.iter().sum(),
                    "ReduceMax" => all.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    "ReduceMin" => all.iter().copied().fold(f64::INFINITY, f64::min),
                    _ => all.iter().sum::<f64>() / all.len() as f64,
                }
            })
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" => {
            Value { dtype, shape: shape.to_vec(), data: x(0).data.clone() }
        }
        "Transpose" => {
            let order: Vec<usize> = match node.ints("perm") {
                Some(perm) => perm.iter().map(|a| *a as usize).collect(),
                None => (0..rank(0)).rev().collect(),
            };
            moved(&mut |c| {
                let mut source = vec![0; c.len()];
                for (i, a) in order.iter().enumerate() {
                    source[*a] = c[i];
                }
                source
            })
        }
        "Slice" => moved(&mut |c| {
            let mut source: Vec<i64> = c.iter().map(|i| *i as i64).collect();
            for (i, start) in x(1).data.iter().enumerate() {
                let a = if has(3) { (x(3).data[i] as i64).rem_euclid(c.len() as i64) as usize } else { i };
                let step = if has(4) { x(4).data[i] as i64 } else { 1 };
                let n = x(0).shape[a] as i64;
                let start = *start as i64;
                let start = if start < 0 { start + n } else { start };
                let start = if step > 0 { start.clamp(0, n) } else { start.clamp(-1, n - 1) };
                source[a] = start + source[a] * step;
            }
            source.iter().map(|i| *i as usize).collect()
        }),
        "Split" => {
            let a = axis(0, rank(0));
            let first: usize = if has(1) {
                x(1).data.iter().take(index).map(|v| *v as usize).sum()
            } else {
                index * x(0).shape[a].div_ceil(node.outputs.len())
            };
            moved(&mut |c| {
                let mut source = c.to_vec();
                source[a] += first;
                source
            })
        }
        "Expand" => Value::new(dtype, shape, |c| x(0).spread(c)),
        "Concat" => {
            let a = axis(0, shape.len());
            Value::new(dtype, shape, |c| {
                let mut source = c.to_vec();
                for value in ins.iter().flatten() {
                    if source[a] < value.shape[a] {
                        return value.at(&source);
                    }
                    source[a] -= value.shape[a];
                }
                panic!("reference: concat")
            })
        }
        "Gather" => {
            let a = axis(0, rank(0));
            let extent = x(0).shape[a] as i64;
            Value::new(dtype, shape, |c| {
                let index = x(1).at(&c[a..a + rank(1)]) as i64;
                if index < -extent || index >= extent {
                    return f64::NAN;
                }
                x(0).at(&[&c[..a], &[index.rem_euclid(extent) as usize], &c[a + rank(1)..]].concat())
            })
        }
        other => panic!("reference: no {other}"),
    }
}
