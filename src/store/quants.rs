//! Stored element types: how many bytes they take, and their values as f32.
//!
//! Block layouts and the order of operations are ggml's (`dequantize_row_*` in
//! `ggml/src/ggml-quants.c`; the same in gguf-py's `quants.py`), so that values are equal bit for bit.

use super::StoredType::{self, *};
use half::{bf16, f16};

/// Values in a super-block of the K types.
const SUPER_BLOCK: usize = 256;

/// How a stored type packs values: `n_values` of them in `n_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Values a block holds; 1 for plain types.
    pub n_values: usize,
    /// Bytes a block takes.
    pub n_bytes: usize,
}

impl StoredType {
    /// Its name, as the formats write it.
    pub fn name(self) -> &'static str {
        match self {
            F64 => "F64",
            F32 => "F32",
            F16 => "F16",
            BF16 => "BF16",
            I64 => "I64",
            I32 => "I32",
            I16 => "I16",
            I8 => "I8",
            U8 => "U8",
            Bool => "BOOL",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Q4K => "Q4_K",
            Q5K => "Q5_K",
            Q6K => "Q6_K",
        }
    }

    /// Whether it stores whole numbers or truth values, which are no weights by themselves.
    pub fn is_integer(self) -> bool {
        matches!(self, I64 | I32 | I16 | I8 | U8 | Bool)
    }

    /// The type's packing.
    pub fn block(self) -> Block {
        let (n_values, n_bytes) = match self {
            I8 | U8 | Bool => (1, 1),
            F16 | BF16 | I16 => (1, 2),
            F32 | I32 => (1, 4),
            F64 | I64 => (1, 8),
            Q4_0 => (32, 2 + 16),
            Q4_1 => (32, 4 + 16),
            Q5_0 => (32, 2 + 4 + 16),
            Q5_1 => (32, 4 + 4 + 16),
            Q8_0 => (32, 2 + 32),
            Q4K => (SUPER_BLOCK, 4 + 12 + 128),
            Q5K => (SUPER_BLOCK, 4 + 12 + 32 + 128),
            Q6K => (SUPER_BLOCK, 128 + 64 + 16 + 2),
        };
        Block { n_values, n_bytes }
    }

    /// Bytes that `n_values` take, or `None` where they fill no whole number of blocks or overflow.
    pub fn n_bytes(self, n_values: u64) -> Option<u64> {
        let block = self.block();
        let whole = n_values.is_multiple_of(block.n_values as u64);
        whole.then(|| (n_values / block.n_values as u64).checked_mul(block.n_bytes as u64)).flatten()
    }

    /// Values of `bytes` as f32, rounded to nearest where the type is wider. Bytes after the last
    /// whole block are left out; readers check lengths against shapes before.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let block = self.block();
        let mut values = vec![0.0; bytes.len() / block.n_bytes * block.n_values];
        let blocks = bytes.chunks_exact(block.n_bytes).zip(values.chunks_exact_mut(block.n_values));
        match self {
            F64 => plain(blocks, |b| f64::from_le_bytes(b) as f32),
            F32 => plain(blocks, f32::from_le_bytes),
            F16 => plain(blocks, |b| f16::from_le_bytes(b).to_f32()),
            BF16 => plain(blocks, |b| bf16::from_le_bytes(b).to_f32()),
            I64 => plain(blocks, |b| i64::from_le_bytes(b) as f32),
            I32 => plain(blocks, |b| i32::from_le_bytes(b) as f32),
            I16 => plain(blocks, |b| f32::from(i16::from_le_bytes(b))),
            I8 => plain(blocks, |b| f32::from(i8::from_le_bytes(b))),
            U8 => plain(blocks, |[b]| f32::from(b)),
            Bool => plain(blocks, |[b]| f32::from(u8::from(b != 0))),
            _ => {
                let mut out = values.chunks_exact_mut(1);
                self.each_part(bytes, |Part { q, scale, min }| {
                    for (&q, out) in q.iter().zip(&mut out) {
                        let product = f32::from(q) * scale;
                        out[0] = min.map_or(product, |min| product + min);
                    }
                });
            }
        }
        values
    }

    /// Hands the quantised values to `each`, a run with one scale after the other, in order. Types that are not
    /// quantised have none.
    pub fn each_part(self, bytes: &[u8], mut each: impl FnMut(Part)) {
        for block in bytes.chunks_exact(self.block().n_bytes) {
            match self {
                Q4_0 => {
                    let q = nibbles(&block[2..], |q, _| q.cast_signed() - 8);
                    each(Part { q: &q, scale: f16_at(block, 0), min: None });
                }
                Q4_1 => {
                    let q = nibbles(&block[4..], |q, _| q.cast_signed());
                    each(Part { q: &q, scale: f16_at(block, 0), min: Some(f16_at(block, 2)) });
                }
                Q5_0 => {
                    let high = u32_at(block, 2);
                    let q = nibbles(&block[6..], |q, i| (q | fifth_bit(high, i)).cast_signed() - 16);
                    each(Part { q: &q, scale: f16_at(block, 0), min: None });
                }
                Q5_1 => {
                    let high = u32_at(block, 4);
                    let q = nibbles(&block[8..], |q, i| (q | fifth_bit(high, i)).cast_signed());
                    each(Part { q: &q, scale: f16_at(block, 0), min: Some(f16_at(block, 2)) });
                }
                Q8_0 => {
                    let q: [i8; 32] = std::array::from_fn(|i| block[2 + i].cast_signed());
                    each(Part { q: &q, scale: f16_at(block, 0), min: None });
                }
                Q4K => q4_k(block, &mut each),
                Q5K => q5_k(block, &mut each),
                Q6K => q6_k(block, &mut each),
                F64 | F32 | F16 | BF16 | I64 | I32 | I16 | I8 | U8 | Bool => {}
            }
        }
    }
}

