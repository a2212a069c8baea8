//! The problem that every program here solves: 1,797 handwritten digits of 8x8 pixels.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{Error, ErrorKind, Read, Result},
};

use flate2::read::GzDecoder;
use gradus_core::RngStream;

/// Pixels of an image.
pub const PIXELS: usize = 64;
/// Different digits.
pub const CLASSES: usize = 10;

/// Images, one row of [`PIXELS`] values from -1 to 1 for each label.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub images: Vec<f32>,
    pub labels: Vec<u32>,
}

/// Images to train on, to decide by, and to judge by once, at the end.
#[derive(Clone, Debug, Default)]
pub struct Digits {
    pub train: Part,
    pub valid: Part,
    pub test: Part,
}

impl Part {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All images in batches of `size`, the last one shorter, in an order that is a function of seed and epoch.
    pub fn batches(&self, size: usize, seed: u64, epoch: u64) -> impl Iterator<Item = Part> {
        let stream = RngStream::new(seed, epoch, 0);
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_cached_key(|&i| stream.block(i as u64));
        (0..self.len().div_ceil(size)).map(move |b| {
            let mut batch = Part::default();
            order.iter().skip(b * size).take(size).for_each(|&i| batch.push(self, i));
            batch
        })
    }

    fn push(&mut self, from: &Part, i: usize) {
        self.images.extend_from_slice(&from.images[i * PIXELS..][..PIXELS]);
        self.labels.push(from.labels[i]);
    }
}

impl Digits {
    /// Reads the file of the project: of six images in a row, four are to train on.
    pub fn load() -> Result<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/digits.csv.gz");
        let mut text = String::new();
        GzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
        let mut digits = Self::default();
        for (i, line) in text.lines().enumerate() {
            let numbers: Option<Vec<u32>> = line.split(',').map(|n| n.parse().ok()).collect();
            let Some((&label, pixels)) = numbers.as_ref().and_then(|n| n.split_last()) else {
                return Err(bad(path, i));
            };
            if pixels.len() != PIXELS || label as usize >= CLASSES {
                return Err(bad(path, i));
            }
            let part = match i % 6 {
                4 => &mut digits.valid,
                5 => &mut digits.test,
                _ => &mut digits.train,
            };
            part.images.extend(pixels.iter().map(|&p| p as f32 / 8.0 - 1.0));
            part.labels.push(label);
        }
        Ok(digits)
    }
}

fn bad(path: &str, line: usize) -> Error {
    let what = format!("{path}: line {}: not {PIXELS} pixels and a digit", line + 1);
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_one_batch_of_an_epoch() {
        let digits = Digits::load().unwrap();
        assert_eq!((digits.train.len(), digits.valid.len(), digits.test.len()), (1199, 299, 299));
        let labels = |epoch| digits.train.batches(32, 7, epoch).flat_map(|b| b.labels);
        let (mut all, mut epoch0) = (digits.train.labels.clone(), labels(0).collect::<Vec<_>>());
        assert!(labels(0).eq(epoch0.iter().copied()) && !labels(1).eq(epoch0.iter().copied()));
        all.sort_unstable();
        epoch0.sort_unstable();
        assert_eq!(epoch0, all);
    }
}
