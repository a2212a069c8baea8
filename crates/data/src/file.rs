//! Files as bytes, gzipped or not.

use std::{
    borrow::Cow,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use crate::DataError;

/// The most that a gzipped file may unpack to: 1 GiB, so that a small hostile file cannot fill the memory.
/// Files that are not packed are bounded by their own size.
const MAX_UNPACKED: u64 = 1 << 30;

/// How errors call a file.
pub(crate) fn name(path: &Path) -> String {
    path.display().to_string()
}

/// The bytes of a file, as they are on the disk.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|source| DataError::Io { file: name(path), source })
}

/// The bytes themselves, or what they unpack to if they start as gzip does.
pub(crate) fn unpack<'a>(bytes: &'a [u8], file: &str) -> Result<Cow<'a, [u8]>, DataError> {
    unpack_up_to(MAX_UNPACKED, bytes, file)
}

fn unpack_up_to<'a>(limit: u64, bytes: &'a [u8], file: &str) -> Result<Cow<'a, [u8]>, DataError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = Vec::new();
    // One byte more than allowed tells "exactly the limit" from "more".
    match MultiGzDecoder::new(bytes).take(limit + 1).read_to_end(&mut out) {
        Err(source) => Err(DataError::Gzip { file: file.into(), offset: out.len() as u64, source }),
        Ok(_) if out.len() as u64 > limit => Err(DataError::TooLarge { file: file.into(), limit }),
        Ok(_) => Ok(Cow::Owned(out)),
    }
}

/// The first of `names` that is a file in `directory`, with or without `.gz`.
pub(crate) fn find(directory: &Path, names: &[&str]) -> Result<PathBuf, DataError> {
    let names: Vec<String> =
        names.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.gz")]).collect();
    match names.iter().map(|name| directory.join(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(DataError::Missing { directory: name(directory), names }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes() {
        assert!(matches!(unpack(b"plain", "f").unwrap(), Cow::Borrowed(b"plain")));
        assert!(matches!(unpack(b"", "f").unwrap(), Cow::Borrowed(b"")));
        let two = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(unpack(&two, "f").unwrap().as_ref(), b"one two");
    }

    #[test]
    fn a_decompression_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; 100_000]);
        assert!(bomb.len() < 1000);
        assert_eq!(unpack_up_to(100_000, &bomb, "f").unwrap().len(), 100_000);
        match unpack_up_to(99_999, &bomb, "bomb.gz") {
            Err(DataError::TooLarge { file, limit: 99_999 }) => assert_eq!(file, "bomb.gz"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn damage_inside_gzip_is_found() {
        let good = gzip(b"some text that is long enough to be cut in the middle");
        for end in 2..good.len() {
            assert!(matches!(unpack(&good[..end], "f"), Err(DataError::Gzip { .. })), "{end}");
        }
        let mut wrong_sum = good.clone();
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        assert!(matches!(unpack(&wrong_sum, "f"), Err(DataError::Gzip { .. })));
    }
}
