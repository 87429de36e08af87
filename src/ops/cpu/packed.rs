//! Values of a packed matrix, as products and tables read them.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions that the processor is asked for")
)]

#[cfg(target_arch = "x86_64")]
mod wide;

use super::rows;
use crate::store::Form;
use std::hint::black_box;

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

/// A block of [`Form::Four`].
#[derive(Clone, Copy)]
pub(in crate::ops) struct FourBits<'a> {
    /// Value i in the lower half of byte i, value i + 16 in its upper half.
    pub values: &'a [u8; 16],
    pub scale: f32,
    pub min: f32,
}

/// A block of 32 of [`Form::Eight`].
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(in crate::ops) struct EightBits<'a> {
    pub values: &'a [i8; 32],
    pub scale: f32,
    pub min: f32,
}

/// Rows that share what is unpacked of a packed one.
pub(in crate::ops) const MOST_TOGETHER: usize = 8;

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

    /// Its rows.
    pub fn n_rows(&self) -> usize {
        self.rows
    }

    /// Its columns.
    pub fn n_columns(&self) -> usize {
        self.columns
    }

    /// Values of `out.len()` columns of a row, from a whole block on.
    #[inline(always)]
    pub fn unpack(&self, row: usize, start: usize, out: &mut [f32]) {
        let first = row * self.columns + start;
        let words = &self.words[first / self.form.per_word()..][..out.len() / self.form.per_word()];
        match self.form {
            Form::Bf16 => {
                let (halves, rest) = bytemuck::cast_slice::<u32, u16>(words).as_chunks::<32>();
                let (blocks, out_rest) = out.as_chunks_mut::<32>();
                let value = |half: u16| f32::from_bits(u32::from(half) << 16);
                blocks.iter_mut().zip(halves).for_each(|(out, halves)| *out = values_of(*halves, value));
                out_rest.iter_mut().zip(rest).for_each(|(out, &half)| *out = value(half));
            }
            Form::Four => {
                let (blocks, _) = out.as_chunks_mut::<32>();
                for (out, FourBits { values, scale, min }) in blocks.iter_mut().zip(self.fours(row, start)) {
                    let (low, high) = out.split_at_mut(16);
                    low.copy_from_slice(&values_of(*values, |byte| f32::from(byte & 0x0F) * scale + min));
                    high.copy_from_slice(&values_of(*values, |byte| f32::from(byte >> 4) * scale + min));
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
            *out = values_of(*bytes, |q| f32::from(q) * scale + min);
        }
    }

    /// Blocks of a row from a whole one on, of a matrix of [`Form::Four`].
    #[inline(always)]
    pub fn fours(&self, row: usize, start: usize) -> impl Iterator<Item = FourBits<'a>> + use<'a> {
        debug_assert!(self.form == Form::Four, "the caller asked");
        let (first, n) = ((row * self.columns + start) / 32, (self.columns - start) / 32);
        let (blocks, _) =
            bytemuck::cast_slice::<u32, u8>(&self.words[4 * first..][..4 * n]).as_chunks::<16>();
        let bounds = self.scales[first..][..n].iter().zip(&self.mins[first..][..n]);
        blocks.iter().zip(bounds).map(|(values, (&scale, &min))| FourBits { values, scale, min })
    }

    /// As [`Self::fours`], of a matrix of [`Form::Eight`] with blocks of 32.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn eights(&self, row: usize, start: usize) -> impl Iterator<Item = EightBits<'a>> + use<'a> {
        debug_assert!(matches!(self.form, Form::Eight { block: 32, .. }), "the caller asked");
        let (first, n) = ((row * self.columns + start) / 32, (self.columns - start) / 32);
        let (blocks, _) =
            bytemuck::cast_slice::<u32, i8>(&self.words[8 * first..][..8 * n]).as_chunks::<32>();
        let has_min = self.form.has_min();
        let mins = if has_min { &self.mins[first..][..n] } else { &[] };
        let bounds = self.scales[first..][..n].iter().enumerate();
        blocks.iter().zip(bounds).map(move |(values, (i, &scale))| EightBits {
            values,
            scale,
            min: if has_min { mins[i] } else { 0.0 },
        })
    }

    /// Where all that makes up a row's values from a whole block on lies, whether it is there or not.
    #[cfg(target_arch = "x86_64")]
    pub fn places(&self, row: usize, start: usize) -> [*const u8; 3] {
        let first = row * self.columns + start;
        let block = first / self.form.block();
        [
            self.words.as_ptr().wrapping_add(first / self.form.per_word()).cast(),
            self.scales.as_ptr().wrapping_add(block).cast(),
            self.mins.as_ptr().wrapping_add(block).cast(),
        ]
    }

    /// How its values lie.
    #[cfg(target_arch = "x86_64")]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whether [`Self::add_dots`] can be asked.
    pub fn has_wide_dots(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.form, Form::Four | Form::Eight { block: 32, .. }) && wide::is_there();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Adds the products of a row with several `x`, at most [`MOST_TOGETHER`], to `sums`.
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "nobody asks"))]
    pub fn add_dots<'x>(&self, row: usize, x: impl Fn(usize) -> &'x [f32], sums: &mut [f32]) {
        assert!(self.has_wide_dots(), "the caller asked");
        #[cfg(target_arch = "x86_64")]
        match sums.len() {
            0 => {}
            1 => self.add_wide_dots::<1>(row, x, sums),
            2 => self.add_wide_dots::<2>(row, x, sums),
            3..=4 => self.add_wide_dots::<4>(row, x, sums),
            _ => self.add_wide_dots::<MOST_TOGETHER>(row, x, sums),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn add_wide_dots<'x, const N: usize>(
        &self,
        row: usize,
        x: impl Fn(usize) -> &'x [f32],
        sums: &mut [f32],
    ) {
        // The last stands in for those that are not there.
        let x: [&[f32]; N] = std::array::from_fn(|i| x(i.min(sums.len() - 1)));
        // SAFETY: the processor has what it takes.
        let dots = unsafe {
            match self.form {
                Form::Four => wide::fours(self.fours(row, 0), x),
                _ => wide::eights(self.eights(row, 0), x),
            }
        };
        sums.iter_mut().zip(dots).for_each(|(sum, dot)| *sum += dot);
    }

    /// Product of a row with `x`, whose sums over each block are `sums`.
    #[inline(always)]
    pub fn dot(&self, row: usize, x: &[f32], sums: &[f32]) -> f32 {
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
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has what it takes.
            Form::Four if wide::is_there() => unsafe { wide::fours(self.fours(row, 0), [x])[0] },
            Form::Four => {
                let (xs, _) = x.as_chunks::<32>();
                let (mut lanes, mut low) = ([0.0f32; 16], 0.0);
                for ((FourBits { values, scale, min }, x), sum) in self.fours(row, 0).zip(xs).zip(sums) {
                    for j in 0..16 {
                        let pair = f32::from(values[j] & 0x0F) * x[j] + f32::from(values[j] >> 4) * x[j + 16];
                        lanes[j] += pair * scale;
                    }
                    low += min * sum;
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
    pub fn block_sums(&self, x: &[f32]) -> Vec<f32> {
        if !self.form.has_min() {
            return Vec::new();
        }
        x.chunks_exact(self.form.block()).map(|block| block.iter().sum()).collect()
    }
}

/// A block's values from what stands for them.
///
/// They are made in a place of their own, because the compiler does not know that a row and its words lie apart; and
/// out of its sight, or else it goes across blocks, which costs a gather and a scatter for every value.
#[inline(always)]
fn values_of<T: Copy, const N: usize>(block: [T; N], value: impl Fn(T) -> f32) -> [f32; N] {
    let mut values = [0.0; N];
    for (to, from) in values.iter_mut().zip(block) {
        *to = value(from);
    }
    black_box(values)
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
    rows::make(
        ids.len() * matrix.columns,
        matrix.columns,
        #[inline(always)]
        |i, row| matrix.unpack(ids[i], 0, row),
    )
}
