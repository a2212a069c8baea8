//! Sums, extremes and moments along dimensions.
