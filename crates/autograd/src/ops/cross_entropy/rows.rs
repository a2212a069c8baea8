//! The loops over rows of logits.

use gradus_tensor::{Real, kernel, sum_row};

/// Rows of fewer classes are too short for vectors of their own.
const NARROW: usize = 64;

/// The soft part of a target: `w_c (a q_c + b)` for class c, where no `q` means 0 and no `w` means 1.
#[derive(Clone, Copy)]
pub(super) struct Soft<'a, T> {
    pub(super) q: Option<&'a [T]>,
    pub(super) w: Option<&'a [T]>,
    pub(super) a: T,
    pub(super) b: T,
}

impl<T: Real> Soft<'_, T> {
    /// Writes the coefficients of row `i`.
    #[inline(always)]
    fn write(&self, i: usize, out: &mut [T]) {
        match self.q {
            Some(q) => {
                let q = &q[i * out.len()..];
                for (o, &q) in out.iter_mut().zip(q) {
                    *o = self.a * q + self.b;
                }
            }
            None => out.fill(self.b),
        }
        if let Some(w) = self.w {
            for (o, &w) in out.iter_mut().zip(w) {
                *o *= w;
            }
        }
    }
}

kernel! {
    /// For rows from `first` on, `out = (-sum_c t_c ln p_c, sum_c t_c)` with the soft target `t`.
    pub(super) fn soft_loss_rows['a, T: Real]['a, T](x: &'a [T], parts: &'a [T], soft: Soft<'a, T>, n: usize, first: usize, out: &'a mut [T]) -> () {
        let mut t = vec![T::ZERO; n];
        for (i, out) in (first..).zip(out.chunks_exact_mut(2)) {
            let (x, max, log_sum) = (&x[i * n..(i + 1) * n], parts[2 * i], parts[2 * i + 1]);
            soft.write(i, &mut t);
            out[1] = sum_row(&t);
            for (t, &x) in t.iter_mut().zip(x) {
                // A class that is not asked for costs nothing, even if it is impossible.
                *t = if *t == T::ZERO { T::ZERO } else { *t * (log_sum - (x - max)) };
            }
            out[0] = sum_row(&t);
        }
    }
}

kernel! {
    /// For rows from `first` on, `out = scale (mass p - t)` with the soft target `t`; `rows` holds (scale, mass).
    pub(super) fn grad_rows['a, T: Real]['a, T](x: &'a [T], parts: &'a [T], rows: &'a [(T, T)], soft: Option<Soft<'a, T>>, n: usize, first: usize, out: &'a mut [T]) -> () {
        let mut t = vec![T::ZERO; if soft.is_some() { n } else { 0 }];
        let row = |i: usize| (&x[i * n..(i + 1) * n], parts[2 * i], parts[2 * i + 1]);
        // Exponentials of narrow rows are taken together, so that they fill the vectors.
        let narrow = n < NARROW;
        if narrow {
            for (i, out) in (first..).zip(out.chunks_exact_mut(n)) {
                let (x, max, log_sum) = row(i);
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = (x - max) - log_sum;
                }
            }
            for o in out.iter_mut() {
                *o = o.exp_neg_();
            }
        }
        for (i, out) in (first..).zip(out.chunks_exact_mut(n)) {
            let (scale, mass) = rows[i];
            if scale == T::ZERO {
                out.fill(T::ZERO);
                continue;
            }
            let whole = scale * mass;
            if narrow {
                for o in out.iter_mut() {
                    *o *= whole;
                }
            } else {
                let (x, max, log_sum) = row(i);
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = whole * ((x - max) - log_sum).exp_neg_();
                }
            }
            if let Some(soft) = soft {
                soft.write(i, &mut t);
                for (o, &t) in out.iter_mut().zip(&t) {
                    *o = *o - scale * t;
                }
            }
        }
    }
}
