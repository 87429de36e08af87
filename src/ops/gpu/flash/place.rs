//! Where a workgroup works, and which keys its queries see.

use super::EDGE;
use super::tile::{Four, Lines, ROWS, first_row, line_of_column};
use crate::ops::attention::BLOCKED;
use burn_cubecl::cubecl::{self, prelude::*};

/// Values from one entry to the next.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Steps {
    batch: u32,
    head: u32,
    line: u32,
}

impl Steps {
    pub fn launch(strides: &[usize]) -> StepsLaunch {
        let [batch, head, line] = [0, 1, 2].map(|axis| strides[axis] as u32);
        StepsLaunch::new(batch, head, line)
    }
}

#[derive(CubeType, CubeLaunch)]
pub(super) struct Inputs {
    pub q: Box<[f32]>,
    pub k: Box<[f32]>,
    pub v: Box<[f32]>,
    /// As `attention::ranges` lays it out.
    pub seen: Box<[i32]>,
}

/// Dimensions, and how the inputs lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Sizes {
    pub batch: u32,
    pub kv_heads: u32,
    pub group: u32,
    pub queries: u32,
    pub keys: u32,
    pub scale: f32,
    pub q: Steps,
    pub k: Steps,
    pub v: Steps,
}

/// A head of a row of the batch, and a tile of its queries.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    pub batch: u32,
    pub kv_head: u32,
    /// Of the query heads that share a key head.
    pub member: u32,
    pub tile: u32,
}

/// Keys, one after the other.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Range {
    start: u32,
    end: u32,
}

/// The place of a workgroup that makes a tile of queries. The last ones, which see most, come first.
#[cube]
pub(super) fn place_of(sizes: &Sizes) -> Place {
    Place {
        batch: CUBE_POS_Z,
        kv_head: CUBE_POS_Y / sizes.group,
        member: CUBE_POS_Y % sizes.group,
        tile: sizes.queries.div_ceil(comptime!(EDGE as u32)) - 1 - CUBE_POS_X,
    }
}

/// Where the figures of a query stand: those of its heads lie together.
#[cube]
pub(super) fn figure(sizes: &Sizes, at: &Place, query: u32) -> usize {
    let head = at.kv_head * sizes.group + at.member;
    ((at.batch * sizes.queries + query) * sizes.kv_heads * sizes.group + head) as usize
}

#[cube]
pub(super) fn lines_of_queries(sizes: &Sizes, at: &Place) -> Lines {
    let base =
        at.batch * sizes.q.batch + at.kv_head * sizes.q.head + at.member * sizes.queries * sizes.q.line;
    Lines { base, step: sizes.q.line, first: at.tile * comptime!(EDGE as u32), end: sizes.queries }
}

#[cube]
pub(super) fn lines_of_keys(steps: &Steps, sizes: &Sizes, at: &Place, tile: u32) -> Lines {
    let base = at.batch * steps.batch + at.kv_head * steps.head;
    Lines { base, step: steps.line, first: tile * comptime!(EDGE as u32), end: sizes.keys }
}

/// A tile's lines of the result: `[batch · queries, heads · d]`.
#[cube]
pub(super) fn lines_of_result(sizes: &Sizes, at: &Place, #[comptime] d: usize) -> Lines {
    let d = comptime!(d as u32);
    Lines {
        base: figure(sizes, at, 0u32) as u32 * d,
        step: sizes.kv_heads * sizes.group * d,
        first: at.tile * comptime!(EDGE as u32),
        end: sizes.queries,
    }
}

/// A tile's lines of a dense `[batch, kv_heads, group · queries, d]`.
#[cube]
pub(super) fn dense_queries(sizes: &Sizes, at: &Place, #[comptime] d: usize) -> Lines {
    let d = comptime!(d as u32);
    let head = (at.batch * sizes.kv_heads + at.kv_head) * sizes.group + at.member;
    Lines {
        base: head * sizes.queries * d,
        step: d,
        first: at.tile * comptime!(EDGE as u32),
        end: sizes.queries,
    }
}

/// A tile's lines of a dense `[batch, kv_heads, keys, d]`.
#[cube]
pub(super) fn dense_keys(sizes: &Sizes, at: &Place, tile: u32, #[comptime] d: usize) -> Lines {
    let d = comptime!(d as u32);
    let head = at.batch * sizes.kv_heads + at.kv_head;
    Lines { base: head * sizes.keys * d, step: d, first: tile * comptime!(EDGE as u32), end: sizes.keys }
}

