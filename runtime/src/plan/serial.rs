//! A plan as two files, for a player in another process or in a browser's page.
//!
//! - **`plan.json`**: an object with `version` ([`PLAN_VERSION`]), `name`, `target`, `inputs`, `outputs` and `buffers` as the
//!   fields of [`Plan`]. `lines` holds the different lines of all kernels, and each of `kernels` the places of its lines
//!   there, in order: kernels differ by few. Each of `dispatches` is as [`Dispatch`], its `bindings` being
//!   `[buffer, offset, bytes]` and its `nodes` being left out where there are none.
//! - **`weights.bin`**: [`Plan::weights`], in 32-bit words with the lowest byte first: the contents of the buffers whose
//!   role is `weight`, one after another in the order of `buffers`. It has as many bytes as these buffers together.
//!
//! What is read is not trusted. [`Plan::read`] gives a plan that holds together (every number it holds names something
//! that is there, no binding leaves its buffer, no dispatch writes what it reads), or an error. The texts of the kernels
//! are left to the driver's compiler, which checks them whoever wrote them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::{Binding, Buffer, BufferRole, Dispatch, PLAN_VERSION, Plan, Port, Target};

/// Bytes that `plan.json` may have, and those that its kernels' texts may have together.
pub const PLAN_BYTES_MAX: u64 = 64 << 20;
/// Bytes that all buffers of a plan may have together.
pub const BUFFER_BYTES_MAX: u64 = 1 << 40;

/// A plan as the contents of its two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFiles {
    /// `plan.json`.
    pub json: Vec<u8>,
    /// `weights.bin`.
    pub weights: Vec<u8>,
}

impl Plan {
    /// The contents of the plan's two files.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a plan with cooperative matrices, which no browser knows; [`Error::InvalidModel`] where the plan
    /// does not hold together, which none that was planned here does.
    pub fn write(&self) -> Result<PlanFiles> {
        if self.is_cooperative() {
            let why =
                "its kernels use cooperative matrices, which pages cannot play; plan it for a target without"
                    .to_owned();
            return Err(Error::Unsupported { what: format!("plan '{}' as files", self.name), why });
        }
        check(self)?;
        let json = serde_json::to_vec(&Stored::of(self));
        let json = json.map_err(|error| invalid("plan.json", error.to_string()))?;
        Ok(PlanFiles { json, weights: little_endian(self.weights.clone()) })
    }

    /// The plan whose two files have these contents.
    ///
    /// # Errors
    /// [`Error::Limit`] for more than [`PLAN_BYTES_MAX`] or [`BUFFER_BYTES_MAX`]; [`Error::Unsupported`] for another
    /// version; [`Error::InvalidModel`] for what is no plan, does not hold together, or has weights of another size.
    pub fn read(json: &[u8], weights: Vec<u8>) -> Result<Plan> {
        if json.len() as u64 > PLAN_BYTES_MAX {
            return Err(limit("the bytes of plan.json", json.len() as u64, PLAN_BYTES_MAX));
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let no_plan = |error: serde_json::Error| invalid("plan.json", error.to_string());
        // By itself first: what another version looks like is not known.
        let Versioned { version } = serde_json::from_slice(json).map_err(no_plan)?;
        if version != PLAN_VERSION {
            let why = format!("version {version}, this runtime plays {PLAN_VERSION}");
            return Err(Error::Unsupported { what: "plan.json".to_owned(), why });
        }
        let stored: Stored = serde_json::from_slice(json).map_err(no_plan)?;
        let plan = stored.plan(little_endian(weights))?;
        check(&plan)?;
        Ok(plan)
    }
}

/// `plan.json`.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    name: String,
    target: Target,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    buffers: Vec<Buffer>,
    lines: Vec<String>,
    kernels: Vec<Vec<usize>>,
    dispatches: Vec<StoredDispatch>,
}

#[derive(Serialize, Deserialize)]
struct StoredDispatch {
    kernel: usize,
    bindings: Vec<(usize, u64, u64)>,
    workgroups: [u32; 3],
    family: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
}

