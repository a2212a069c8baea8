//! What a user gets wrong is a message, never a panic.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;

use crate::{args::Args, run};

/// A directory that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("gradus-digits-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
    Args::try_parse_from([&["digits"], flags].concat())
}

/// The message of a run that does not come to its end.
fn failure(flags: &[&str], out: &Path) -> String {
    let out = out.display().to_string();
    let args = parse(&[flags, &["--out", &out]].concat()).unwrap();
    run(&args).unwrap_err().to_string()
}

/// An MNIST file of `n` items.
fn idx(n: u8, item: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 1 + item.len() as u8, 0, 0, 0, n];
    bytes.extend(item.iter().flat_map(|&d| [0, 0, 0, d]));
    bytes.extend(data);
    bytes
}

#[test]
fn flags_that_make_no_sense_are_refused_by_name() {
    for (flags, part) in [
        (&["--threads", "0"][..], "a number from 1 to 1024"),
        (&["--epochs", "0"], "--epochs"),
        (&["--epochs", "many"], "--epochs"),
        (&["--model", "rnn"], "mlp, cnn, transformer"),
        (&["--batch-size", "-3"], "-3"),
        (&["--seeds", "1"], "--seed"),
    ] {
        let error = parse(flags).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(part), "{flags:?}: {error}");
    }
}

#[test]
fn numbers_that_cannot_train_end_in_a_message() {
    let scratch = Scratch::new("numbers");
    for (flags, part) in [
        (&["--batch-size", "0"][..], "expected a batch size of at least 1, found 0"),
        (&["--batch-size", "5000"], "gives no batch of 5000"),
        (&["--lr", "nan"], "NaN"),
        (&["--lr", "inf"], "inf"),
        (&["--lr=-0.1", "--model", "mlp"], "finite and not negative, got -0.1"),
    ] {
        let message = failure(flags, &scratch.0);
        assert!(message.contains(part), "{flags:?}: {message}");
    }
}

#[test]
fn data_that_cannot_be_read_is_named() {
    let scratch = Scratch::new("data");
    let dir = scratch.0.display().to_string();
    let read = || failure(&["--data", &dir], &scratch.0);
    assert!(failure(&["--data", "/nowhere"], &scratch.0).starts_with("/nowhere: found no file"));
    assert!(read().contains("t10k-images-idx3-ubyte"), "an empty directory: {}", read());

    let (images, labels) = (idx(2, &[28, 28], &[0; 2 * 28 * 28]), idx(2, &[], &[0, 1]));
    scratch.write("t10k-labels-idx1-ubyte", &labels);
    for (bytes, part) in [
        (&images[..100], "truncated: expected 1584 bytes, found 100"),
        (b"not an image", "expected an IDX header"),
        (&idx(2, &[8, 8], &[0; 128])[..], "images of bytes, [N, 28, 28]"),
        (&idx(1, &[28, 28], &[0; 28 * 28])[..], "expected as many items"),
        (&[0x1f, 0x8b, 8, 0, 0][..], "the gzip stream breaks"),
    ] {
        scratch.write("t10k-images-idx3-ubyte", bytes);
        assert!(read().contains(part), "{part}: {}", read());
    }
    scratch.write("t10k-images-idx3-ubyte", &images);
    scratch.write("t10k-labels-idx1-ubyte", &idx(2, &[], &[0, 10]));
    assert!(read().ends_with("byte 9: expected a label in 0..10, found 10"), "{}", read());
    // Good files with too little in them.
    scratch.write("t10k-labels-idx1-ubyte", &labels);
    scratch.write("train-images-idx3-ubyte", &images);
    scratch.write("train-labels-idx1-ubyte", &labels);
    assert!(read().contains("2 examples gives no batch of 32"), "{}", read());
    let none = idx(0, &[28, 28], &[]);
    scratch.write("train-images-idx3-ubyte", &none);
    scratch.write("train-labels-idx1-ubyte", &idx(0, &[], &[]));
    assert!(read().contains("finite mean"), "{}", read());
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let flags = ["--epochs", "1", "--model", "mlp", "--batch-size", "512"];
    assert!(failure(&flags, Path::new("/dev/null/runs")).starts_with("/dev/null/runs"));
}
