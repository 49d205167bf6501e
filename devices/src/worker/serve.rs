//! The child's side.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Answer, LoadOrder, Order, ReplayOrder, limits};
use crate::engine::{Engine, EngineOptions, engine};
use crate::error::{Error, Result};
use crate::measure::{Golden, Terms, Warm};
use crate::parity::{ParityRow, row};
use crate::trace::trace_here;
use crate::wire::{Heard, Lines, from_wire, send};

/// Answers orders from `orders` on `answers` until the first ends. Meant to be all that a process does: it limits the
/// process's memory as its parent asks, and a model that crashes takes it along.
///
/// # Errors
/// When the parent speaks another language, or is gone.
pub fn serve(orders: impl Read + Send + 'static, answers: &mut dyn Write) -> Result<()> {
    let lines = Lines::read(orders);
    let mut warm: Option<Warm> = None;
    loop {
        // A parent that dies takes this process along, so there is no need to stop waiting.
        let order: Order = match lines.hear(Duration::from_secs(3600))? {
            Heard::Message(order) => order,
            Heard::Nothing => continue,
            Heard::Gone => return Ok(()),
        };
        let answer = match order {
            Order::Load(order) => {
                limits::set(order.memory_bytes);
                load(&order).map(|loaded| {
                    let facts = loaded.facts.clone();
                    warm = Some(loaded);
                    Answer::Loaded(Box::new(facts))
                })
            }
            Order::Run { count } => match &mut warm {
                Some(warm) => warm.runs(count).map(Answer::Ran),
                None => Err(Error::Caller("no model is loaded".into())),
            },
            Order::Replay(order) => {
                limits::set(order.memory_bytes);
                replay(&order).map(|row| Answer::Replayed(Box::new(row)))
            }
            Order::Trace { model, job, ort_lib, adapter, kernels, memory_bytes } => {
                limits::set(memory_bytes);
                let options = EngineOptions { ort_lib, adapter, kernels, worker: None };
                read(&model)
                    .and_then(|bytes| trace_here(&job, &bytes, &options))
                    .map(|trace| Answer::Traced(Box::new(trace)))
            }
        };
        let answer =
            answer.unwrap_or_else(|error| Answer::Failed { error: error.to_string(), given: error.given() });
        if send(answers, &answer).is_err() {
            return Ok(());
        }
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn replay(order: &ReplayOrder) -> Result<ParityRow> {
    let golden = Golden { inputs: from_wire(&order.inputs)?, outputs: from_wire(&order.outputs)? };
    let options = EngineOptions {
        ort_lib: order.ort_lib.clone(),
        adapter: order.adapter.clone(),
        kernels: order.kernels.clone(),
        worker: None,
    };
    Ok(row(&read(&order.model)?, &golden, engine(&order.engine, &options)?.as_ref()))
}

fn load(order: &LoadOrder) -> Result<Warm> {
    let bytes = read(&order.model)?;
    let golden = match &order.golden {
        Some((inputs, outputs)) => Some(Golden { inputs: from_wire(inputs)?, outputs: from_wire(outputs)? }),
        None => None,
    };
    let job = &order.job;
    let options = EngineOptions {
        ort_lib: order.ort_lib.clone(),
        adapter: order.adapter.clone(),
        kernels: order.kernels.clone(),
        worker: None,
    };
    let runner = engine(&job.engine, &options)?;
    let gate = job.gate.as_deref().map(|name| engine(name, &options)).transpose()?;
    let terms = Terms {
        provider: job.provider.as_deref(),
        shapes: &job.shapes,
        protocol: &job.protocol,
        alone: true,
    };
    Warm::up(
        &order.id,
        &bytes,
        golden.as_ref(),
        runner.as_ref(),
        gate.as_deref() as Option<&dyn Engine>,
        terms,
    )
}
