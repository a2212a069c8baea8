//! Nothing but a place for the examples: `cargo run --release --example digits`.
