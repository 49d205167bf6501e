//! Training: the optimiser, the schedule, one step, and what is written to disk.

pub mod adamw;
pub mod checkpoint;
pub mod course;
mod gradients;
pub mod lanes;
mod memory;
pub mod schedule;
pub mod trainer;

pub use adamw::{AdamW, AdamWConfig};
pub use course::{Course, CurvePoint};
pub use gradients::Gradients;
pub use lanes::Lanes;
pub use memory::keep_pages;
pub use schedule::Schedule;
pub use trainer::Trainer;

pub use crate::ops::{Precision, ProductRate, bf16_available, product_rate};
