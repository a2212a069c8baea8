//! Weights as a safetensors file.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use gradus_autograd::{DType, Snapshot, Tensor};
use gradus_tensor::{Element, bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::TrainError;

/// Writes the tensors of a snapshot, by name, to a file that Python's `safetensors` reads.
///
/// The file is whole or it is not there: it is written beside its place, synced and renamed. Equal weights make
/// equal bytes.
///
/// # Errors
/// [`TrainError::Io`] with the path.
pub fn save_weights(snapshot: &Snapshot, path: impl AsRef<Path>) -> Result<(), TrainError> {
    let path = path.as_ref();
    let write = || -> io::Result<()> {
        let bytes: Vec<(&str, Tensor, Vec<u8>)> =
            snapshot.iter().map(|(name, t)| (name, t.clone(), little_endian(t))).collect();
        let views = bytes
            .iter()
            .map(|(name, t, bytes)| {
                Ok((*name, TensorView::new(dtype(t.dtype()), t.shape().to_vec(), bytes)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(io::Error::other)?;
        let file = safetensors::serialize(views, None).map_err(io::Error::other)?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".partial-{}", std::process::id()));
        let mut out = File::create(&beside)?;
        let written = out
            .write_all(&file)
            .and_then(|()| out.sync_all())
            .and_then(|()| std::fs::rename(&beside, path));
        if written.is_err() {
            // The error that counts is the first one.
            let _ = std::fs::remove_file(&beside);
        }
        written
    };
    write().map_err(|source| TrainError::Io { path: path.to_owned(), source })
}

/// Reads what [`save_weights`] or Python's `safetensors` wrote; `Module::restore` checks names, shapes and types.
///
/// # Errors
/// [`TrainError::Io`] with the path, also for a file that is no safetensors file or holds a type that tensors do
/// not have.
pub fn load_weights(path: impl AsRef<Path>) -> Result<Snapshot, TrainError> {
    let path = path.as_ref();
    let read = || -> io::Result<Snapshot> {
        let bytes = std::fs::read(path)?;
        let invalid =
            |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
        let file = SafeTensors::deserialize(&bytes).map_err(|e| invalid(&e))?;
        file.iter()
            .map(|(name, view)| {
                let t = from_view(&view)
                    .ok_or_else(|| invalid(&format!("{name}: type {:?}", view.dtype())))?;
                Ok((name.to_owned(), t))
            })
            .collect()
    };
    read().map_err(|source| TrainError::Io { path: path.to_owned(), source })
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I64 => Dtype::I64,
        _ => Dtype::U8,
    }
}

fn little_endian(t: &Tensor) -> Vec<u8> {
    fn bytes<T: Element, const N: usize>(t: &Tensor, f: fn(T) -> [u8; N]) -> Vec<u8> {
        t.contiguous().as_slice::<T>().iter().flat_map(|&x| f(x)).collect()
    }
    match t.dtype() {
        DType::F16 => bytes::<f16, 2>(t, f16::to_le_bytes),
        DType::BF16 => bytes::<bf16, 2>(t, bf16::to_le_bytes),
        DType::F32 => bytes::<f32, 4>(t, f32::to_le_bytes),
        DType::F64 => bytes::<f64, 8>(t, f64::to_le_bytes),
        DType::I64 => bytes::<i64, 8>(t, i64::to_le_bytes),
        _ => bytes::<u8, 1>(t, u8::to_le_bytes),
    }
}

fn from_view(view: &TensorView<'_>) -> Option<Tensor> {
    fn tensor<T: Element, const N: usize>(view: &TensorView<'_>, f: fn([u8; N]) -> T) -> Tensor {
        let (chunks, _) = view.data().as_chunks::<N>();
        let values: Vec<T> = chunks.iter().map(|&b| f(b)).collect();
        Tensor::from_slice(&values, view.shape())
    }
    Some(match view.dtype() {
        Dtype::F16 => tensor::<f16, 2>(view, f16::from_le_bytes),
        Dtype::BF16 => tensor::<bf16, 2>(view, bf16::from_le_bytes),
        Dtype::F32 => tensor::<f32, 4>(view, f32::from_le_bytes),
        Dtype::F64 => tensor::<f64, 8>(view, f64::from_le_bytes),
        Dtype::I64 => tensor::<i64, 8>(view, i64::from_le_bytes),
        Dtype::U8 | Dtype::BOOL => tensor::<u8, 1>(view, u8::from_le_bytes),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("gradus-weights-{}-{name}", std::process::id()))
    }

    #[test]
    fn weights_come_back_to_the_bit() {
        let path = file("round-trip.safetensors");
        let tensors = [
            (
                "a.weight",
                Tensor::from_slice(&[1f32, f32::NAN, -0.0, 1e-45], &[2, 2]).transpose(0, 1),
            ),
            ("count", Tensor::scalar(7i64)),
            ("half", Tensor::from_slice(&[bf16::from_f32(1.5)], &[1])),
            ("none", Tensor::zeros(&[0, 3], DType::F64)),
        ];
        let snapshot: Snapshot =
            tensors.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
        save_weights(&snapshot, &path).unwrap();
        let back = load_weights(&path).unwrap();
        for (name, t) in snapshot.iter() {
            let b = back.get(name).unwrap();
            assert_eq!(
                (t.shape(), t.dtype(), little_endian(t)),
                (b.shape(), b.dtype(), little_endian(b)),
                "{name}"
            );
        }
        let first = std::fs::read(&path).unwrap();
        save_weights(&back, &path).unwrap();
        assert_eq!(first, std::fs::read(&path).unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error_that_names_it() {
        let path = file("short.safetensors");
        let snapshot: Snapshot =
            [("w".to_owned(), Tensor::ones(&[64], DType::F32))].into_iter().collect();
        save_weights(&snapshot, &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let error = load_weights(&path).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(load_weights(&path), Err(TrainError::Io { .. })));
    }
}
