//! Softmax and kin.
