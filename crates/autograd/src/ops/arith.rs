//! Arithmetic with broadcasting.
