//! Matrices of few bits a value, in the one form that is computed with.
//!
//! What a file stores in blocks keeps its values: each is `q · scale + min`, rounded as ggml rounds it. What is
//! packed here from full precision loses what does not fit.

use super::StoredType;
use super::quants::Part;
use half::bf16;

/// Values with one scale where packing chooses.
const BLOCK: usize = 32;

/// How values lie in words of 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// bfloat16, two a word, the first in the low half.
    Bf16,
    /// Four bits, unsigned, with scale and minimum of each 32. Four words hold such a block: byte i has value i in its
    /// low half and value i + 16 in its high half, as in ggml's Q4_1.
    Four,
    /// Eight bits, signed, with a scale of each `block`, and a minimum too where `has_min`.
    Eight {
        /// Values with one scale.
        block: usize,
        /// Whether something is added to the multiples of the scale.
        has_min: bool,
    },
}

impl Form {
    /// What matrices are rounded to in eight bits.
    pub const EIGHT: Self = Self::Eight { block: BLOCK, has_min: false };

    /// Values with one scale; rows are whole numbers of them.
    pub fn block(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::Four => BLOCK,
            Self::Eight { block, .. } => block,
        }
    }

    /// Values in a word.
    pub fn per_word(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::Four => 8,
            Self::Eight { .. } => 4,
        }
    }

    /// Whether blocks have minima.
    pub fn has_min(self) -> bool {
        matches!(self, Self::Four | Self::Eight { has_min: true, .. })
    }

    /// Bytes that `n_values` take, scales and minima included.
    pub fn n_bytes(self, n_values: u64) -> u64 {
        let per_block = match self {
            Self::Bf16 => 0,
            _ if self.has_min() => 8,
            _ => 4,
        };
        n_values / self.per_word() as u64 * 4 + n_values / self.block() as u64 * per_block
    }

    /// The form that holds a stored type's values without loss; `None` for types of more than 16 bits, and for F16.
    pub fn of(stored: StoredType) -> Option<Self> {
        use StoredType::{BF16, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        match stored {
            BF16 => Some(Self::Bf16),
            Q4_0 | Q4_1 | Q4K => Some(Self::Four),
            Q5_1 | Q5K => Some(Self::Eight { block: BLOCK, has_min: true }),
            Q5_0 | Q8_0 => Some(Self::Eight { block: BLOCK, has_min: false }),
            Q6K => Some(Self::Eight { block: 16, has_min: false }),
            _ => None,
        }
    }

    /// Bits of a value, its share of the scale aside.
    pub fn bits(self) -> usize {
        32 / self.per_word()
    }
}

/// A packed matrix in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostPacked {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// How its values lie.
    pub form: Form,
    /// The values, row-major.
    pub words: Vec<u32>,
    /// One a block, row-major; none for [`Form::Bf16`].
    pub scales: Vec<f32>,
    /// As many, where the form has minima.
    pub mins: Vec<f32>,
}

impl HostPacked {
    fn empty(shape: [usize; 2], form: Form) -> Self {
        let n_values = shape[0] * shape[1];
        let n_blocks = if form == Form::Bf16 { 0 } else { n_values / form.block() };
        Self {
            shape,
            form,
            words: Vec::with_capacity(n_values / form.per_word()),
            scales: Vec::with_capacity(n_blocks),
            mins: Vec::with_capacity(if form.has_min() { n_blocks } else { 0 }),
        }
    }

    /// The matrix whose bytes these are, with the same values; `None` where its type has no [`Form`] or its rows no
    /// whole number of blocks.
    pub fn from_stored(stored: StoredType, bytes: &[u8], shape: [usize; 2]) -> Option<Self> {
        let form = Form::of(stored).filter(|form| shape[1].is_multiple_of(form.block()))?;
        let mut packed = Self::empty(shape, form);
        if form == Form::Bf16 {
            let (words, _) = bytes.as_chunks::<4>();
            packed.words.extend(words.iter().map(|&word| u32::from_le_bytes(word)));
        }
        stored.each_part(bytes, |part| packed.push(part));
        Some(packed)
    }

