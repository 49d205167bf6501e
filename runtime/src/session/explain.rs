//! A loaded model's plan as text: what runs where, from which nodes.

use std::fmt;

use super::Info;
use crate::plan::BufferRole;

/// Nodes named of one dispatch; the others are counted.
const NAMED: usize = 3;

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A heading with the adapter, the passes and the memory, then a line for each dispatch: its number, the
/// kernel's family and number, workgroups, the buffers read and written, and the nodes it stands for.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}", self.name, self.adapter)?;
        if let Some(passes) = &self.passes {
            let named = |on: bool| {
                let names: Vec<&str> =
                    passes.named().into_iter().filter(|(_, o)| *o == on).map(|(n, _)| n).collect();
                if names.is_empty() { "none".to_owned() } else { names.join(" ") }
            };
            writeln!(f, "passes      {}", named(true))?;
            writeln!(f, "switched off {}", named(false))?;
        }
        let wide = match self.wide_products {
            0 => String::new(),
            1 => "; 1 product keeps its weights in 32 bits".to_owned(),
            many => format!("; {many} products keep their weights in 32 bits"),
        };
        let rounded = match self.rounded_products {
            0 => String::new(),
            1 => "; 1 product rounds its rows to 16 bits".to_owned(),
            many => format!("; {many} products round their rows to 16 bits"),
        };
        writeln!(f, "precision   {}{wide}{rounded}", self.precision)?;
        writeln!(f, "dispatches  {}", self.dispatches.len())?;
        writeln!(f, "pipelines   {}", self.pipelines)?;
        let count = |role: BufferRole| self.buffers.iter().filter(|buffer| buffer.role == role).count();
        let memory = &self.memory;
        writeln!(
            f,
            "buffers     {}: weights {} in {}, between kernels {} in {}, inputs and outputs {}, read-back {}; {} in all",
            self.buffers.len(),
            size(memory.weights),
            count(BufferRole::Weight),
            size(memory.scratch),
            count(BufferRole::Scratch),
            size(memory.ports),
            size(memory.staging),
            size(memory.total()),
        )?;
        for (kind, ports) in [("input", &self.inputs), ("output", &self.outputs)] {
            for port in ports {
                writeln!(
                    f,
                    "{kind:<11} {} {:?} {:?} in buffer {}",
                    port.name, port.dtype, port.shape, port.buffer
                )?;
            }
        }
        for (at, dispatch) in self.dispatches.iter().enumerate() {
            let [x, y, z] = dispatch.workgroups;
            let mut buffers: Vec<String> = dispatch.bindings.iter().map(|b| b.buffer.to_string()).collect();
            let written = buffers.pop().unwrap_or_default();
            let named = dispatch.nodes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let more = match dispatch.nodes.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            writeln!(
                f,
                "{at:>4}  {:<13} kernel {:<3} {x} x {y} x {z} groups  buffers {} -> {written}  {named}{more}",
                dispatch.family,
                dispatch.kernel,
                buffers.join(" "),
            )?;
        }
        Ok(())
    }
}
