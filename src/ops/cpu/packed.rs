//! Products with a packed matrix: a tile of it at a time is unpacked into the cache and multiplied there.
#![expect(
    unsafe_code,
    reason = "the result is not made of zeros first, and its columns are written by several cores"
)]

use super::gemm::{Before, MIN_PART, Matrix, Out, STEP, write_part};
use super::{rows, tasks};
use crate::store::Form;
use std::cell::RefCell;

/// Values of a tile: it stays in a core's own cache beside what it is multiplied with.
const TILE: usize = 96 * 1024;
/// Multiply-adds that unpacking one value counts for.
const UNPACK: usize = 8;
/// Columns of a tile that is cut across rows: whole blocks, and whole steps of gemm.
const COLUMN_STEP: usize = 96;
/// Rows of the other factor up to which each value is unpacked again for each.
const FEW: usize = 2;

const _: () = assert!(cfg!(target_endian = "little"), "bytes of words are in the order of their values");

/// A packed matrix, row-major.
#[derive(Clone, Copy)]
pub(in crate::ops) struct PackedMatrix<'a> {
    form: Form,
    rows: usize,
    columns: usize,
    words: &'a [u32],
    scales: &'a [f32],
    mins: &'a [f32],
}

/// Which way the matrix W takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Way {
    /// x·Wᵀ
    Turned,
    /// x·W
    AsIs,
}

impl<'a> PackedMatrix<'a> {
    /// Words, scales and minima as [`crate::store::HostPacked`] has them; scales and minima may be longer.
    pub fn new(form: Form, shape: [usize; 2], words: &'a [u32], scales: &'a [f32], mins: &'a [f32]) -> Self {
        let [rows, columns] = shape;
        let n_blocks = rows * columns / form.block();
        assert_eq!(words.len() * form.per_word(), rows * columns, "a packed matrix has all its words");
        assert!(columns.is_multiple_of(form.block()), "rows are whole blocks");
        assert!(form == Form::Bf16 || scales.len() >= n_blocks, "each block has a scale");
        assert!(!form.has_min() || mins.len() >= n_blocks, "each block has a minimum");
        Self { form, rows, columns, words, scales, mins }
    }

    /// Values of `out.len()` columns of a row, from a whole block on.
    #[inline(always)]
    pub fn unpack(&self, row: usize, start: usize, out: &mut [f32]) {
        let first = row * self.columns + start;
        let words = &self.words[first / self.form.per_word()..][..out.len() / self.form.per_word()];
        match self.form {
            Form::Bf16 => {
                let halves: &[u16] = bytemuck::cast_slice(words);
                for (out, &half) in out.iter_mut().zip(halves) {
                    *out = f32::from_bits(u32::from(half) << 16);
                }
            }
            Form::Four => {
                let n_blocks = out.len() / 32;
                let scales = &self.scales[first / 32..][..n_blocks];
                let mins = &self.mins[first / 32..][..n_blocks];
                let (bytes, _) = bytemuck::cast_slice::<u32, u8>(words).as_chunks::<16>();
                let (blocks, _) = out.as_chunks_mut::<32>();
                for (((out, bytes), &scale), &min) in blocks.iter_mut().zip(bytes).zip(scales).zip(mins) {
                    for i in 0..16 {
                        out[i] = f32::from(bytes[i] & 0x0F) * scale + min;
                        out[i + 16] = f32::from(bytes[i] >> 4) * scale + min;
                    }
                }
            }
            Form::Eight { block: 16, has_min } => self.unpack_eight::<16>(first, has_min, words, out),
            Form::Eight { has_min, .. } => self.unpack_eight::<32>(first, has_min, words, out),
        }
    }

    #[inline(always)]
    fn unpack_eight<const N: usize>(&self, first: usize, has_min: bool, words: &[u32], out: &mut [f32]) {
        let (bytes, _) = bytemuck::cast_slice::<u32, i8>(words).as_chunks::<N>();
        let (blocks, _) = out.as_chunks_mut::<N>();
        for (i, (out, bytes)) in blocks.iter_mut().zip(bytes).enumerate() {
            let scale = self.scales[first / N + i];
            let min = if has_min { self.mins[first / N + i] } else { 0.0 };
            for (out, &q) in out.iter_mut().zip(bytes) {
                *out = f32::from(q) * scale + min;
            }
        }
    }

