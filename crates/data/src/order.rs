//! Random orders as functions of a seed.
//!
//! ChaCha8 under a key made of the seed and the purpose, one stream an epoch, and the shuffle of Fisher and
//! Yates, written out here so that no order changes with a version of `rand`.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// What an order is for: two purposes under one seed have nothing in common.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Epoch = 0,
    Split = 1,
}

/// The items `0..n` in the order of this epoch: a function of the arguments alone.
///
/// ```
/// let order = gradus_data::shuffled(5, 42, 0);
/// assert_eq!(order, gradus_data::shuffled(5, 42, 0));
/// assert_ne!(order, gradus_data::shuffled(5, 42, 1));
/// ```
///
/// # References
/// Durstenfeld: Algorithm 235, random permutation (1964). Bernstein: ChaCha, a variant of Salsa20 (2008).
#[must_use]
pub fn shuffled(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    permutation(n, seed, Purpose::Epoch, epoch)
}

pub(crate) fn permutation(n: usize, seed: u64, purpose: Purpose, stream: u64) -> Vec<usize> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(&mut rng, i as u64 + 1) as usize);
    }
    order
}

/// A number uniform in `0..n`, without bias (Lemire 2019).
fn below(rng: &mut impl Rng, n: u64) -> u64 {
    // The lowest 2^64 mod n products would make some results likelier than others.
    let reject = n.wrapping_neg() % n;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(n);
        if product as u64 >= reject {
            return (product >> 64) as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected orders were computed by another implementation of ChaCha8, written for this test.
    #[test]
    fn the_order_is_pinned() {
        assert_eq!(shuffled(10, 0, 0), [9, 2, 3, 4, 6, 7, 0, 1, 5, 8]);
        assert_eq!(shuffled(10, 0, 1), [8, 5, 0, 6, 1, 3, 4, 2, 9, 7]);
        assert_eq!(shuffled(10, 1, 0), [1, 4, 9, 8, 0, 5, 7, 6, 2, 3]);
        assert_eq!(shuffled(10, u64::MAX, u64::MAX), [1, 8, 6, 3, 7, 5, 4, 0, 2, 9]);
        assert_eq!(permutation(10, 0, Purpose::Split, 0), [0, 3, 7, 6, 5, 1, 4, 8, 9, 2]);
    }

    #[test]
    fn nothing_and_one_are_orders_too() {
        assert_eq!(shuffled(0, 3, 3), []);
        assert_eq!(shuffled(1, 3, 3), [0]);
    }

    #[test]
    fn all_orders_are_equally_likely() {
        let mut count = std::collections::BTreeMap::new();
        for seed in 0..2400 {
            *count.entry(shuffled(4, seed, 0)).or_insert(0u32) += 1;
        }
        // 24 orders, 100 of each expected, standard deviation 9.8.
        assert_eq!(count.len(), 24);
        assert!(count.values().all(|&c| (55..145).contains(&c)), "{count:?}");
    }
}
