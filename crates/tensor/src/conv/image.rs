//! Images read in vectors of channels.

use crate::gemm::lanes::{LANES, prefetch, to_lanes};

/// A batch `[N, C, H, W]`.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub(super) data: &'a [f32],
    pub(super) channels: usize,
    pub(super) size: [usize; 2],
}

impl Images<'_> {
    /// Writes `out.len() / 16` pixels of one image, from row `at[0]` and column `at[1]` on, of the 16 channels from
    /// `first` on: zeros where there is no pixel or channel.
    pub(super) fn row(&self, image: usize, first: usize, at: [isize; 2], out: &mut [f32]) {
        let [h, w] = self.size;
        let n = out.len() / LANES;
        // Pixels before the image, and up to its end.
        let before = ((-at[1]).max(0) as usize).min(n);
        let end = ((w as isize - at[1]).max(0) as usize).clamp(before, n);
        if at[0] < 0 || at[0] >= h as isize || before == end {
            return out.fill(0.0);
        }
        out[..before * LANES].fill(0.0);
        out[end * LANES..].fill(0.0);
        let from = ((image * self.channels + first) * h + at[0] as usize) * w
            + (at[1] + before as isize) as usize;
        let channels = LANES.min(self.channels - first);
        to_lanes(&self.data[from..], h * w, channels, end - before, &mut out[before * LANES..]);
    }

    /// Asks for a row that will be read soon.
    pub(super) fn prefetch(&self, image: usize, first: usize, row: isize) {
        let [h, w] = self.size;
        if (0..h as isize).contains(&row) {
            let from = ((image * self.channels + first) * h + row as usize) * w;
            prefetch(&self.data[from..], h * w, LANES.min(self.channels - first), w);
        }
    }
}