    /// Rounds `values`, row-major, to four bits: scale and minimum of each block begin at its range and are then fitted
    /// by least squares to the whole numbers they gave, as long as the error falls.
    ///
    /// `None` where rows are no whole number of blocks.
    pub fn four(values: &[f32], shape: [usize; 2]) -> Option<Self> {
        Self::rounded(values, shape, Form::Four, four_bits)
    }

    /// Rounds `values`, row-major, to eight bits: multiples of a 127th of each block's largest magnitude (ggml's Q8_0).
    ///
    /// `None` where rows are no whole number of blocks.
    pub fn eight(values: &[f32], shape: [usize; 2]) -> Option<Self> {
        Self::rounded(values, shape, Form::EIGHT, |block, q| {
            let scale = block.iter().fold(0.0, |largest: f32, value| largest.max(value.abs())) / 127.0;
            for (q, value) in q.iter_mut().zip(block) {
                *q = if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
            }
            (scale, None)
        })
    }

    fn rounded(
        values: &[f32],
        shape: [usize; 2],
        form: Form,
        round: impl Fn(&[f32], &mut [i8; BLOCK]) -> (f32, Option<f32>),
    ) -> Option<Self> {
        if !shape[1].is_multiple_of(BLOCK) {
            return None;
        }
        let mut packed = Self::empty(shape, form);
        for block in values.chunks_exact(BLOCK) {
            let mut q = [0; BLOCK];
            let (scale, min) = round(block, &mut q);
            packed.push(Part { q: &q, scale, min });
        }
        Some(packed)
    }

    fn push(&mut self, Part { q, scale, min }: Part) {
        self.scales.push(scale);
        match self.form {
            Form::Four => {
                // Values around zero go up by the 8 that the minimum takes off again, without rounding.
                let shift = if min.is_some() { 0 } else { 8 };
                let byte =
                    |i: usize| (q[i] + shift).cast_unsigned() | (q[i + 16] + shift).cast_unsigned() << 4;
                let word = |w: usize| u32::from_le_bytes(std::array::from_fn(|i| byte(4 * w + i)));
                self.words.extend((0..4).map(word));
                self.mins.push(min.unwrap_or(-8.0 * scale));
            }
            Form::Eight { has_min, .. } => {
                let (words, _) = q.as_chunks::<4>();
                self.words.extend(words.iter().map(|q| u32::from_le_bytes(q.map(i8::cast_unsigned))));
                if has_min {
                    self.mins.push(min.unwrap_or(0.0));
                }
            }
            Form::Bf16 => {}
        }
    }

    /// The values, row-major.
    pub fn decode(&self) -> Vec<f32> {
        let value = |i: usize| {
            let (block, place) = (i / self.form.block(), i % self.form.block());
            let byte = |i: usize| (self.words[i / 4] >> (8 * (i % 4))) as u8;
            let product = match self.form {
                Form::Bf16 => return bf16::from_bits((self.words[i / 2] >> (16 * (i % 2))) as u16).to_f32(),
                Form::Four => {
                    let byte = byte(16 * block + place % 16);
                    f32::from(if place < 16 { byte & 0x0F } else { byte >> 4 }) * self.scales[block]
                }
                Form::Eight { .. } => f32::from(byte(i).cast_signed()) * self.scales[block],
            };
            self.mins.get(block).map_or(product, |min| product + min)
        };
        (0..self.shape[0] * self.shape[1]).map(value).collect()
    }
}

