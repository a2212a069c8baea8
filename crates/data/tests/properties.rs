//! Laws of orders and splits; parsers against arbitrary and damaged bytes.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use gradus_data::{DataLoader, Dataset, Standardize, Tensor, cifar10, csv, idx};
use gradus_data::{shuffled, split, stratified_split};
use proptest::{collection::vec, prelude::*};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn encode_idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 8, dims.len() as u8];
    out.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    out.extend(data);
    out
}

fn shaped() -> impl Strategy<Value = (Vec<u32>, Vec<u8>)> {
    vec(0u32..5, 0..4).prop_flat_map(|dims| {
        let n = dims.iter().product::<u32>() as usize;
        (Just(dims), vec(any::<u8>(), n))
    })
}

fn numbers(n: usize) -> Dataset {
    let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let y: Vec<i64> = (0..n as i64).collect();
    Dataset::new(Tensor::from_slice(&x, &[n, 1]), Tensor::from_slice(&y, &[n])).unwrap()
}

fn fractions() -> impl Strategy<Value = Vec<f64>> {
    vec(0u32..20, 1..6).prop_filter_map("all zero", |parts| {
        let sum: u32 = parts.iter().sum();
        (sum > 0).then(|| parts.iter().map(|&p| f64::from(p) / f64::from(sum)).collect())
    })
}

/// Whether every item is in exactly one part.
fn covers(parts: &[Vec<usize>], n: usize) -> bool {
    let mut all = parts.concat();
    all.sort_unstable();
    all == (0..n).collect::<Vec<_>>()
}

