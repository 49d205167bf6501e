//! Buffers for values, and the finished plan.
//!
//! Inputs and outputs have buffers of their own, weights lie packed in few, and scratch buffers are
//! used again once their value is dead. A kernel's output never shares a buffer with what it reads,
//! because WebGPU forbids binding one read-only and read-write in one dispatch.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels::{Kernel, Op, Target, generate};
use crate::plan::program::{Program, Role, Value};
use crate::plan::{Binding, Buffer, BufferRole, Dispatch, PLAN_VERSION, Plan, Port};
use crate::tensor::{Data, Dtype, Number, f32_to_bf16, f32_to_half, numbers};

/// Offsets of bindings are multiples of this on every adapter.
const ALIGN: u64 = 256;
/// Bytes of one element on the adapter, whatever its type; of the weights that are kept in 16 bits two have room there.
const WORD: u64 = 4;

fn round(bytes: u64, to: u64) -> u64 {
    bytes.div_ceil(to) * to
}

struct Assigner<'a> {
    target: &'a Target,
    buffers: Vec<Buffer>,
    places: Vec<Option<Binding>>,
    weights: Vec<u8>,
    free: Vec<usize>,
}

/// Writes the kernels of `program` and gives its values buffers.
pub(super) fn assign(graph: &Graph, program: &Program, target: &Target, reuse: bool) -> Result<Plan> {
    let mut assigner = Assigner {
        target,
        buffers: Vec::new(),
        places: vec![None; program.values.len()],
        weights: Vec::new(),
        free: Vec::new(),
    };
    let mut kernels: Vec<String> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut written = Vec::with_capacity(program.ops.len());
    for op in &program.ops {
        check(program, op)?;
        written.push(generate(op, target)?);
    }
    let ports = |role: Role| program.values.iter().enumerate().filter(move |(_, v)| v.role == role);
    for (role, buffer_role) in [(Role::Input, BufferRole::Input), (Role::Output, BufferRole::Output)] {
        for (index, value) in ports(role) {
            assigner.whole(index, value, buffer_role)?;
        }
    }
    let mut used = vec![false; program.values.len()];
    let mut last_read = vec![0usize; program.values.len()];
    for (at, kernel) in written.iter().enumerate() {
        for value in &kernel.reads {
            if let (Some(flag), Some(last)) = (used.get_mut(*value), last_read.get_mut(*value)) {
                *flag = true;
                *last = at;
            }
        }
    }
    assigner.pack(program, &used)?;
    let mut dispatches = Vec::with_capacity(written.len());
    for (at, (op, kernel)) in program.ops.iter().zip(written).enumerate() {
        let Kernel { wgsl, reads, workgroups } = kernel;
        let output = op.output.value;
        if assigner.places.get(output).is_some_and(Option::is_none)
            && let Some(value) = program.values.get(output)
        {
            assigner.scratch(output, value, reuse)?;
        }
        let mut bindings = Vec::with_capacity(reads.len() + 1);
        for value in reads.iter().chain([&output]) {
            let place = assigner.places.get(*value).copied().flatten();
            bindings.push(place.ok_or_else(|| {
                let what =
                    program.values.get(*value).map_or(String::new(), |v| format!("value '{}'", v.name));
                Error::InvalidModel { what, why: "it is read before it is written".to_owned() }
            })?);
        }
        for value in reads {
            let dead = last_read.get(value) == Some(&at);
            let scratch = program.values.get(value).is_some_and(|v| v.role == Role::Scratch);
            if reuse && dead && scratch {
                assigner.release(value);
            }
        }
        let next = kernels.len();
        let index = *known.entry(wgsl.clone()).or_insert(next);
        if index == next {
            kernels.push(wgsl);
        }
        let family = op.core.name().to_owned();
        dispatches.push(Dispatch { kernel: index, bindings, workgroups, family, nodes: op.nodes.clone() });
    }
    let port = |(index, value): (usize, &Value)| Port {
        name: value.name.clone(),
        dtype: value.dtype,
        shape: value.shape.clone(),
        buffer: assigner.places.get(index).copied().flatten().map_or(0, |b| b.buffer),
    };
    let (inputs, outputs) = (ports(Role::Input).map(port).collect(), ports(Role::Output).map(port).collect());
    Ok(Plan {
        version: PLAN_VERSION,
        name: graph.name.clone(),
        target: target.clone(),
        inputs,
        outputs,
        buffers: assigner.buffers.clone(),
        kernels,
        dispatches,
        weights: std::mem::take(&mut assigner.weights),
    })
}