/// Four unsigned bits a value, and their scale and minimum.
fn four_bits(block: &[f32], best: &mut [i8; BLOCK]) -> (f32, Option<f32>) {
    const MOST_FITS: usize = 8;
    let smallest = block.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut scale, mut min) = ((largest - smallest) / 15.0, smallest);
    let mut found = (f32::INFINITY, scale, min);
    for _ in 0..MOST_FITS {
        if scale <= 0.0 || !scale.is_finite() {
            break;
        }
        let q: [i8; BLOCK] =
            std::array::from_fn(|i| ((block[i] - min) / scale).round().clamp(0.0, 15.0) as i8);
        let error = |(&value, &q): (&f32, &i8)| (f32::from(q) * scale + min - value).powi(2);
        let error: f32 = block.iter().zip(&q).map(error).sum();
        if error >= found.0 {
            break;
        }
        found = (error, scale, min);
        *best = q;
        let n = BLOCK as f32;
        let sums = block.iter().zip(&q).fold([0.0; 4], |[q1, q2, x, qx], (&value, &q)| {
            let q = f32::from(q);
            [q1 + q, q2 + q * q, x + value, qx + q * value]
        });
        let [q1, q2, x, qx] = sums;
        let spread = n * q2 - q1 * q1;
        if spread <= 0.0 {
            break;
        }
        scale = (n * qx - q1 * x) / spread;
        min = (x - scale * q1) / n;
    }
    let (_, scale, min) = found;
    (if scale.is_finite() { scale } else { 0.0 }, Some(min))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * i) as f32 * 0.37).sin() * 0.1 + 0.02).collect()
    }

    #[test]
    fn stored_blocks_keep_their_values() {
        use StoredType::{BF16, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        for stored in [BF16, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0] {
            let n_bytes = stored.n_bytes(512).expect("whole blocks") as usize;
            // Exponents stay small, so that no scale is infinite or no number.
            let mut bytes: Vec<u8> = (0..n_bytes).map(|i| (i * 151 + 43) as u8 & 0xBB).collect();
            if stored == BF16 {
                bytes.iter_mut().skip(1).step_by(2).for_each(|byte| *byte = 0x3E);
            }
            let packed = HostPacked::from_stored(stored, &bytes, [2, 256]).expect("a form");
            assert_eq!(packed.decode(), stored.decode(&bytes), "{stored:?}");
            let n_words = packed.words.len() + packed.scales.len() + packed.mins.len();
            assert_eq!(4 * n_words as u64, packed.form.n_bytes(512), "{stored:?}");
        }
        assert_eq!(HostPacked::from_stored(Q8_0, &[0; 34], [2, 16]), None, "half a block a row");
    }

    #[test]
    fn rounding_stays_within_half_a_step() {
        let values = wave(256);
        let worst = |packed: Option<HostPacked>| {
            let packed = packed.expect("whole blocks").decode();
            packed.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(worst(HostPacked::eight(&values, [4, 64])) <= 0.12 / 127.0 / 2.0 * 1.01);
        // Least squares trades the worst value for the others.
        assert!(worst(HostPacked::four(&values, [4, 64])) <= 0.2 / 15.0 / 2.0 * 1.5);
    }

    #[test]
    fn a_fit_is_better_than_the_range_and_constants_are_exact() {
        let values = wave(32);
        let (low, high) = values.iter().fold((1.0f32, -1.0f32), |(l, h), &v| (l.min(v), h.max(v)));
        let scale = (high - low) / 15.0;
        let plain = |v: &f32| ((v - low) / scale).round() * scale + low;
        let error = |of: &dyn Fn(usize) -> f32| {
            values.iter().enumerate().map(|(i, v)| (of(i) - v).powi(2)).sum::<f32>()
        };
        let fitted = HostPacked::four(&values, [1, 32]).expect("a block").decode();
        assert!(error(&|i| fitted[i]) < error(&|i| plain(&values[i])));
        for constant in [0.0, -0.25] {
            let packed = HostPacked::four(&[constant; 32], [1, 32]).expect("a block");
            assert_eq!(packed.decode(), [constant; 32]);
            let packed = HostPacked::eight(&[0.0; 32], [1, 32]).expect("a block");
            assert_eq!(packed.decode(), [0.0; 32]);
        }
    }
}
