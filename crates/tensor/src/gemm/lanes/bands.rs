//! An image batch `[N, C, H, W]` for writing, cut along its rows of pixels, whose channels lie far apart.

use std::marker::PhantomData;

use super::{LANES, turn::write};

/// Some rows of pixels, all channels. Rows are counted over the whole batch.
pub(crate) struct Band<'a> {
    ptr: *mut f32,
    channels: usize,
    size: [usize; 2],
    rows: [usize; 2],
    memory: PhantomData<&'a mut [f32]>,
}

// SAFETY: a Band is the only one that writes its rows, as parts of a slice are.
unsafe impl Send for Band<'_> {}

/// Cuts the batch `data` of images of `channels` planes of `size` into bands that end before the rows `ends`.
///
/// # Panics
/// When `data` is not of whole images, or the ends are not in order and inside.
pub(crate) fn bands<'a>(
    data: &'a mut [f32],
    channels: usize,
    size: [usize; 2],
    ends: impl IntoIterator<Item = usize>,
) -> Vec<Band<'a>> {
    let image = channels * size[0] * size[1];
    assert!(image > 0 && data.len().is_multiple_of(image), "a batch is of whole images");
    let rows = data.len() / image * size[0];
    let mut first = 0;
    let band = |end| {
        assert!(first <= end && end <= rows, "bands are in order");
        let band = Band {
            ptr: data.as_mut_ptr(),
            channels,
            size,
            rows: [first, end],
            memory: PhantomData,
        };
        first = end;
        band
    };
    ends.into_iter().map(band).collect()
}

impl Band<'_> {
    /// Writes `n` pixels from column `column` of row `row` on, of the channels from `first` on, at most 16:
    /// `lanes[i * 16 + c]`.
    ///
    /// # Panics
    /// When a pixel lies outside of the band.
    pub(crate) fn write(
        &mut self,
        row: usize,
        column: usize,
        first: usize,
        n: usize,
        lanes: &[f32],
    ) {
        let [h, w] = self.size;
        assert!(self.rows[0] <= row && row < self.rows[1], "a row of another band");
        assert!(
            column + n <= w && first < self.channels && n * LANES <= lanes.len(),
            "outside of the image"
        );
        let at = ((row / h * self.channels + first) * h + row % h) * w + column;
        let channels = LANES.min(self.channels - first);
        // SAFETY: the pixels lie inside of the batch, in a row of this band alone, which is borrowed mutably.
        unsafe { write(lanes, n, channels, self.ptr.add(at), h * w) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_the_batch() {
        let mut data = vec![0f32; 2 * 3 * 4 * 5];
        for (i, mut band) in bands(&mut data, 3, [4, 5], [3, 6, 8]).into_iter().enumerate() {
            for row in [0..3, 3..6, 6..8][i].clone() {
                let lanes: Vec<f32> = (0..5 * LANES)
                    .map(|x| (row * 100 + x / LANES * 10 + x % LANES) as f32)
                    .collect();
                band.write(row, 0, 0, 5, &lanes);
            }
        }
        for (i, &x) in data.iter().enumerate() {
            let (n, c, y, column) = (i / 60, i / 20 % 3, i / 5 % 4, i % 5);
            assert_eq!(x, ((n * 4 + y) * 100 + column * 10 + c) as f32);
        }
    }

    #[test]
    #[should_panic(expected = "a row of another band")]
    fn a_band_keeps_to_its_rows() {
        let mut data = vec![0f32; 8];
        let mut bands = bands(&mut data, 1, [4, 2], [2, 4]);
        bands[0].write(2, 0, 0, 1, &[0.0; LANES]);
    }
}
