//! A place for the examples (`cargo run --release --example digits`), and for the test of the README's code.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
