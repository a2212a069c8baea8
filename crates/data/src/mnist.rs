//! MNIST and Fashion-MNIST: 28x28 grey images of ten classes, two IDX files a part.
//!
//! # References
//! LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998).
//! Xiao, Rasul, Vollgraf: Fashion-MNIST, a novel image dataset for benchmarking machine learning
//! algorithms (2017).

use std::path::Path;

use gradus_tensor::{DType, Tensor};

use crate::{DataError, Dataset, Location, Split, file, idx};

/// Number of classes.
pub const CLASSES: usize = 10;

/// Loads a part from a directory with the files under their usual names: `train-images-idx3-ubyte`,
/// `t10k-labels-idx1-ubyte` and so on, with `-` or `.` before `idx`, with `.gz` or without.
///
/// Inputs are f32 `[N, 1, 28, 28]` in `[0, 1]` (byte / 255), targets i64 `[N]` in `0..10`.
///
/// # Errors
/// [`DataError`] when a file is missing or as for [`read`].
pub fn load(directory: impl AsRef<Path>, part: Split) -> Result<Dataset, DataError> {
    let directory = directory.as_ref();
    let (images, labels) = match part {
        Split::Train => (
            ["train-images-idx3-ubyte", "train-images.idx3-ubyte"],
            ["train-labels-idx1-ubyte", "train-labels.idx1-ubyte"],
        ),
        Split::Test => (
            ["t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"],
            ["t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"],
        ),
    };
    read(file::find(directory, &images)?, file::find(directory, &labels)?)
}

/// Reads a pair of files; what comes out is what [`load`] gives.
///
/// # Errors
/// [`DataError`] when a file cannot be read, is not IDX with bytes of shape `[N, 28, 28]` and `[N]`, when
/// the files differ in N, or when a label is not below [`CLASSES`].
pub fn read(images: impl AsRef<Path>, labels: impl AsRef<Path>) -> Result<Dataset, DataError> {
    let (images_file, labels_file) = (file::name(images.as_ref()), file::name(labels.as_ref()));
    let images = idx::expect(
        idx::read(images)?,
        &images_file,
        DType::U8,
        &[28, 28],
        "images of bytes, [N, 28, 28]",
    )?;
    let labels =
        idx::expect(idx::read(labels)?, &labels_file, DType::U8, &[], "labels of bytes, [N]")?;

    let (pixels, bytes) = (images.as_slice::<u8>(), labels.as_slice::<u8>());
    let n = images.shape()[0];
    if n != bytes.len() {
        return Err(DataError::LengthMismatch {
            names: [images_file, labels_file],
            lengths: [n, bytes.len()],
        });
    }
    if let Some(i) = bytes.iter().position(|&b| usize::from(b) >= CLASSES) {
        let at = Location::Offset { file: labels_file, offset: 8 + i as u64 };
        return Err(DataError::Label { at, found: bytes[i].into(), classes: CLASSES });
    }
    let inputs = Tensor::build(&[n, 1, 28, 28], |out| to_unit(pixels, out));
    let labels: Vec<i64> = bytes.iter().map(|&b| b.into()).collect();
    Dataset::new(inputs, Tensor::from_slice(&labels, &[n]))
}

/// Bytes as numbers in `[0, 1]`.
pub(crate) fn to_unit(bytes: &[u8], out: &mut [f32]) {
    for (o, &b) in out.iter_mut().zip(bytes) {
        *o = f32::from(b) / 255.0;
    }
}
