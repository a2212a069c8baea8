//! IDX, the format of MNIST and its kin: a typed n-dimensional array, big-endian.
//!
//! Two zero bytes, a byte for the element type, a byte for the number of dimensions; the dimensions as
//! 32-bit numbers; the elements, row-major.
//!
//! # References
//! LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998), which defines the format.

use std::path::Path;

use gradus_tensor::{DType, Tensor};

use crate::{DataError, file};

const MAGIC: &str = "an IDX header (00 00, a type of 08 09 0b 0c 0d 0e, the number of dimensions)";

/// Reads an IDX file, gzipped or not (judged by its first bytes).
///
/// Unsigned bytes become u8; signed bytes, 16-bit and 32-bit integers become i64; floats keep their type.
///
/// # Errors
/// [`DataError`] when the file cannot be read, starts with another magic number, or has more or fewer
/// bytes than its header declares.
pub fn read(path: impl AsRef<Path>) -> Result<Tensor, DataError> {
    let path = path.as_ref();
    parse(&file::read(path)?, &file::name(path))
}

/// Reads IDX from bytes, gzipped or not; errors call them `file`.
///
/// ```
/// let bytes = [0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9];
/// let t = gradus_data::idx::parse(&bytes, "tiny").unwrap();
/// assert_eq!(t.shape(), [1, 3]);
/// assert_eq!(t.to_vec::<u8>(), [7, 8, 9]);
/// let error = gradus_data::idx::parse(&bytes[..14], "tiny").unwrap_err();
/// assert_eq!(error.to_string(), "tiny: truncated: expected 15 bytes, found 14");
/// ```
///
/// # Errors
/// As [`read`].
pub fn parse(bytes: &[u8], file: &str) -> Result<Tensor, DataError> {
    let bytes = file::unpack(bytes, file)?;
    let found = bytes.len() as u64;
    let truncated = |expected| DataError::Truncated { file: file.into(), expected, found };

    let &magic = bytes.first_chunk::<4>().ok_or_else(|| truncated(4))?;
    let [0, 0, kind, ndim] = magic else {
        return Err(DataError::BadMagic { file: file.into(), expected: MAGIC, found: magic });
    };
    let size = match kind {
        0x08 | 0x09 => 1,
        0x0b => 2,
        0x0c | 0x0d => 4,
        0x0e => 8,
        _ => return Err(DataError::BadMagic { file: file.into(), expected: MAGIC, found: magic }),
    };
    let header = 4 + 4 * usize::from(ndim);
    let dims = bytes.get(4..header).ok_or_else(|| truncated(header as u64))?;
    let shape: Vec<usize> = words::<4>(dims).map(|w| u32::from_be_bytes(w) as usize).collect();

    // An empty dimension must not hide that the others are absurd: strides are products of all of them.
    let span = shape.iter().try_fold(8usize, |n, &d| n.checked_mul(d.max(1)));
    if span.is_none_or(|n| n > isize::MAX as usize - header) {
        return Err(DataError::TooLarge { file: file.into(), limit: isize::MAX as u64 });
    }
    let end = header + shape.iter().product::<usize>() * size;
    let data = bytes.get(header..end).ok_or_else(|| truncated(end as u64))?;
    if bytes.len() > end {
        return Err(DataError::TrailingBytes { file: file.into(), expected: end as u64, found });
    }
    Ok(match kind {
        0x08 => Tensor::from_slice(data, &shape),
        0x09 => decode(data, &shape, |w| i64::from(i8::from_be_bytes(w))),
        0x0b => decode(data, &shape, |w| i64::from(i16::from_be_bytes(w))),
        0x0c => decode(data, &shape, |w| i64::from(i32::from_be_bytes(w))),
        0x0d => decode(data, &shape, f32::from_be_bytes),
        _ => decode(data, &shape, f64::from_be_bytes),
    })
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn decode<T: gradus_tensor::Element, const N: usize>(
    bytes: &[u8],
    shape: &[usize],
    convert: impl Fn([u8; N]) -> T,
) -> Tensor {
    Tensor::build(shape, |out| {
        for (o, w) in out.iter_mut().zip(words(bytes)) {
            *o = convert(w);
        }
    })
}

/// The tensor, if it is of this type and its dimensions after the first are these.
pub(crate) fn expect(
    tensor: Tensor,
    file: &str,
    dtype: DType,
    item: &[usize],
    expected: &'static str,
) -> Result<Tensor, DataError> {
    if tensor.dtype() == dtype && tensor.ndim() == item.len() + 1 && tensor.shape()[1..] == *item {
        return Ok(tensor);
    }
    let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
    Err(DataError::WrongContent { file: file.into(), expected, dtype, shape })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(kind: u8, dims: &[u32], data: &[u8]) -> Vec<u8> {
        let mut out = vec![0, 0, kind, dims.len() as u8];
        out.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
        out.extend(data);
        out
    }

    #[test]
    fn every_element_type_is_read_big_endian() {
        let t = parse(&idx(0x09, &[2], &[0xff, 0x7f]), "f").unwrap();
        assert_eq!(t.to_vec::<i64>(), [-1, 127]);
        let t = parse(&idx(0x0b, &[2], &[0xff, 0xfe, 0x01, 0x00]), "f").unwrap();
        assert_eq!(t.to_vec::<i64>(), [-2, 256]);
        let t = parse(&idx(0x0c, &[1], &(-70_000i32).to_be_bytes()), "f").unwrap();
        assert_eq!(t.to_vec::<i64>(), [-70_000]);
        let t = parse(&idx(0x0d, &[1, 1], &1.5f32.to_be_bytes()), "f").unwrap();
        assert_eq!((t.shape(), t.to_vec::<f32>()), (&[1, 1][..], vec![1.5]));
        let t = parse(&idx(0x0e, &[1], &(-0.1f64).to_be_bytes()), "f").unwrap();
        assert_eq!(t.to_vec::<f64>(), [-0.1]);
    }

    #[test]
    fn no_dimension_is_a_scalar_and_an_empty_one_is_empty() {
        assert_eq!(parse(&idx(8, &[], &[5]), "f").unwrap().shape(), [0usize; 0]);
        let t = parse(&idx(8, &[0, 28, 28], &[]), "f").unwrap();
        assert_eq!((t.shape(), t.numel()), (&[0, 28, 28][..], 0));
    }

    #[test]
    fn absurd_dimensions_are_refused_before_anything_is_allocated() {
        let huge = [u32::MAX; 3];
        assert!(matches!(parse(&idx(8, &huge, &[1]), "f"), Err(DataError::TooLarge { .. })));
        let hidden = [u32::MAX, u32::MAX, 0];
        assert!(matches!(parse(&idx(8, &hidden, &[]), "f"), Err(DataError::TooLarge { .. })));
        match parse(&idx(8, &[1 << 31, 2], &[1]), "f") {
            Err(DataError::Truncated { expected, found: 13, .. }) => {
                assert_eq!(expected, (1 << 32) + 12);
            }
            other => panic!("{other:?}"),
        }
        let many: Vec<u32> = vec![1; 255];
        assert_eq!(parse(&idx(8, &many, &[9]), "f").unwrap().ndim(), 255);
    }

    #[test]
    fn each_fault_is_named() {
        let good = idx(8, &[2, 2], &[1, 2, 3, 4]);
        for end in 0..good.len() {
            match parse(&good[..end], "cut") {
                Err(DataError::Truncated { file, found, expected }) => {
                    assert_eq!((file.as_str(), found), ("cut", end as u64));
                    assert!(expected > found);
                }
                other => panic!("{end}: {other:?}"),
            }
        }
        let long = [&good[..], &[0]].concat();
        assert_eq!(
            parse(&long, "x").unwrap_err().to_string(),
            "x: expected the end at byte 16, found 17 bytes"
        );
        for bad in [[1, 0, 8, 1], [0, 1, 8, 1], [0, 0, 0x0a, 1], [0, 0, 0, 0]] {
            assert!(
                matches!(parse(&bad, "x"), Err(DataError::BadMagic { found, .. }) if found == bad)
            );
        }
    }
}