    /// Product of a row with `x`, whose sums over each block are `sums`.
    #[inline(always)]
    fn dot(&self, row: usize, x: &[f32], sums: &[f32]) -> f32 {
        let first = row * self.columns;
        let words = &self.words[first / self.form.per_word()..][..self.columns / self.form.per_word()];
        match self.form {
            Form::Bf16 => {
                let (halves, rest) = bytemuck::cast_slice::<u32, u16>(words).as_chunks::<32>();
                let (xs, x_rest) = x.as_chunks::<32>();
                let value = |half: u16| f32::from_bits(u32::from(half) << 16);
                let mut lanes = [0.0f32; 32];
                for (halves, x) in halves.iter().zip(xs) {
                    for (lane, (&half, &x)) in lanes.iter_mut().zip(halves.iter().zip(x)) {
                        *lane += value(half) * x;
                    }
                }
                let rest: f32 = rest.iter().zip(x_rest).map(|(&half, &x)| value(half) * x).sum();
                lanes.iter().sum::<f32>() + rest
            }
            Form::Four => {
                let (bytes, _) = bytemuck::cast_slice::<u32, u8>(words).as_chunks::<16>();
                let (xs, _) = x.as_chunks::<32>();
                let scales = &self.scales[first / 32..][..bytes.len()];
                let mins = &self.mins[first / 32..][..bytes.len()];
                let (mut lanes, mut low) = ([0.0f32; 16], 0.0);
                for (i, (bytes, x)) in bytes.iter().zip(xs).enumerate() {
                    let scale = scales[i];
                    for j in 0..16 {
                        let pair = f32::from(bytes[j] & 0x0F) * x[j] + f32::from(bytes[j] >> 4) * x[j + 16];
                        lanes[j] += pair * scale;
                    }
                    low += mins[i] * sums[i];
                }
                lanes.iter().sum::<f32>() + low
            }
            Form::Eight { block: 16, has_min } => self.dot_eight::<16>(first, has_min, words, x, sums),
            Form::Eight { has_min, .. } => self.dot_eight::<32>(first, has_min, words, x, sums),
        }
    }

    #[inline(always)]
    fn dot_eight<const N: usize>(
        &self,
        first: usize,
        has_min: bool,
        words: &[u32],
        x: &[f32],
        sums: &[f32],
    ) -> f32 {
        let (bytes, _) = bytemuck::cast_slice::<u32, i8>(words).as_chunks::<N>();
        let (xs, _) = x.as_chunks::<N>();
        let scales = &self.scales[first / N..][..bytes.len()];
        let (mut lanes, mut low) = ([0.0f32; 16], 0.0);
        for (i, (bytes, x)) in bytes.iter().zip(xs).enumerate() {
            let scale = scales[i];
            for j in 0..16 {
                let mut part = f32::from(bytes[j]) * x[j];
                if N == 32 {
                    part += f32::from(bytes[j + N - 16]) * x[j + N - 16];
                }
                lanes[j] += part * scale;
            }
            if has_min {
                low += self.mins[first / N + i] * sums[i];
            }
        }
        lanes.iter().sum::<f32>() + low
    }

    /// Sums of `x` over each block; none where the form has no minima.
    fn block_sums(&self, x: &[f32]) -> Vec<f32> {
        if !self.form.has_min() {
            return Vec::new();
        }
        x.chunks_exact(self.form.block()).map(|block| block.iter().sum()).collect()
    }
}

/// Rows of `matrix` by number, row-major.
///
/// # Shapes
/// result: `[ids.len(), columns]`
pub(in crate::ops) fn unpacked_rows(
    matrix: PackedMatrix,
    ids: impl ExactSizeIterator<Item = usize>,
) -> Vec<f32> {
    let ids: Vec<usize> = ids.collect();
    assert!(ids.iter().all(|&id| id < matrix.rows), "a row's number is below the number of rows");
    let mut out = vec![0.0; ids.len() * matrix.columns];
    rows::for_each(
        &mut out,
        matrix.columns,
        #[inline(always)]
        |i, row| matrix.unpack(ids[i], 0, row),
    );
    out
}

