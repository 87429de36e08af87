//! Attention's result, and the logarithm of each query's sum of exponentials.

use super::EDGE;
use super::place::{
    Inputs, Sizes, block_columns, figure, lines_of_keys, lines_of_queries, lines_of_result, place_of,
    seen_by_all, tiles_of_keys,
};
use super::tile::{
    Columns, FOURS, Four, ROWS, add_dots, add_weighed, clear, first_row, fold_four, fold_rows, place, write,
};
use crate::ops::gpu::Fold;
use burn_cubecl::cubecl::{self, prelude::*};

/// Where the largest score of a query begins: below any score, and so far above what is blocked that its exponential
/// is 0 also where a query sees no key of a tile.
const LOWEST: f32 = -1e20;

/// A workgroup makes a tile of one head's queries.
#[cube(launch_unchecked)]
pub(super) fn attend(
    inputs: Inputs,
    y: &mut [f32],
    log_sum: &mut [f32],
    sizes: Sizes,
    #[comptime] columns: Columns,
) {
    let of_unit = comptime!(columns.of_unit());
    let mut shared = Shared::<[Four]>::new_slice(comptime!(columns.shared()));
    let mut sums = Array::<Four>::new(comptime!(ROWS * of_unit));
    clear(&mut sums, comptime!(ROWS * of_unit));
    let mut p = Array::<Four>::new(ROWS);
    let mut largest = Array::<Four>::new(FOURS);
    let mut total = Array::<Four>::new(FOURS);
    #[unroll]
    for i in 0..FOURS {
        largest[i] = Four::new(LOWEST);
        total[i] = Four::new(0.0f32);
    }
    let at = place_of(&sizes);
    let queries = lines_of_queries(&sizes, &at);
    let (first, end) = tiles_of_keys(&inputs.seen, &sizes, &at);
    let whole = seen_by_all(&inputs.seen, &sizes, &at);
    for tile in first..end {
        let keys = lines_of_keys(&sizes.k, &sizes, &at, tile);
        clear(&mut p, ROWS);
        add_dots(&mut p, &mut shared, &inputs.q, &queries, &inputs.k, &keys, comptime!(columns.all));
        block_columns(&mut p, &inputs.seen, &sizes, &at, tile, &whole);
        let mut now = Array::<Four>::new(FOURS);
        #[unroll]
        for i in 0..FOURS {
            let mut rows = largest[i];
            #[unroll]
            for l in 0..4usize {
                let of_tile = fold_four(p[comptime!(i * 4 + l)], Fold::Largest);
                rows.insert(l, max(rows.extract(l), of_tile));
            }
            now[i] = rows;
        }
        fold_rows(&mut now, &mut shared, Fold::Largest);
        #[unroll]
        for i in 0..FOURS {
            // What was added up stands relative to the largest score so far.
            let shrunk = (largest[i] - now[i]).exp();
            largest[i] = now[i];
            let mut added = Four::new(0.0f32);
            #[unroll]
            for l in 0..4usize {
                let row = comptime!(i * 4 + l);
                let value = (p[row] - Four::new(now[i].extract(l))).exp();
                p[row] = value;
                added.insert(l, fold_four(value, Fold::Sum));
                #[unroll]
                for j in 0..of_unit {
                    sums[comptime!(row * of_unit + j)] *= Four::new(shrunk.extract(l));
                }
            }
            total[i] = total[i] * shrunk + added;
        }
        let values = lines_of_keys(&sizes.v, &sizes, &at, tile);
        add_weighed(&mut sums, &mut shared, &p, &inputs.v, &values, 0u32, columns);
    }
    fold_rows(&mut total, &mut shared, Fold::Sum);
    let mut inverse = Array::<Four>::new(FOURS);
    #[unroll]
    for i in 0..FOURS {
        let mut rows = Four::new(0.0f32);
        #[unroll]
        for l in 0..4usize {
            let sum = total[i].extract(l);
            // A query without a key attends to nothing.
            let some = select(sum > 0.0f32, sum, 1.0f32);
            rows.insert(l, 1.0f32 / some);
            let query = at.tile * comptime!(EDGE as u32) + first_row(i) + comptime!(l as u32);
            let (_, across) = place();
            if across == 0 && query < sizes.queries {
                log_sum[figure(&sizes, &at, query)] = largest[i].extract(l) + some.ln();
            }
        }
        inverse[i] = rows;
    }
    write(&sums, &inverse, y, &lines_of_result(&sizes, &at, comptime!(columns.all)), 0u32, columns);
}
