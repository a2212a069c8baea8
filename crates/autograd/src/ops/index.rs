//! Look-ups by index.