/// Quantised values with one scale: each is `q · scale`, plus `min` where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part<'a> {
    /// Whole numbers; 32 of them, or 16 in Q6_K.
    pub q: &'a [i8],
    /// What they are multiples of.
    pub scale: f32,
    /// What is added to each.
    pub min: Option<f32>,
}

/// Types of one value a block, each decoded by `value`.
fn plain<'a, const N: usize>(
    blocks: impl Iterator<Item = (&'a [u8], &'a mut [f32])>,
    value: impl Fn([u8; N]) -> f32,
) {
    for (block, out) in blocks {
        let (bytes, _) = block.as_chunks::<N>();
        out[0] = value(bytes[0]);
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Blocks of 32: byte i holds value i in its low half and value i + 16 in its high half.
fn nibbles(packed: &[u8], value: impl Fn(u8, usize) -> i8) -> [i8; 32] {
    std::array::from_fn(|i| value(if i < 16 { packed[i] & 0x0F } else { packed[i - 16] >> 4 }, i))
}

/// Bit `i` of `high`, at the place of a 5-bit value's highest bit.
fn fifth_bit(high: u32, i: usize) -> u8 {
    ((high >> i) & 1) as u8 * 16
}

/// The 6-bit scale and minimum of sub-block `i` of 8, from the 12 bytes Q4_K and Q5_K share.
///
/// Sub-blocks 0..4 have theirs in the low six bits of bytes i and i + 4; sub-blocks 4..8 have four
/// low bits in byte i + 4 and the two high bits on top of bytes i − 4 and i.
fn scale_and_min(packed: &[u8], i: usize) -> (f32, f32) {
    let (scale, min) = if i < 4 {
        (packed[i] & 63, packed[i + 4] & 63)
    } else {
        let high = |byte: u8| (byte >> 6) << 4;
        (packed[i + 4] & 0x0F | high(packed[i - 4]), packed[i + 4] >> 4 | high(packed[i]))
    };
    (f32::from(scale), f32::from(min))
}

/// 8 sub-blocks of 32 values `d·scale·q − dmin·min`, q of four bits.
fn q4_k(block: &[u8], each: &mut impl FnMut(Part)) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, packed) = (&block[4..16], &block[16..]);
    for i in 0..8 {
        let (scale, min) = scale_and_min(scales, i);
        let shift = 4 * (i % 2); // two sub-blocks share 32 bytes
        let bytes = &packed[i / 2 * 32..];
        let q: [i8; 32] = std::array::from_fn(|j| ((bytes[j] >> shift) & 0x0F).cast_signed());
        each(Part { q: &q, scale: d * scale, min: Some(-(dmin * min)) });
    }
}