/// `x·Wᵀ` or `x·W`, row-major.
///
/// # Shapes
/// `x`: `[m, columns]` for [`Way::Turned`], `[m, rows]` for [`Way::AsIs`] · result: `[m, rows]`, `[m, columns]`
pub(in crate::ops) fn packed_product(x: Matrix, w: PackedMatrix, way: Way) -> Vec<f32> {
    let (inner, n) = match way {
        Way::Turned => (w.columns, w.rows),
        Way::AsIs => (w.rows, w.columns),
    };
    assert_eq!(x.n_columns(), inner, "the inner dimensions of a matrix product are alike");
    let m = x.n_rows();
    if inner == 0 || m * n == 0 {
        return vec![0.0; m * n];
    }
    if way == Way::Turned && m <= FEW && x.row(0).is_some() {
        return by_dots(x, w);
    }
    let step = match way {
        Way::Turned => STEP,
        Way::AsIs => COLUMN_STEP,
    };
    let work = (m + UNPACK) * inner * n;
    let n_cores = (work / MIN_PART).clamp(1, tasks::n_cores());
    // As many tiles as cores, or a multiple: none works alone on the last one.
    let n_tiles = (inner * n).div_ceil(TILE).next_multiple_of(n_cores);
    let length = n.div_ceil(n_tiles).next_multiple_of(step);
    let mut product = Vec::with_capacity(m * n);
    let out = Out(product.as_mut_ptr());
    let tile = |index: usize| {
        let start = index * length;
        let length = length.min(n - start);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(scratch.len().max(inner * length), 0.0);
            let scratch = &mut scratch[..inner * length];
            tasks::vectorised(
                #[inline(always)]
                || match way {
                    Way::Turned => {
                        let rows = scratch.chunks_exact_mut(inner).enumerate();
                        rows.for_each(|(i, row)| w.unpack(start + i, 0, row));
                    }
                    Way::AsIs => {
                        let rows = scratch.chunks_exact_mut(length).enumerate();
                        rows.for_each(|(i, row)| w.unpack(i, start, row));
                    }
                },
            );
            let rhs = match way {
                Way::Turned => Matrix::dense(scratch, length, inner).turned(),
                Way::AsIs => Matrix::dense(scratch, inner, length),
            };
            // SAFETY: the factors are within their values, as `Matrix::of` and the scratch's length say; no other tile
            // has these columns of the result.
            unsafe { write_part(x, rhs, 1.0, Before::Dropped, out.at(start), n) };
        });
    };
    if n_cores == 1 {
        (0..n.div_ceil(length)).for_each(tile);
    } else {
        tasks::for_each_part(n.div_ceil(length), tile);
    }
    // SAFETY: the tiles are all columns, and each was written whole.
    unsafe { product.set_len(m * n) };
    product
}

thread_local! {
    /// A tile, kept for the next.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn by_dots(x: Matrix, w: PackedMatrix) -> Vec<f32> {
    let n = w.rows;
    let mut out = vec![0.0; x.n_rows() * n];
    for (i, out) in out.chunks_exact_mut(n).enumerate() {
        let Some(x) = x.row(i) else { unreachable!("the caller asked") };
        let sums = w.block_sums(x);
        let n_parts = (w.rows * w.columns / MIN_DOTS).clamp(1, tasks::n_cores());
        let length = n.div_ceil(n_parts);
        tasks::for_each_chunk(
            out,
            length,
            #[inline(always)]
            |part, out| {
                for (j, y) in out.iter_mut().enumerate() {
                    *y = w.dot(part * length + j, x, &sums);
                }
            },
        );
    }
    out
}

/// Values below which handing a part of a single row's products to another core costs more than it saves.
const MIN_DOTS: usize = 1 << 17;
