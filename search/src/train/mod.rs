//! Training: the optimiser, the schedule, one step, and what is written to disk.

pub mod adamw;
pub mod checkpoint;
pub mod course;
pub mod lanes;
mod memory;
pub mod schedule;
pub mod trainer;

pub use adamw::{AdamW, AdamWConfig, Gradients};
pub use course::{Course, CurvePoint};
pub use lanes::Lanes;
pub use memory::keep_pages;
pub use schedule::Schedule;
pub use trainer::Trainer;
