//! Rules of attention and of rotary positions.

use crate::error::Result;
use crate::graph::Node;
use crate::graph::shapes::{Call, Value};

/// Sizes of an `Attention` node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Heads {
    pub batch: usize,
    /// Heads of the queries.
    pub queries: usize,
    /// Heads of keys and values; they divide the queries' heads.
    pub keys: usize,
    /// Rows of the query.
    pub rows: usize,
    /// Keys given, without those of the past.
    pub given: usize,
    /// Keys of the past.
    pub past: usize,
    /// Width of one head of query and key.
    pub depth: usize,
    /// Width of one head of the value.
    pub width: usize,
}

/// Sizes of an attention over inputs of these shapes; `past` is the shape of the past key.
pub(crate) fn heads(
    node: &Node,
    q: &[usize],
    k: &[usize],
    v: &[usize],
    past: Option<&[usize]>,
) -> Result<Heads> {
    let misfit = || node.invalid(format!("query {q:?}, key {k:?} and value {v:?} do not fit together"));
    let count = |name: &str| {
        let heads = node.int(name).and_then(|heads| usize::try_from(heads).ok()).filter(|heads| *heads > 0);
        heads.ok_or_else(|| node.invalid(format!("attribute '{name}' must be positive for inputs of rank 3")))
    };
    let sizes = match (q, k, v) {
        ([batch, queries, rows, depth], [kb, keys, given, kd], [vb, vh, vs, width]) => {
            let fits = [kb, vb] == [batch, batch] && kd == depth && (vh, vs) == (keys, given);
            fits.then_some((*batch, *queries, *keys, *rows, *given, *depth, *width))
        }
        ([batch, rows, wide], [kb, given, kw], [vb, vs, vw]) => {
            let (queries, keys) = (count("q_num_heads")?, count("kv_num_heads")?);
            let whole = wide % queries == 0 && kw % keys == 0 && vw % keys == 0;
            let fits = [kb, vb] == [batch, batch] && vs == given && whole && wide / queries == kw / keys;
            fits.then(|| (*batch, queries, keys, *rows, *given, wide / queries, vw / keys))
        }
        _ => None,
    };
    let (batch, queries, keys, rows, given, depth, width) = sizes.ok_or_else(misfit)?;
    if keys == 0 || queries % keys != 0 {
        return Err(node.invalid(format!("{queries} heads of the query do not share {keys} of the key")));
    }
    let past = match past {
        None => 0,
        Some([b, h, past, d]) if (*b, *h, *d) == (batch, keys, depth) => *past,
        Some(other) => return Err(node.invalid(format!("the past key has shape {other:?}"))),
    };
    Ok(Heads { batch, queries, keys, rows, given, past, depth, width })
}

pub(super) fn attention(call: &Call<'_>) -> Result<Vec<Value>> {
    let (q, k, v) = (call.input(0)?, call.input(1)?, call.input(2)?);
    if call.optional(6).is_some() {
        return Err(call.node.unsupported("it has the input 'nonpad_kv_seqlen' of operator set 24"));
    }
    if q.dtype != k.dtype || q.dtype != v.dtype {
        let types = (q.dtype, k.dtype, v.dtype);
        return Err(call.node.invalid(format!("query, key and value are of the types {types:?}")));
    }
    let past = call.optional(4).map(|past| past.shape.as_slice());
    let heads = heads(call.node, &q.shape, &k.shape, &v.shape, past)?;
    let total = heads.given + heads.past;
    let shape = match q.shape.len() {
        3 => vec![heads.batch, heads.rows, heads.queries.saturating_mul(heads.width)],
        _ => vec![heads.batch, heads.queries, heads.rows, heads.width],
    };
    let out = |shape: Vec<usize>| Value::new(q.dtype, shape);
    Ok(vec![
        out(shape),
        out(vec![heads.batch, heads.keys, total, heads.depth]),
        out(vec![heads.batch, heads.keys, total, heads.width]),
        out(vec![heads.batch, heads.queries, heads.rows, total]),
    ])
}

pub(super) fn rotary(call: &Call<'_>) -> Result<Value> {
    let value = call.input(0)?;
    call.input(1)?;
    call.input(2)?;
    rotary_heads(call.node, &value.shape)?;
    Ok(Value::new(value.dtype, value.shape.clone()))
}

/// Heads, rows, width of a head and how much of it turns, of a `RotaryEmbedding` over `shape`.
pub(crate) fn rotary_heads(node: &Node, shape: &[usize]) -> Result<[usize; 4]> {
    let misfit = || node.invalid(format!("input of shape {shape:?} cannot be split into heads"));
    let [heads, rows, width] = match *shape {
        [_, heads, rows, width] => [heads, rows, width],
        [_, rows, wide] => {
            let heads = node.int("num_heads").and_then(|heads| usize::try_from(heads).ok());
            let heads = heads.filter(|heads| *heads > 0 && wide % heads == 0).ok_or_else(misfit)?;
            [heads, rows, wide / heads]
        }
        _ => return Err(misfit()),
    };
    let turned = match node.int("rotary_embedding_dim").unwrap_or(0) {
        0 => width,
        turned => usize::try_from(turned).unwrap_or(usize::MAX),
    };
    if turned % 2 != 0 || turned > width {
        return Err(node.invalid(format!("{turned} of {width} elements of a head are to turn")));
    }
    Ok([heads, rows, width, turned])
}
