//! Views against plain vectors: any chain of them shows the elements that its definition says.

use gradus_tensor::Tensor;
use proptest::{collection::vec, prelude::*};

/// A tensor without strides: what each view is compared with.
#[derive(Clone, Debug)]
struct Plain {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Plain {
    fn strides(&self) -> Vec<usize> {
        (0..self.shape.len()).map(|d| self.shape[d + 1..].iter().product()).collect()
    }

    /// A new shape whose elements lie where `place` says, by the index of the old ones.
    fn arranged(&self, shape: Vec<usize>, place: impl Fn(&[usize]) -> Vec<usize>) -> Self {
        let strides = self.strides();
        let n: usize = shape.iter().product();
        let mut index = vec![0; shape.len()];
        let mut data = Vec::with_capacity(n);
        for _ in 0..n {
            let at: usize = place(&index).iter().zip(&strides).map(|(i, s)| i * s).sum();
            data.push(self.data[at]);
            for d in (0..shape.len()).rev() {
                index[d] += 1;
                if index[d] < shape[d] {
                    break;
                }
                index[d] = 0;
            }
        }
        Self { shape, data }
    }
}

/// Does one random thing to both.
fn step(t: &Tensor, p: &Plain, kind: u8, [a, b, c]: [usize; 3]) -> (Tensor, Plain) {
    let n = p.shape.len();
    if kind == 0 {
        let d = a % (n + 1);
        let mut shape = p.shape.clone();
        shape.insert(d, 1);
        return (t.unsqueeze(d as isize), Plain { shape, data: p.data.clone() });
    }
    if n == 0 {
        return (t.clone(), p.clone());
    }
    let (d, e) = (a % n, b % n);
    let size = p.shape[d];
    match kind {
        1 => {
            let mut shape = p.shape.clone();
            shape.swap(d, e);
            let q = p.arranged(shape, |i| {
                let mut i = i.to_vec();
                i.swap(d, e);
                i
            });
            (t.transpose(d as isize, e as isize - n as isize), q)
        }
        2 => {
            let (start, by) = (b % (size + 1), c % 3 + 1);
            let mut shape = p.shape.clone();
            shape[d] = (size - start).div_ceil(by);
            let q = p.arranged(shape, |i| {
                let mut i = i.to_vec();
                i[d] = start + i[d] * by;
                i
            });
            (t.slice(d as isize, start as isize, None, by as isize), q)
        }
        3 => {
            let start = b % (size + 1);
            let len = c % (size - start + 1);
            let mut shape = p.shape.clone();
            shape[d] = len;
            let q = p.arranged(shape, |i| {
                let mut i = i.to_vec();
                i[d] += start;
                i
            });
            (t.narrow(d as isize, start, len), q)
        }
        4 if size == 1 => {
            let mut shape = p.shape.clone();
            shape[d] = c % 4;
            let q = p.arranged(shape.clone(), |i| {
                let mut i = i.to_vec();
                i[d] = 0;
                i
            });
            (t.broadcast_to(&shape), q)
        }
        5 => {
            let flat = vec![p.data.len()];
            (t.view(&flat), Plain { shape: flat, data: p.data.clone() })
        }
        _ => (t.clone(), p.clone()),
    }
}

proptest! {
    #[test]
    fn a_chain_of_views_shows_what_it_should(
        shape in vec(0usize..5, 0..4),
        steps in vec((0u8..6, any::<[u16; 3]>()), 0..8),
    ) {
        let n: usize = shape.iter().product();
        let mut p = Plain { shape, data: (0..n).map(|i| i as f64).collect() };
        let mut t = Tensor::from_slice(&p.data, &p.shape);
        for (kind, numbers) in steps {
            (t, p) = step(&t, &p, kind, numbers.map(usize::from));
            prop_assert_eq!(t.shape(), &p.shape[..]);
        }
        prop_assert_eq!(t.to_vec::<f64>(), p.data.clone());
        // The loops over two operands walk strides of their own.
        let dense = Tensor::from_slice(&p.data, &p.shape);
        let twice: Vec<f64> = p.data.iter().map(|x| x + x).collect();
        prop_assert_eq!(t.add(&t).to_vec::<f64>(), twice.clone());
        prop_assert_eq!(t.add(&dense).to_vec::<f64>(), twice);
        prop_assert_eq!(t.sum(&[], false).item(), p.data.iter().sum::<f64>());
        // Writing to the view leaves everything else alone.
        let mut written = t.clone();
        written.make_mut::<f64>().fill(-1.0);
        prop_assert!(written.to_vec::<f64>().iter().all(|&x| x == -1.0));
        prop_assert_eq!(t.to_vec::<f64>(), p.data);
    }
}