impl Stored {
    fn of(plan: &Plan) -> Stored {
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let mut lines = Vec::new();
        let mut place = |line| {
            *known.entry(line).or_insert_with(|| {
                lines.push(String::from(line));
                lines.len() - 1
            })
        };
        let kernels = plan.kernels.iter().map(|text| text.split('\n').map(&mut place).collect()).collect();
        let dispatch = |dispatch: &Dispatch| StoredDispatch {
            kernel: dispatch.kernel,
            bindings: dispatch.bindings.iter().map(|b| (b.buffer, b.offset, b.bytes)).collect(),
            workgroups: dispatch.workgroups,
            family: dispatch.family.clone(),
            nodes: dispatch.nodes.clone(),
        };
        Stored {
            version: plan.version,
            name: plan.name.clone(),
            target: plan.target.clone(),
            inputs: plan.inputs.clone(),
            outputs: plan.outputs.clone(),
            buffers: plan.buffers.clone(),
            lines,
            kernels,
            dispatches: plan.dispatches.iter().map(dispatch).collect(),
        }
    }

    fn plan(self, weights: Vec<u8>) -> Result<Plan> {
        let mut kernels = Vec::new();
        let mut bytes = 0u64;
        for (at, places) in self.kernels.iter().enumerate() {
            let mut text = Vec::new();
            for place in places {
                let line = self.lines.get(*place).ok_or_else(|| {
                    let why = format!("it wants line {place} of {}", self.lines.len());
                    invalid(format!("kernel {at} of the plan"), why)
                })?;
                // A small file may name a long line often.
                bytes += line.len() as u64 + 1;
                if bytes > PLAN_BYTES_MAX {
                    return Err(limit("the bytes of the plan's kernels", bytes, PLAN_BYTES_MAX));
                }
                text.push(line.as_str());
            }
            kernels.push(text.join("\n"));
        }
        let binding = |(buffer, offset, bytes)| Binding { buffer, offset, bytes };
        let dispatch = |stored: StoredDispatch| Dispatch {
            kernel: stored.kernel,
            bindings: stored.bindings.into_iter().map(binding).collect(),
            workgroups: stored.workgroups,
            family: stored.family,
            nodes: stored.nodes,
        };
        Ok(Plan {
            version: self.version,
            name: self.name,
            target: self.target,
            inputs: self.inputs,
            outputs: self.outputs,
            buffers: self.buffers,
            kernels,
            dispatches: self.dispatches.into_iter().map(dispatch).collect(),
            weights,
        })
    }
}

/// Words between this machine's order of bytes and the files', which are the same on most machines.
fn little_endian(mut bytes: Vec<u8>) -> Vec<u8> {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    }
    bytes
}

fn invalid(what: impl Into<String>, why: impl Into<String>) -> Error {
    Error::InvalidModel { what: what.into(), why: why.into() }
}

fn limit(what: impl Into<String>, got: u64, limit: u64) -> Error {
    Error::Limit { what: what.into(), got, limit }
}

/// Whether the plan holds together.
fn check(plan: &Plan) -> Result<()> {
    let mut total = 0u64;
    for (at, buffer) in plan.buffers.iter().enumerate() {
        if buffer.bytes == 0 || buffer.bytes % 16 != 0 {
            let why = format!("it has {} bytes, not a multiple of 16", buffer.bytes);
            return Err(invalid(format!("buffer {at} of the plan"), why));
        }
        total = total.saturating_add(buffer.bytes);
    }
    if total > BUFFER_BYTES_MAX {
        return Err(limit("the bytes of the plan's buffers", total, BUFFER_BYTES_MAX));
    }
    let weights = plan.buffers.iter().filter(|b| b.role == BufferRole::Weight).map(|b| b.bytes).sum::<u64>();
    if weights != plan.weights.len() as u64 {
        let why = format!("it has {} bytes, the plan's buffers want {weights}", plan.weights.len());
        return Err(invalid("weights.bin", why));
    }
    check_ports(plan, &plan.inputs, BufferRole::Input)?;
    check_ports(plan, &plan.outputs, BufferRole::Output)?;
    // How many bindings each kernel has: all its dispatches share one layout.
    let mut bound = vec![None; plan.kernels.len()];
    for (at, dispatch) in plan.dispatches.iter().enumerate() {
        check_dispatch(plan, dispatch, &mut bound)
            .map_err(|why| invalid(format!("dispatch {at} of the plan"), why))?;
    }
    match bound.iter().position(Option::is_none) {
        Some(kernel) => Err(invalid(format!("kernel {kernel} of the plan"), "no dispatch runs it")),
        None => Ok(()),
    }
}

