#![doc = include_str!("../README.md")]

pub mod checks;
pub mod inputs;
pub mod measure;
pub mod rows;

mod system;

pub use system::pin_to_last_cpus;
