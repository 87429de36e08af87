//! Attention's gradients. Probabilities are made again from the logarithms of their sums.
//!
//! With P the probabilities, g the gradient of y and D = Σ g∘y: dV = Pᵀ·g, dS = scale · P∘(g·Vᵀ − D), dQ = dS·K,
//! dK = dSᵀ·Q.

use super::EDGE;
use super::place::{
    Inputs, Place, Sizes, block_columns, block_rows, dense_keys, dense_queries, figure, lines_of_keys,
    lines_of_queries, lines_of_result, place_of, seen_by_all, tiles_of_keys, tiles_of_queries,
};
use super::tile::{
    Columns, FOURS, Four, ROWS, add_dots, add_weighed, clear, first_row, line_of_column, write,
};
use crate::ops::gpu::{first_of, row_of, total};
use burn_cubecl::cubecl::{self, prelude::*};

/// The gradient of the result, and of each query the logarithm of its sum and D.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Known {
    grad: Box<[f32]>,
    /// Side by side, as there are few buffers in a browser.
    figures: Box<[f32]>,
}

/// D of each query and head, whose values lie one after the other, behind its logarithm.
#[cube(launch_unchecked)]
pub(super) fn dots(
    y: &[f32],
    grad: &[f32],
    log_sum: &[f32],
    figures: &mut [f32],
    n_rows: u32,
    d: u32,
    #[comptime] sharing: usize,
) {
    let row = row_of(n_rows, sharing);
    let start = row * d as usize;
    let mut sum = 0.0f32;
    for i in range_stepped(first_of(sharing), d as usize, sharing) {
        sum += y[start + i] * grad[start + i];
    }
    let sum = total(sum, sharing);
    if first_of(sharing) == 0 {
        figures[2 * row] = log_sum[row];
        figures[2 * row + 1] = sum;
    }
}

/// A workgroup makes a tile of one head's queries.
#[cube(launch_unchecked)]
pub(super) fn of_queries(
    inputs: Inputs,
    known: Known,
    d_q: &mut [f32],
    sizes: Sizes,
    #[comptime] columns: Columns,
) {
    let of_unit = comptime!(columns.of_unit());
    let d = comptime!(columns.all);
    let mut shared = Shared::<[Four]>::new_slice(comptime!(columns.shared()));
    let mut sums = Array::<Four>::new(comptime!(ROWS * of_unit));
    clear(&mut sums, comptime!(ROWS * of_unit));
    let mut p = Array::<Four>::new(ROWS);
    let mut d_p = Array::<Four>::new(ROWS);
    let at = place_of(&sizes);
    let mut log_sum = Array::<Four>::new(FOURS);
    let mut dot = Array::<Four>::new(FOURS);
    let mut scale = Array::<Four>::new(FOURS);
    #[unroll]
    for i in 0..FOURS {
        let mut log_sums = Four::new(0.0f32);
        let mut dots = Four::new(0.0f32);
        scale[i] = Four::new(sizes.scale);
        #[unroll]
        for l in 0..4usize {
            let query = at.tile * comptime!(EDGE as u32) + first_row(i) + comptime!(l as u32);
            let figure = figure(&sizes, &at, min(query, sizes.queries - 1));
            log_sums.insert(l, known.figures[2 * figure]);
            dots.insert(l, known.figures[2 * figure + 1]);
        }
        log_sum[i] = log_sums;
        dot[i] = dots;
    }
    let queries = lines_of_queries(&sizes, &at);
    let grads = lines_of_result(&sizes, &at, d);
    let (first, end) = tiles_of_keys(&inputs.seen, &sizes, &at);
    let whole = seen_by_all(&inputs.seen, &sizes, &at);
    for tile in first..end {
        let keys = lines_of_keys(&sizes.k, &sizes, &at, tile);
        let values = lines_of_keys(&sizes.v, &sizes, &at, tile);
        clear(&mut p, ROWS);
        add_dots(&mut p, &mut shared, &inputs.q, &queries, &inputs.k, &keys, d);
        block_columns(&mut p, &inputs.seen, &sizes, &at, tile, &whole);
        clear(&mut d_p, ROWS);
        add_dots(&mut d_p, &mut shared, &known.grad, &grads, &inputs.v, &values, d);
        #[unroll]
        for i in 0..FOURS {
            #[unroll]
            for l in 0..4usize {
                let row = comptime!(i * 4 + l);
                let probability = (p[row] - Four::new(log_sum[i].extract(l))).exp();
                p[row] = probability * (d_p[row] - Four::new(dot[i].extract(l)));
            }
        }
        add_weighed(&mut sums, &mut shared, &p, &inputs.k, &keys, 0u32, columns);
    }
    let to = dense_queries(&sizes, &at, d);
    write(&sums, &scale, d_q, &to, 0u32, columns);
}

