//! Text as bytes.

use std::path::Path;

use crate::{DataError, file};

/// The bytes of a text file, unpacked if it is gzipped (to 1 GiB at most).
///
/// # Errors
/// [`DataError::Io`], [`DataError::Gzip`] for a broken archive, or [`DataError::TooLarge`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, DataError> {
    let path = path.as_ref();
    let bytes = file::read(path)?;
    let text = file::unpack(&bytes, &file::name(path))?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn plain_or_gzipped_and_named_where_it_is_neither() {
        let path = std::env::temp_dir().join(format!("gradus-text-{}", std::process::id()));
        std::fs::write(&path, b"to be").unwrap();
        assert_eq!(read(&path).unwrap(), b"to be");
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"or not").unwrap();
        let packed = packed.finish().unwrap();
        std::fs::write(&path, &packed).unwrap();
        assert_eq!(read(&path).unwrap(), b"or not");
        std::fs::write(&path, &packed[..packed.len() - 3]).unwrap();
        assert!(matches!(read(&path), Err(DataError::Gzip { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(DataError::Io { .. })));
    }
}
