//! CIFAR-10 in its binary version: 32x32 colour images of ten classes.
//!
//! A record is 3073 bytes: the label, then the red, the green and the blue plane, row-major.
//!
//! # References
//! Krizhevsky: Learning multiple layers of features from tiny images (2009).

use std::{borrow::Cow, path::Path};

use gradus_tensor::Tensor;

use crate::{DataError, Dataset, Location, Split, file, mnist::to_unit};

/// Number of classes.
pub const CLASSES: usize = 10;

const PIXELS: usize = 3 * 32 * 32;
const RECORD: usize = 1 + PIXELS;

/// Loads a part from the directory that holds `data_batch_1.bin` to `data_batch_5.bin` and
/// `test_batch.bin`, each with `.gz` or without.
///
/// Inputs are f32 `[N, 3, 32, 32]` in `[0, 1]` (byte / 255), targets i64 `[N]` in `0..10`.
///
/// # Errors
/// [`DataError`] when a file is missing or as for [`read`].
pub fn load(directory: impl AsRef<Path>, part: Split) -> Result<Dataset, DataError> {
    let names: &[&str] = match part {
        Split::Train => &[
            "data_batch_1.bin",
            "data_batch_2.bin",
            "data_batch_3.bin",
            "data_batch_4.bin",
            "data_batch_5.bin",
        ],
        Split::Test => &["test_batch.bin"],
    };
    let mut batches = Vec::with_capacity(names.len());
    for name in names {
        let path = file::find(directory.as_ref(), &[*name])?;
        let name = file::name(&path);
        batches.push(records(&file::read(&path)?, &name)?.into_owned());
    }
    dataset(&batches)
}

/// Reads one file of records.
///
/// # Errors
/// [`DataError`] when the file cannot be read, is empty, does not end with a whole record, or when a label
/// is not below [`CLASSES`].
pub fn read(path: impl AsRef<Path>) -> Result<Dataset, DataError> {
    let path = path.as_ref();
    parse(&file::read(path)?, &file::name(path))
}

/// Reads records from bytes, gzipped or not; errors call them `file`.
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8], file: &str) -> Result<Dataset, DataError> {
    dataset(&[records(bytes, file)?])
}

/// The unpacked bytes, checked to be whole records with good labels.
fn records<'a>(bytes: &'a [u8], file: &str) -> Result<Cow<'a, [u8]>, DataError> {
    let bytes = file::unpack(bytes, file)?;
    if bytes.is_empty() {
        return Err(DataError::Empty { file: file.into() });
    }
    if !bytes.len().is_multiple_of(RECORD) {
        return Err(DataError::Truncated {
            file: file.into(),
            expected: bytes.len().next_multiple_of(RECORD) as u64,
            found: bytes.len() as u64,
        });
    }
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        if usize::from(record[0]) >= CLASSES {
            let at = Location::Offset { file: file.into(), offset: (i * RECORD) as u64 };
            return Err(DataError::Label { at, found: record[0].into(), classes: CLASSES });
        }
    }
    Ok(bytes)
}

fn dataset(batches: &[impl AsRef<[u8]>]) -> Result<Dataset, DataError> {
    let records = || batches.iter().flat_map(|b| b.as_ref().chunks_exact(RECORD));
    let labels: Vec<i64> = records().map(|r| r[0].into()).collect();
    let inputs = Tensor::build(&[labels.len(), 3, 32, 32], |out| {
        for (out, record) in out.chunks_exact_mut(PIXELS).zip(records()) {
            to_unit(&record[1..], out);
        }
    });
    Dataset::new(inputs, Tensor::from_slice(&labels, &[labels.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<u8> {
        let mut bytes = vec![0; 2 * RECORD];
        (bytes[0], bytes[RECORD]) = (3, 9);
        (bytes[1], bytes[RECORD - 1], bytes[RECORD + 1 + 1024 + 33]) = (255, 51, 102);
        bytes
    }

    #[test]
    fn planes_and_rows_land_where_they_belong() {
        let d = parse(&two(), "f").unwrap();
        assert_eq!(d.inputs().shape(), [2, 3, 32, 32]);
        assert_eq!(d.labels().unwrap(), [3, 9]);
        let x = d.inputs().as_slice::<f32>();
        // The first and the last number of image 0; green, row 1, column 1 of image 1.
        assert_eq!((x[0], x[PIXELS - 1], x[PIXELS + 1024 + 33]), (1.0, 0.2, 0.4));
        assert_eq!(x.iter().filter(|v| **v != 0.0).count(), 3);
    }

    #[test]
    fn each_fault_is_named() {
        let good = two();
        assert!(matches!(parse(&[], "f"), Err(DataError::Empty { .. })));
        assert_eq!(
            parse(&good[..RECORD + 1], "f").unwrap_err().to_string(),
            "f: truncated: expected 6146 bytes, found 3074"
        );
        let mut bad = good.clone();
        bad[RECORD] = 10;
        assert_eq!(
            parse(&bad, "f").unwrap_err().to_string(),
            "f, byte 3073: expected a label in 0..10, found 10"
        );
    }
}