/// Checks that every view stays within its value: an index beyond would read another value's bytes.
fn check(program: &Program, op: &Op) -> Result<()> {
    for operand in op.inputs.iter().chain([&op.output]) {
        let value = program.values.get(operand.value);
        let elements = value.map_or(0, Value::elements) as i64;
        let inside = operand.view.range().is_some_and(|(least, greatest)| least >= 0 && greatest < elements);
        if !inside {
            let node = op.nodes.first().map_or("", String::as_str);
            let name = value.map_or("", |v| v.name.as_str());
            return Err(Error::InvalidModel {
                what: format!("node '{node}'"),
                why: format!("it reads beyond the {elements} elements of '{name}'"),
            });
        }
    }
    Ok(())
}

impl Assigner<'_> {
    /// Bytes of a value on the adapter, checked against the target's limits.
    fn bytes(&self, value: &Value) -> Result<u64> {
        let each = if halved(value) { WORD / 2 } else { WORD };
        let bytes = round(value.elements() as u64 * each, 16);
        let limit = self.target.max_storage_buffer_binding_size.min(self.target.max_buffer_size);
        if bytes > limit {
            let what = format!("the bytes of value '{}' on this adapter", value.name);
            return Err(Error::Limit { what, got: bytes, limit });
        }
        Ok(bytes)
    }

    fn place(&mut self, index: usize, binding: Binding) {
        if let Some(place) = self.places.get_mut(index) {
            *place = Some(binding);
        }
    }

    /// A buffer for `value` alone.
    fn whole(&mut self, index: usize, value: &Value, role: BufferRole) -> Result<()> {
        let bytes = self.bytes(value)?;
        self.buffers.push(Buffer { bytes, role });
        self.place(index, Binding { buffer: self.buffers.len() - 1, offset: 0, bytes });
        Ok(())
    }

    /// The constants that kernels read, packed into as few buffers as one binding can span.
    fn pack(&mut self, program: &Program, used: &[bool]) -> Result<()> {
        let most = self.target.max_buffer_size;
        let mut current: Option<usize> = None;
        for (index, value) in program.values.iter().enumerate() {
            let Some(tensor) = value.constant.as_ref().filter(|_| used.get(index) == Some(&true)) else {
                continue;
            };
            let bytes = self.bytes(value)?;
            let fits = |buffer: &usize| {
                self.buffers.get(*buffer).is_some_and(|b| round(b.bytes, ALIGN) + bytes <= most)
            };
            let buffer = match current.filter(fits) {
                Some(buffer) => buffer,
                None => {
                    self.buffers.push(Buffer { bytes: 0, role: BufferRole::Weight });
                    self.buffers.len() - 1
                }
            };
            let fresh = current != Some(buffer);
            current = Some(buffer);
            let Some(slot) = self.buffers.get_mut(buffer) else { continue };
            let offset = if fresh { 0 } else { round(slot.bytes, ALIGN) };
            let gap = usize::try_from(offset - slot.bytes).unwrap_or(0);
            slot.bytes = offset + bytes;
            self.weights.resize(self.weights.len() + gap, 0);
            let end = self.weights.len() + usize::try_from(bytes).unwrap_or(0);
            match tensor.data() {
                Data::Other(_, halves) if halved(value) => write_halves(&mut self.weights, halves),
                data => write(&mut self.weights, &value.name, data)?,
            }
            self.weights.resize(end, 0);
            self.place(index, Binding { buffer, offset, bytes });
        }
        Ok(())
    }

    /// A free buffer for a scratch value, or a new one.
    fn scratch(&mut self, index: usize, value: &Value, reuse: bool) -> Result<()> {
        let bytes = self.bytes(value)?;
        let size = |buffer: &usize| self.buffers.get(*buffer).map_or(0, |b| b.bytes);
        // The smallest that is large enough, else the largest, which then grows.
        let best = self.free.iter().copied().enumerate().min_by_key(|(_, buffer)| match size(buffer) {
            large if large >= bytes => (0, large - bytes),
            small => (1, bytes - small),
        });
        let buffer = match best.filter(|_| reuse) {
            Some((place, buffer)) => {
                self.free.swap_remove(place);
                buffer
            }
            None => {
                self.buffers.push(Buffer { bytes: 0, role: BufferRole::Scratch });
                self.buffers.len() - 1
            }
        };
        if let Some(slot) = self.buffers.get_mut(buffer) {
            slot.bytes = slot.bytes.max(bytes);
        }
        self.place(index, Binding { buffer, offset: 0, bytes });
        Ok(())
    }

    /// Gives the buffer of a value that nothing reads any more back.
    fn release(&mut self, value: usize) {
        if let Some(Some(binding)) = self.places.get(value)
            && !self.free.contains(&binding.buffer)
        {
            self.free.push(binding.buffer);
        }
    }
}

