//! Packed matrices on a GPU: a kernel unpacks what a product needs, one word to a unit.

use super::one_each;
use crate::ops::matmul::Product;
use crate::ops::packed::{PackedOps, PackedParts, product_shape};
use crate::store::Form;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{IntDType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

impl PackedOps for CubeBackend {
    fn packed_product(x: FloatTensor<Self>, weight: PackedParts<Self>, is_turned: bool) -> FloatTensor<Self> {
        debug_assert_eq!(product_shape(x.meta.shape(), weight.shape, is_turned).num_dims(), 2);
        let dense = unpacked(&weight, None);
        let dense = if is_turned { Self::float_transpose(dense) } else { dense };
        Self::product(x, dense)
    }

    fn packed_rows(ids: IntTensor<Self>, weight: PackedParts<Self>) -> FloatTensor<Self> {
        unpacked(&weight, Some(Self::int_cast(ids, IntDType::I32)))
    }
}

/// The matrix, or its rows of these numbers, in f32.
pub(super) fn unpacked(weight: &PackedParts<CubeBackend>, ids: Option<CubeTensor>) -> CubeTensor {
    let PackedParts { words, scales, mins, shape: [rows, columns], form, .. } = weight.clone();
    let ids = ids.map(into_contiguous);
    let n_rows = ids.as_ref().map_or(rows, |ids| ids.meta.shape()[0]);
    let client = words.client.clone();
    let out = empty_device_contiguous_dtype(
        client.clone(),
        words.device.clone(),
        Shape::new([n_rows, columns]),
        scales.dtype,
    );
    let per_row = columns / form.per_word();
    let n_words = n_rows * per_row;
    let (count, units) = one_each(&client, n_words);
    let has_ids = ids.is_some();
    // Where all rows are wanted, nothing is read from it.
    let ids = ids.unwrap_or_else(|| words.clone());
    let kind = match form {
        Form::Bf16 => 2,
        Form::Four => 8,
        Form::Eight { .. } => 4,
    };
    // SAFETY: the kernel holds its writes within the number of words it is given; ids are below the number of rows.
    unsafe {
        unpack::launch_unchecked(
            &client,
            count,
            units,
            words.into_buffer_arg(),
            scales.into_buffer_arg(),
            mins.into_buffer_arg(),
            ids.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            n_words as u32,
            per_row as u32,
            kind,
            form.block() as u32,
            form.has_min(),
            has_ids,
        );
    }
    out
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn unpack(
    words: &[u32],
    scales: &[f32],
    mins: &[f32],
    ids: &[u32],
    out: &mut [f32],
    n_words: u32,
    per_row: u32,
    #[comptime] per_word: u32,
    #[comptime] block: u32,
    #[comptime] has_min: bool,
    #[comptime] has_ids: bool,
) {
    let index = ABSOLUTE_POS as u32;
    if index < n_words {
        let place = index % per_row;
        let mut row = index / per_row;
        if comptime!(has_ids) {
            row = ids[row as usize];
        }
        let source = row * per_row + place;
        let word = words[source as usize];
        if comptime!(per_word == 2) {
            let at = (index * 2) as usize;
            out[at] = f32::reinterpret(word << 16);
            out[at + 1] = f32::reinterpret(word & 0xFFFF_0000);
        } else {
            let of_block = (source * per_word / block) as usize;
            let scale = scales[of_block];
            let mut min = 0.0f32;
            if comptime!(has_min) {
                min = mins[of_block];
            }
            if comptime!(per_word == 8) {
                // Four words hold 32 values: the low halves of a word's bytes are neighbours, the high halves 16 on.
                let first = (index / 4 * 32 + index % 4 * 4) as usize;
                #[unroll]
                for i in 0..4 {
                    let byte = (word >> (8 * i as u32)) & 0xFF;
                    out[first + i] = f32::cast_from(byte & 0x0F) * scale + min;
                    out[first + 16 + i] = f32::cast_from(byte >> 4) * scale + min;
                }
            } else {
                let first = (index * 4) as usize;
                #[unroll]
                for i in 0..4 {
                    let byte = (word >> (8 * i as u32)) & 0xFF;
                    // Two's complement.
                    let value = f32::cast_from(byte) - f32::cast_from(byte >> 7) * 256.0;
                    out[first + i] = value * scale + min;
                }
            }
        }
    }
}