/// A workgroup makes a tile of one head's keys and values, all columns or a part of them: it passes over the queries of
/// all heads that attend to these, so that nobody else adds to its sums.
#[cube(launch_unchecked)]
pub(super) fn of_keys(
    inputs: Inputs,
    known: Known,
    d_k: &mut [f32],
    d_v: &mut [f32],
    sizes: Sizes,
    #[comptime] columns: Columns,
) {
    let of_unit = comptime!(columns.of_unit());
    let d = comptime!(columns.all);
    let n_parts = comptime!(d.div_ceil(columns.width) as u32);
    let mut shared = Shared::<[Four]>::new_slice(comptime!(columns.shared()));
    let mut k_sums = Array::<Four>::new(comptime!(ROWS * of_unit));
    let mut v_sums = Array::<Four>::new(comptime!(ROWS * of_unit));
    clear(&mut k_sums, comptime!(ROWS * of_unit));
    clear(&mut v_sums, comptime!(ROWS * of_unit));
    let mut p = Array::<Four>::new(ROWS);
    let mut d_p = Array::<Four>::new(ROWS);
    let kv_head = CUBE_POS_Y / n_parts;
    let from = CUBE_POS_Y % n_parts * comptime!(columns.width as u32);
    let key_tile = CUBE_POS_X;
    let mut at = Place { batch: CUBE_POS_Z, kv_head, member: 0u32, tile: 0u32 };
    let (first, end) = tiles_of_queries(&inputs.seen, &sizes, at.batch, key_tile);
    let keys = lines_of_keys(&sizes.k, &sizes, &at, key_tile);
    let values = lines_of_keys(&sizes.v, &sizes, &at, key_tile);
    for member in 0..sizes.group {
        for tile in first..end {
            at.member = member;
            at.tile = tile;
            let queries = lines_of_queries(&sizes, &at);
            let grads = lines_of_result(&sizes, &at, d);
            let mut log_sum = Four::new(0.0f32);
            let mut dot = Four::new(0.0f32);
            #[unroll]
            for c in 0..4usize {
                let query = min(queries.first + line_of_column(c), sizes.queries - 1);
                let figure = figure(&sizes, &at, query);
                log_sum.insert(c, known.figures[2 * figure]);
                dot.insert(c, known.figures[2 * figure + 1]);
            }
            clear(&mut p, ROWS);
            add_dots(&mut p, &mut shared, &inputs.k, &keys, &inputs.q, &queries, d);
            block_rows(&mut p, &inputs.seen, &sizes, &at, key_tile);
            #[unroll]
            for row in 0..ROWS {
                p[row] = (p[row] - log_sum).exp();
            }
            add_weighed(&mut v_sums, &mut shared, &p, &known.grad, &grads, from, columns);
            clear(&mut d_p, ROWS);
            add_dots(&mut d_p, &mut shared, &inputs.v, &values, &known.grad, &grads, d);
            #[unroll]
            for row in 0..ROWS {
                p[row] *= d_p[row] - dot;
            }
            add_weighed(&mut k_sums, &mut shared, &p, &inputs.q, &queries, from, columns);
        }
    }
    let mut scale = Array::<Four>::new(FOURS);
    let mut one = Array::<Four>::new(FOURS);
    #[unroll]
    for i in 0..FOURS {
        scale[i] = Four::new(sizes.scale);
        one[i] = Four::new(1.0f32);
    }
    let to = dense_keys(&sizes, &at, key_tile, d);
    write(&k_sums, &scale, d_k, &to, from, columns);
    write(&v_sums, &one, d_v, &to, from, columns);
}