/// Whether inputs or outputs fit buffers of their own, of the right role.
fn check_ports(plan: &Plan, ports: &[Port], role: BufferRole) -> Result<()> {
    for (at, port) in ports.iter().enumerate() {
        let bad = |why: String| invalid(format!("value '{}' of the plan", port.name), why);
        let buffer = plan.buffers.get(port.buffer).filter(|buffer| buffer.role == role);
        let Some(buffer) = buffer else {
            return Err(bad(format!("buffer {} is none of its kind", port.buffer)));
        };
        let elements =
            port.shape.iter().try_fold(1u64, |product, extent| product.checked_mul(*extent as u64));
        let bytes = elements.and_then(|elements| elements.checked_mul(4));
        if bytes.is_none_or(|bytes| bytes == 0 || bytes > buffer.bytes) {
            return Err(bad(format!("a shape of {:?} in a buffer of {} bytes", port.shape, buffer.bytes)));
        }
        let again = |other: &Port| other.buffer == port.buffer || other.name == port.name;
        if ports.iter().take(at).any(again) {
            return Err(bad("another value has its name or its buffer".to_owned()));
        }
    }
    match plan.buffers.iter().filter(|buffer| buffer.role == role).count() {
        count if count == ports.len() => Ok(()),
        count => Err(invalid("the plan", format!("{count} buffers for {} {role:?} values", ports.len()))),
    }
}

/// Whether what a dispatch names is there; or what is wrong with it.
fn check_dispatch(
    plan: &Plan,
    dispatch: &Dispatch,
    bound: &mut [Option<usize>],
) -> std::result::Result<(), String> {
    let Dispatch { kernel, bindings, workgroups, .. } = dispatch;
    let count = bound.get_mut(*kernel).ok_or_else(|| format!("there is no kernel {kernel}"))?;
    if *count.get_or_insert(bindings.len()) != bindings.len() {
        return Err(format!(
            "{} bindings, another dispatch of kernel {kernel} has {count:?}",
            bindings.len()
        ));
    }
    let most = plan.target.max_compute_workgroups_per_dimension;
    if workgroups.iter().any(|groups| !(1..=most).contains(groups)) {
        return Err(format!("{workgroups:?} workgroups are outside 1 to {most}"));
    }
    let (written, read) = bindings.split_last().ok_or("it has no bindings")?;
    for Binding { buffer, offset, bytes } in bindings {
        let Buffer { bytes: size, .. } =
            plan.buffers.get(*buffer).ok_or_else(|| format!("there is no buffer {buffer}"))?;
        let inside = offset.checked_add(*bytes).is_some_and(|end| end <= *size);
        if !inside || *bytes == 0 || offset % 256 != 0 || bytes % 16 != 0 {
            return Err(format!("{bytes} bytes from byte {offset} of the {size} of buffer {buffer}"));
        }
    }
    if read.iter().any(|binding| binding.buffer == written.buffer) {
        return Err(format!("it reads and writes buffer {}", written.buffer));
    }
    match plan.buffers.get(written.buffer).map(|buffer| buffer.role) {
        Some(BufferRole::Output | BufferRole::Scratch) => Ok(()),
        _ => Err(format!("it writes buffer {}, which is only read", written.buffer)),
    }
}
