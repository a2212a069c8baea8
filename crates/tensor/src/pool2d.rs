//! Pooling of images.
