//! Softmax, its logarithm and its normaliser.
