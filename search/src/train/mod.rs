//! Training: the optimiser, the schedule, one step, and what is written to disk.

pub mod adamw;
pub mod checkpoint;
pub mod course;
mod gradients;
pub mod lanes;
mod loss_scale;
mod memory;
pub mod schedule;
mod terms;
pub mod trainer;

pub use adamw::{AdamW, AdamWConfig};
pub use course::{Course, CurvePoint};
pub use gradients::Gradients;
pub use lanes::Lanes;
pub use loss_scale::LossScale;
pub use memory::keep_pages;
pub use schedule::Schedule;
pub use terms::Terms;
pub use trainer::Trainer;

pub use crate::ops::{Precision, ProductRate, bf16_available, product_rate};
