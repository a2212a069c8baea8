//! Kernels of recurrent cells.
