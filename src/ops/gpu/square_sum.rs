//! Sum of squares: workgroups sum parts, and where there are several one more sums what they found.

use super::{empty_like, first_of, row_of, rows_of, total};
use crate::ops::square_sum::SquareSum;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// Values of a part.
const PART: usize = 1 << 16;

impl SquareSum for CubeBackend {
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let n_parts = x.meta.shape().num_elements().div_ceil(PART);
        let sums = summed(x, n_parts, true);
        if n_parts == 1 { sums } else { summed(sums, 1, false) }
    }
}

/// The sums of `n_parts` parts of x, or of its squares.
fn summed(x: CubeTensor, n_parts: usize, is_squared: bool) -> CubeTensor {
    let n = x.meta.shape().num_elements();
    let sums = empty_like(&x, Shape::new([n_parts]));
    let client = x.client.clone();
    let part = n.div_ceil(n_parts);
    let (count, units, sharing) = rows_of(&client, n_parts, part);
    // SAFETY: the kernel holds its reads and writes within the sizes it is given.
    unsafe {
        sum::launch_unchecked(
            &client,
            count,
            units,
            x.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            n as u32,
            part as u32,
            n_parts as u32,
            is_squared,
            sharing,
        );
    }
    sums
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn sum(
    x: &[f32],
    sums: &mut [f32],
    n: u32,
    part: u32,
    n_parts: u32,
    #[comptime] is_squared: bool,
    #[comptime] sharing: usize,
) {
    let row = row_of(n_parts, sharing);
    let start = row * part as usize;
    let end = min(start + part as usize, n as usize);
    let mut sum = 0.0f32;
    for i in range_stepped(start + first_of(sharing), end, sharing) {
        let value = x[i];
        sum += if comptime!(is_squared) { value * value } else { value };
    }
    let sum = total(sum, sharing);
    if first_of(sharing) == 0 {
        sums[row] = sum;
    }
}
