//! Concatenation and stacking, and choosing by a mask.