/// One word of the adapter as an element of a type that only files have.
fn narrow(dtype: Dtype, word: [u8; 4]) -> Vec<u8> {
    let (float, integer) = (f32::from_ne_bytes(word), i32::from_ne_bytes(word));
    match dtype {
        Dtype::F16 => f32_to_half(float).to_le_bytes().to_vec(),
        Dtype::Bf16 => f32_to_bf16(float).to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(float).to_le_bytes().to_vec(),
        Dtype::I16 | Dtype::U16 => (integer as i16).to_le_bytes().to_vec(),
        Dtype::U64 => i64::from(integer).to_le_bytes().to_vec(),
        _ => integer.to_le_bytes().to_vec(),
    }
}

/// Whether a value is a constant that stays in 16-bit floats on the adapter: what a file gives so is widened before.
fn halved(value: &Value) -> bool {
    value.dtype == Dtype::F16 && value.constant.is_some()
}

/// Appends 16-bit floats, two to a word with the first in its low half, whatever this machine's order of bytes.
fn write_halves(bytes: &mut Vec<u8>, halves: &[u8]) {
    for pair in halves.chunks(4) {
        let word = pair.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
}

/// Appends elements as the adapter holds them.
fn write(bytes: &mut Vec<u8>, name: &str, data: &Data) -> Result<()> {
    match data {
        Data::F32(values) => bytes.extend_from_slice(bytemuck::cast_slice(values)),
        Data::I32(values) => bytes.extend_from_slice(bytemuck::cast_slice(values)),
        Data::I64(values) => {
            for value in values.iter() {
                bytes.extend_from_slice(&word(name, *value)?.to_ne_bytes());
            }
        }
        Data::U8(values) => values.iter().for_each(|v| bytes.extend_from_slice(&i32::from(*v).to_ne_bytes())),
        Data::I8(values) => values.iter().for_each(|v| bytes.extend_from_slice(&i32::from(*v).to_ne_bytes())),
        Data::Bool(values) => {
            values.iter().for_each(|v| bytes.extend_from_slice(&i32::from(*v).to_ne_bytes()))
        }
        Data::Other(..) => {
            for number in numbers(data) {
                match number {
                    Some(Number::Float(value)) => bytes.extend_from_slice(&(value as f32).to_ne_bytes()),
                    Some(Number::Int(value)) => bytes.extend_from_slice(&word(name, value)?.to_ne_bytes()),
                    None => return Err(too_wide(name, "an integer")),
                }
            }
        }
        Data::Unset(_) => return Err(Error::Unset { value: name.to_owned() }),
    }
    Ok(())
}

/// A 64-bit integer as the adapter's 32-bit one.
fn word(name: &str, value: i64) -> Result<i32> {
    i32::try_from(value).map_err(|_| too_wide(name, &value.to_string()))
}

fn too_wide(name: &str, value: &str) -> Error {
    Error::Unsupported {
        what: format!("value '{name}'"),
        why: format!("it holds {value} beyond the adapter's 32-bit integers"),
    }
}

/// The elements of an input as the adapter holds them.
///
/// # Errors
/// [`Error::Unset`] for a tensor without elements; [`Error::Unsupported`] for 64-bit integers that do
/// not fit 32 bits.
pub fn to_words(name: &str, data: &Data) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(&mut bytes, name, data)?;
    Ok(bytes)
}

/// The elements of an output from the bytes that the adapter holds; `elements` of type `dtype`.
pub fn from_words(dtype: Dtype, elements: usize, bytes: &[u8]) -> Data {
    let words = bytes.chunks_exact(4).take(elements).map(|c| [c[0], c[1], c[2], c[3]]);
    let integers = words.clone().map(i32::from_ne_bytes);
    match dtype {
        Dtype::F32 => Data::F32(words.map(f32::from_ne_bytes).collect()),
        Dtype::I64 => Data::I64(integers.map(i64::from).collect()),
        Dtype::I32 => Data::I32(integers.collect()),
        Dtype::U8 => Data::U8(integers.map(|v| v as u8).collect()),
        Dtype::I8 => Data::I8(integers.map(|v| v as i8).collect()),
        Dtype::Bool => Data::Bool(integers.map(|v| v != 0).collect()),
        other => Data::Other(other, words.flat_map(|word| narrow(other, word)).collect()),
    }
}
