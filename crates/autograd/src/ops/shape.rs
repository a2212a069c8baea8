//! Changes of shape.