/// Where what is said of tiles of queries stands.
#[cube]
fn tile_of_queries(sizes: &Sizes, batch: u32, tile: u32) -> usize {
    let tiles = sizes.queries.div_ceil(comptime!(EDGE as u32));
    (2 * sizes.batch * sizes.queries + 4 * (batch * tiles + tile)) as usize
}

/// Two numbers that bound a loop with barriers in it: a browser wants to know that all units have the same.
#[cube]
fn bounds(seen: &[i32], at: usize) -> (u32, u32) {
    let mut bounds = Shared::<[u32]>::new_slice(2usize);
    if UNIT_POS == 0 {
        bounds[0] = seen[at] as u32;
        bounds[1] = seen[at + 1] as u32;
    }
    sync_cube();
    (workgroup_uniform_load(&bounds[0]), workgroup_uniform_load(&bounds[1]))
}

/// The tiles of keys that a tile of queries sees: the first, and the one after the last.
#[cube]
pub(super) fn tiles_of_keys(seen: &[i32], sizes: &Sizes, at: &Place) -> (u32, u32) {
    bounds(seen, tile_of_queries(sizes, at.batch, at.tile))
}

/// The tiles of queries that see a tile of keys: the first, and the one after the last.
#[cube]
pub(super) fn tiles_of_queries(seen: &[i32], sizes: &Sizes, batch: u32, tile: u32) -> (u32, u32) {
    let tiles = sizes.keys.div_ceil(comptime!(EDGE as u32));
    let start = tile_of_queries(sizes, sizes.batch, 0u32);
    bounds(seen, start + 2 * (batch * tiles + tile) as usize)
}

/// The keys that every query of a tile sees.
#[cube]
pub(super) fn seen_by_all(seen: &[i32], sizes: &Sizes, at: &Place) -> Range {
    let tile = tile_of_queries(sizes, at.batch, at.tile);
    Range { start: seen[tile + 2] as u32, end: seen[tile + 3] as u32 }
}

/// The keys that a query sees.
#[cube]
fn seen_by(seen: &[i32], sizes: &Sizes, at: &Place, query: u32) -> Range {
    let start = (2 * (at.batch * sizes.queries + min(query, sizes.queries - 1))) as usize;
    Range { start: seen[start] as u32, end: seen[start + 1] as u32 }
}

/// Inner products become scores: scaled, and blocked where a query does not see the key. Rows are the queries of a tile,
/// columns the keys of another, of which `whole` are seen by all.
#[cube]
pub(super) fn block_columns(
    scores: &mut Array<Four>,
    seen: &[i32],
    sizes: &Sizes,
    at: &Place,
    tile: u32,
    whole: &Range,
) {
    let (first, edge) = (tile * comptime!(EDGE as u32), comptime!(EDGE as u32));
    scale(scores, sizes.scale);
    if first < whole.start || first + edge > whole.end {
        #[unroll]
        for row in 0..ROWS {
            let query = at.tile * edge + first_row(comptime!(row / 4)) + comptime!(row as u32 % 4);
            let range = seen_by(seen, sizes, at, query);
            let mut values = scores[row];
            #[unroll]
            for c in 0..4usize {
                let key = first + line_of_column(c);
                let is_seen = key >= range.start && key < range.end;
                values.insert(c, select(is_seen, values.extract(c), BLOCKED));
            }
            scores[row] = values;
        }
    }
}

/// The same where rows are keys and columns are queries; those past the last one see nothing.
#[cube]
pub(super) fn block_rows(scores: &mut Array<Four>, seen: &[i32], sizes: &Sizes, at: &Place, tile: u32) {
    let (first, edge) = (tile * comptime!(EDGE as u32), comptime!(EDGE as u32));
    let whole = seen_by_all(seen, sizes, at);
    scale(scores, sizes.scale);
    if first < whole.start || first + edge > whole.end || (at.tile + 1) * edge > sizes.queries {
        #[unroll]
        for c in 0..4usize {
            let query = at.tile * edge + line_of_column(c);
            let range = seen_by(seen, sizes, at, query);
            #[unroll]
            for row in 0..ROWS {
                let key = first + first_row(comptime!(row / 4)) + comptime!(row as u32 % 4);
                let is_seen = query < sizes.queries && key >= range.start && key < range.end;
                let mut values = scores[row];
                values.insert(c, select(is_seen, values.extract(c), BLOCKED));
                scores[row] = values;
            }
        }
    }
}

#[cube]
fn scale(scores: &mut Array<Four>, scale: f32) {
    #[unroll]
    for row in 0..ROWS {
        scores[row] *= Four::new(scale);
    }
}
