#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod distribution;
mod error;
mod fans;
mod gain;
mod init;
mod walk;

pub use distribution::Distribution;
pub use error::InitError;
pub use fans::{FanMode, Fans, Layout};
pub use gain::Nonlinearity;
pub use init::{Init, Spread};
pub use walk::init_parameters;
