#![doc = include_str!("../README.md")]

pub mod checks;
pub mod inputs;
pub mod measure;
pub mod memory;
pub mod roofline;
pub mod rows;
pub mod sweep;

mod allocator;
mod system;

pub use allocator::restart_keeping_memory;
pub use system::pin_to_last_cpus;
