//! Functions of one element.