/// Feeds bytes to every parser, as they are and gzipped; what one accepts has to be sound.
fn parse_all(bytes: &[u8]) {
    for bytes in [bytes, &gzip(bytes)] {
        if let Ok(t) = idx::parse(bytes, "fuzz") {
            assert!(t.numel() <= 1 << 20);
        }
        if let Ok(d) = cifar10::parse(bytes, "fuzz") {
            d.check_labels(10).unwrap();
        }
        for options in [csv::Options::new(), csv::Options::new().with_header(true)] {
            if let Ok(t) = csv::parse(bytes, "fuzz", &options) {
                assert!(t.values().as_slice::<f32>().iter().all(|x| x.is_finite()));
                if let Ok(d) = t.classification(0, 10) {
                    d.check_labels(10).unwrap();
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn an_order_is_a_permutation(n in 0usize..200, seed: u64, epoch: u64) {
        prop_assert!(covers(&[shuffled(n, seed, epoch)], n));
        prop_assert_eq!(shuffled(n, seed, epoch), shuffled(n, seed, epoch));
    }

    #[test]
    fn a_split_covers_exactly(n in 0usize..300, fractions in fractions(), seed: u64) {
        let parts = split(n, &fractions, seed).unwrap();
        prop_assert!(covers(&parts, n));
        for (part, f) in parts.iter().zip(&fractions) {
            prop_assert!((part.len() as f64 - f * n as f64).abs() < 1.0 + 1e-9);
        }
        prop_assert_eq!(parts, split(n, &fractions, seed).unwrap());
    }

    #[test]
    fn a_stratified_split_keeps_the_share_of_each_label(
        labels in vec(-2i64..6, 0..200),
        fractions in fractions(),
        seed: u64,
    ) {
        let parts = stratified_split(&labels, &fractions, seed).unwrap();
        prop_assert!(covers(&parts, labels.len()));
        for label in -2..6 {
            let of = |items: &[usize]| items.iter().filter(|&&i| labels[i] == label).count() as f64;
            let all = labels.iter().filter(|&&l| l == label).count() as f64;
            for (part, f) in parts.iter().zip(&fractions) {
                prop_assert!((of(part) - f * all).abs() <= 1.0 + 1e-9);
            }
        }
    }

    #[test]
    fn an_epoch_shows_every_item_once_and_resumes(
        n in 0usize..100,
        size in 1usize..20,
        shuffle: Option<u64>,
        drop_last: bool,
        epoch: u64,
        stop in 0usize..30,
    ) {
        let data = numbers(n);
        let mut loader = DataLoader::new(size).unwrap().with_drop_last(drop_last);
        loader.shuffle = shuffle;
        let all: Vec<_> = loader.epoch(&data, epoch).collect();
        prop_assert_eq!(all.len(), loader.num_batches(n));
        let mut seen: Vec<usize> = Vec::new();
        for batch in &all {
            let want: Vec<i64> = batch.indices.iter().map(|&i| i as i64).collect();
            prop_assert_eq!(batch.targets.to_vec::<i64>(), want);
            let want: Vec<f32> = batch.indices.iter().map(|&i| i as f32).collect();
            prop_assert_eq!(batch.inputs.to_vec::<f32>(), want);
            seen.extend(&batch.indices);
        }
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), if drop_last { n / size * size } else { n });
        let rest: Vec<_> = loader.epoch(&data, epoch).skip_to(stop).map(|b| b.indices).collect();
        let want: Vec<_> = all.into_iter().skip(stop).map(|b| b.indices).collect();
        prop_assert_eq!(rest, want);
    }

    #[test]
    fn standardized_features_have_mean_0_and_deviation_1(
        x in vec(-100f32..100.0, 2 * 3 * 4..=2 * 3 * 4),
    ) {
        let x = Tensor::from_slice(&x, &[2, 3, 4]);
        let y = Standardize::fit(&x).unwrap().apply(x);
        let again = Standardize::fit(&y).unwrap();
        for (mean, std) in again.mean().iter().zip(again.std()) {
            prop_assert!(mean.abs() < 1e-4 && (std - 1.0).abs() < 1e-4, "{mean} {std}");
        }
    }

    #[test]
    fn idx_comes_back((dims, data) in shaped(), packed: bool) {
        let bytes = encode_idx(&dims, &data);
        let t = idx::parse(&if packed { gzip(&bytes) } else { bytes }, "f").unwrap();
        prop_assert_eq!(t.shape(), dims.iter().map(|&d| d as usize).collect::<Vec<_>>());
        prop_assert_eq!(t.to_vec::<u8>(), data);
    }

    #[test]
    fn csv_comes_back(
        (columns, rows) in (1usize..5).prop_flat_map(|c| {
            let x = any::<f32>().prop_filter("finite", |x| x.is_finite());
            (Just(c), vec(vec(x, c), 1..8))
        }),
        packed: bool,
    ) {
        let lines: Vec<String> =
            rows.iter().map(|r| r.iter().map(f32::to_string).collect::<Vec<_>>().join(",")).collect();
        let text = lines.join("\n").into_bytes();
        let t = csv::parse(&if packed { gzip(&text) } else { text }, "f", &csv::Options::new()).unwrap();
        prop_assert_eq!((t.rows(), t.columns()), (rows.len(), columns));
        prop_assert_eq!(t.values().to_vec::<f32>(), rows.concat());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        parse_all(&bytes);
    }

    #[test]
    fn bytes_that_start_right_never_panic(
        start in prop::sample::select(vec![&[0u8, 0, 8][..], &[0, 0, 14], &[0x1f, 0x8b, 8, 0], b"1,2\n"]),
        rest in vec(any::<u8>(), 0..64),
    ) {
        parse_all(&[start, &rest].concat());
    }

    #[test]
    fn text_like_csv_never_panics(
        text in "[0-9eE.,+\\-\" \t\r\n;nai\u{feff}\u{e9}]{0,80}",
        delimiter: u8,
    ) {
        parse_all(text.as_bytes());
        let _ = csv::parse(text.as_bytes(), "f", &csv::Options::new().with_delimiter(delimiter));
    }

    #[test]
    fn damaged_files_never_panic(
        (dims, data) in shaped(),
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        packed: bool,
    ) {
        let cifar = vec![1; 2 * 3073];
        for good in [encode_idx(&dims, &data), cifar, b"a,b\n1,2\n3,4\n".to_vec()] {
            let mut bytes = if packed { gzip(&good) } else { good };
            for (at, with) in &hits {
                let at = at.index(bytes.len());
                bytes[at] = *with;
            }
            parse_all(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            parse_all(&bytes);
        }
    }
}