/// As Q4_K with a fifth bit: bit i of byte j belongs to value j of sub-block i.
fn q5_k(block: &[u8], each: &mut impl FnMut(Part)) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (scales, high, packed) = (&block[4..16], &block[16..48], &block[48..]);
    for i in 0..8 {
        let (scale, min) = scale_and_min(scales, i);
        let shift = 4 * (i % 2);
        let bytes = &packed[i / 2 * 32..];
        let value = |j: usize| (bytes[j] >> shift) & 0x0F | ((high[j] >> i) & 1) << 4;
        let q: [i8; 32] = std::array::from_fn(|j| value(j).cast_signed());
        each(Part { q: &q, scale: d * scale, min: Some(-(dmin * min)) });
    }
}

/// 16 sub-blocks of 16 values `d·scale·(q − 32)`, q of six bits: four low, two high.
fn q6_k(block: &[u8], each: &mut impl FnMut(Part)) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], f16_at(block, 208));
    for (i, &scale) in scales.iter().enumerate() {
        // Each half of the block (128 values) has 64 bytes of low and 32 of high bits; its four runs of 32 take the
        // low half of bytes 0..32, of 32..64, then their high halves.
        let (half, run, start) = (i / 8, i / 2 % 4, i % 2 * 16);
        let low = &low[half * 64 + run % 2 * 32 + start..];
        let high = &high[half * 32 + start..];
        let value = |j: usize| (low[j] >> (run / 2 * 4)) & 0x0F | ((high[j] >> (run * 2)) & 3) << 4;
        let q: [i8; 16] = std::array::from_fn(|j| value(j).cast_signed() - 32);
        each(Part { q: &q, scale: d * f32::from(scale.cast_signed()), min: None });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_types_keep_their_values() {
        assert_eq!(F32.decode(&1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(F64.decode(&(-0.25f64).to_le_bytes()), [-0.25]);
        assert_eq!(F16.decode(&[0x00, 0x3C, 0x01, 0x00]), [1.0, 2f32.powi(-24)]);
        assert_eq!(BF16.decode(&[0x80, 0x3F, 0x80, 0xFF])[0], 1.0);
        assert_eq!(I64.decode(&(-3i64).to_le_bytes()), [-3.0]);
        assert_eq!(I32.decode(&7i32.to_le_bytes()), [7.0]);
        assert_eq!(I16.decode(&(-2i16).to_le_bytes()), [-2.0]);
        assert_eq!(
            (I8.decode(&[255]), U8.decode(&[255]), Bool.decode(&[2])),
            (vec![-1.0], vec![255.0], vec![1.0])
        );
    }

    #[test]
    fn four_bits_hold_the_second_half_in_the_high_nibbles() {
        let mut block = vec![0x00, 0x40, 0x00, 0xBC]; // d = 2, m = −1
        block.extend([0x21; 16]);
        let values = Q4_1.decode(&block);
        assert_eq!((values[0], values[15], values[16], values[31]), (1.0, 1.0, 3.0, 3.0));
        let values = Q4_0.decode(&[&block[..2], &block[4..]].concat());
        assert_eq!((values[0], values[16]), (-14.0, -12.0));
    }

    #[test]
    fn byte_counts_need_whole_blocks_and_do_not_overflow() {
        assert_eq!(Q4_1.n_bytes(64), Some(40));
        assert_eq!(Q6K.n_bytes(256), Some(210));
        assert_eq!(Q8_0.n_bytes(33), None);
        assert_eq!(F32.n_bytes(u64::MAX / 2), None);
        assert_eq!(F32.n_bytes(0), Some(0));
    }
}
