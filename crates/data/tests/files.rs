//! Datasets as they lie on a disk.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use gradus_data::{DataError, DataLoader, Location, Split, cifar10, csv, idx, mnist};

/// A directory that is gone after the test.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gradus-data-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn images(n: u32, side: u32) -> Vec<u8> {
    let mut out = vec![0, 0, 8, 3];
    out.extend([n, side, side].iter().flat_map(|d| d.to_be_bytes()));
    out.extend((0..n * side * side).map(|i| (i % 256) as u8));
    out
}

fn labels(labels: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, 1];
    out.extend((labels.len() as u32).to_be_bytes());
    out.extend(labels);
    out
}

#[test]
fn the_digits_are_all_there() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/digits.csv.gz");
    let table = csv::read(path, &csv::Options::new()).unwrap();
    assert_eq!((table.rows(), table.columns()), (1797, 65));
    let digits = table.classification(64, 10).unwrap();
    assert_eq!(digits.inputs().shape(), [1797, 64]);
    let pixels = digits.inputs().as_slice::<f32>();
    assert!(pixels.iter().all(|&x| (0.0..=16.0).contains(&x) && x.fract() == 0.0));
    assert_eq!(pixels[..8], [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0]);
    let mut count = [0; 10];
    for &label in digits.labels().unwrap() {
        count[label as usize] += 1;
    }
    assert_eq!(count, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    assert!(matches!(
        table.classification(64, 9),
        Err(DataError::Label { at: Location::Line { line: 10, .. }, found: 9.0, classes: 9 })
    ));

    // An epoch of shuffled batches shows each digit once.
    let mut sum = 0.0;
    for batch in DataLoader::new(64).unwrap().with_shuffle(1).epoch(&digits, 0) {
        sum += batch.inputs.as_slice::<f32>().iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    assert_eq!(sum, pixels.iter().map(|&x| f64::from(x)).sum::<f64>());
}

#[test]
fn mnist_is_found_under_all_its_names() {
    for (name, sep, gz) in
        [("a", "-", false), ("b", ".", false), ("c", "-", true), ("d", ".", true)]
    {
        let dir = TempDir::new(name);
        let end = if gz { ".gz" } else { "" };
        for (part, n) in [("train", 3u8), ("t10k", 2)] {
            let (x, y) = (images(n.into(), 28), labels(&[9, 0, 5][..n.into()]));
            let (x, y) = if gz { (gzip(&x), gzip(&y)) } else { (x, y) };
            dir.write(&format!("{part}-images{sep}idx3-ubyte{end}"), &x);
            dir.write(&format!("{part}-labels{sep}idx1-ubyte{end}"), &y);
        }
        let train = mnist::load(&dir.0, Split::Train).unwrap();
        assert_eq!(train.inputs().shape(), [3, 1, 28, 28]);
        assert_eq!(train.labels().unwrap(), [9, 0, 5]);
        let pixels = train.inputs().as_slice::<f32>();
        assert_eq!((pixels[0], pixels[51], pixels[255], pixels[256]), (0.0, 0.2, 1.0, 0.0));
        assert_eq!(mnist::load(&dir.0, Split::Test).unwrap().len(), 2);
    }
}

#[test]
fn faults_of_mnist_name_the_file() {
    let dir = TempDir::new("faults");
    let x = dir.write("x", &images(2, 28));
    let message = |x: &Path, y: &Path| mnist::read(x, y).unwrap_err().to_string();

    let y = dir.write("three", &labels(&[1, 2, 3]));
    assert_eq!(
        message(&x, &y),
        format!("expected as many items in {} as in {}, found 3 and 2", y.display(), x.display())
    );
    let y = dir.write("ten", &labels(&[1, 10]));
    assert_eq!(
        message(&x, &y),
        format!("{}, byte 9: expected a label in 0..10, found 10", y.display())
    );
    assert_eq!(
        message(&x, &x),
        format!("{}: expected labels of bytes, [N], found u8 of shape [2, 28, 28]", x.display())
    );
    let small = dir.write("small", &images(2, 27));
    assert!(matches!(
        mnist::read(&small, &y),
        Err(DataError::WrongContent { shape, .. }) if shape == [2, 27, 27]
    ));
    let cut = dir.write("cut", &gzip(&images(2, 28))[..40]);
    assert!(matches!(mnist::read(&cut, &y), Err(DataError::Gzip { .. })));

    let message = mnist::load(&dir.0, Split::Test).unwrap_err().to_string();
    assert!(message.contains("t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz"), "{message}");
    let gone = dir.0.join("gone");
    for error in [
        idx::read(&gone).unwrap_err(),
        cifar10::read(&gone).unwrap_err(),
        csv::read(&gone, &csv::Options::new()).unwrap_err(),
        idx::read(&dir.0).unwrap_err(),
    ] {
        assert!(matches!(&error, DataError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains("gradus-data-faults"));
    }
}

#[test]
fn the_five_batches_of_cifar_are_joined_in_order() {
    let dir = TempDir::new("cifar");
    let record = |label: u8, pixel: u8| {
        let mut r = vec![pixel; 3073];
        r[0] = label;
        r
    };
    for i in 1..=4 {
        dir.write(&format!("data_batch_{i}.bin"), &record(i, 51 * i));
    }
    match cifar10::load(&dir.0, Split::Train) {
        Err(DataError::Missing { names, .. }) => {
            assert_eq!(names, ["data_batch_5.bin", "data_batch_5.bin.gz"]);
        }
        other => panic!("{other:?}"),
    }
    let last = [record(5, 255), record(9, 0)].concat();
    dir.write("data_batch_5.bin.gz", &gzip(&last));
    let train = cifar10::load(&dir.0, Split::Train).unwrap();
    assert_eq!(train.inputs().shape(), [6, 3, 32, 32]);
    assert_eq!(train.labels().unwrap(), [1, 2, 3, 4, 5, 9]);
    let x = train.inputs().as_slice::<f32>();
    let firsts: Vec<f32> = x.iter().copied().step_by(3072).collect();
    assert_eq!(firsts, [0.2, 0.4, 0.6, 0.8, 1.0, 0.0]);
    dir.write("test_batch.bin", &last);
    assert_eq!(cifar10::load(&dir.0, Split::Test).unwrap().labels().unwrap(), [5, 9]);
}
