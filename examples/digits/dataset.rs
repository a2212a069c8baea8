//! Images: the digits of the project, or a directory of MNIST files.

use std::{error::Error, path::Path};

use gradus::data::{Dataset, Split, Standardize, csv, mnist};

use crate::args::Args;

/// Images in three parts: to train on, to choose by, and to judge by once, at the end.
pub(crate) struct Data {
    pub(crate) name: String,
    pub(crate) parts: [Dataset; 3],
    pub(crate) side: usize,
    pub(crate) classes: usize,
}

pub(crate) fn load(args: &Args) -> Result<Data, Box<dyn Error>> {
    let (name, parts) = match &args.data {
        None => ("UCI digits".to_owned(), digits(args.seed)?),
        Some(directory) => (directory.display().to_string(), mnist_files(directory, args.seed)?),
    };
    let side = parts[0].inputs().shape()[3];
    // Mean and deviation of the training images alone: the others are not to be known yet.
    let standardize = Standardize::fit_global(parts[0].inputs())?;
    let [a, b, c] = parts.map(|part| part.map_inputs(|x| standardize.apply(x)));
    Ok(Data { name, parts: [a?, b?, c?], side, classes: 10 })
}

/// 1,797 digits of 8x8: 70 % to train, 15 % to choose, 15 % to judge.
fn digits(seed: u64) -> Result<[Dataset; 3], Box<dyn Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.csv.gz");
    let table = csv::read(path, &csv::Options::new())?;
    let all = table.classification(64, 10)?.map_inputs(|x| x.reshape(&[-1, 1, 8, 8]))?;
    Ok(three(all.stratified_split(&[0.7, 0.15, 0.15], seed)?))
}

/// The files' own test images to judge by; a tenth of the training images to choose by.
fn mnist_files(directory: &Path, seed: u64) -> Result<[Dataset; 3], Box<dyn Error>> {
    let test = mnist::load(directory, Split::Test)?;
    let mut parts = mnist::load(directory, Split::Train)?.stratified_split(&[0.9, 0.1], seed)?;
    parts.push(test);
    Ok(three(parts))
}

fn three(parts: Vec<Dataset>) -> [Dataset; 3] {
    parts.try_into().expect("three parts were made")
}
