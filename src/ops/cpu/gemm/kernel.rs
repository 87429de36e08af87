//! The innermost loop: a tile of a product, its sums in registers.

use pulp::Simd;

/// Rows of a tile, at most.
pub(in crate::ops::cpu) const MOST_ROWS: usize = 8;
/// Vectors of a panel's row, at most.
pub(in crate::ops::cpu) const VECTORS: usize = 3;

/// Rows of a tile for which a machine's registers hold all sums. WebAssembly has as many as one asks for; the machine
/// below it may have 16, of which V8 keeps one, and a product without a sum in the same instruction takes one more.
pub(in crate::ops::cpu) const fn rows_of_a_tile<S: Simd>() -> usize {
    if cfg!(target_arch = "wasm32") {
        3
    } else if S::REGISTER_COUNT >= 32 {
        MOST_ROWS
    } else {
        4
    }
}

/// Values of a panel's row.
pub(in crate::ops::cpu) const fn panel_width<S: Simd>() -> usize {
    VECTORS * S::F32_LANES
}

/// `len` columns of some rows, and as many rows of a panel, that are multiplied with each other.
#[derive(Clone, Copy)]
pub(in crate::ops::cpu) struct Strip {
    pub rows: [*const f32; MOST_ROWS],
    pub panel: *const f32,
    /// From one row of the panel to the next.
    pub panel_step: usize,
    pub len: usize,
}

impl Strip {
    fn below(&self, n_rows: usize) -> Self {
        let mut strip = *self;
        strip.rows.rotate_left(n_rows);
        strip
    }
}

/// Where a tile lies in the result.
#[derive(Clone, Copy)]
pub(in crate::ops::cpu) struct Place {
    pub at: *mut f32,
    /// From one row of the result to the next.
    pub step: usize,
    /// Columns of the panel that belong to the result.
    pub width: usize,
    /// Whether the tile's rows are the result's columns.
    pub is_turned: bool,
    /// Whether the product is added to what lies there, which is not read otherwise.
    pub is_added: bool,
}

impl Place {
    fn below(self, n_rows: usize) -> Self {
        let step = if self.is_turned { 1 } else { self.step };
        Self { at: self.at.wrapping_add(n_rows * step), ..self }
    }
}

/// Writes the sum over the strips of rows · panel.
///
/// # Safety
/// Each strip has `n_rows` rows of `len` values and a panel whose `len` rows have `place.width` values, rounded up to
/// whole vectors; all of the place is this thread's alone.
#[inline(always)]
pub(in crate::ops::cpu) unsafe fn write<S: Simd>(simd: S, strips: &[Strip], n_rows: usize, place: Place) {
    unsafe {
        match n_rows {
            8 => write_rows::<S, 8>(simd, strips, place),
            4 => write_rows::<S, 4>(simd, strips, place),
            3 if cfg!(target_arch = "wasm32") => write_rows::<S, 3>(simd, strips, place),
            _ => write_few(simd, strips, n_rows, place),
        }
    }
}

/// A number of rows that has no loop of its own, by powers of two.
///
/// # Safety
/// As [`write`]'s.
#[inline(always)]
unsafe fn write_few<S: Simd>(simd: S, strips: &[Strip], n_rows: usize, place: Place) {
    let mut below = [strips[0]; MOST_STRIPS];
    below[..strips.len()].copy_from_slice(strips);
    let below = &mut below[..strips.len()];
    let mut place = place;
    for size in [4, 2, 1] {
        if n_rows & size == 0 {
            continue;
        }
        unsafe {
            match size {
                4 => write_rows::<S, 4>(simd, below, place),
                2 => write_rows::<S, 2>(simd, below, place),
                _ => write_rows::<S, 1>(simd, below, place),
            }
        }
        below.iter_mut().for_each(|strip| *strip = strip.below(size));
        place = place.below(size);
    }
}

/// Strips that are added up in one go.
pub(in crate::ops::cpu) const MOST_STRIPS: usize = 2;

#[inline(always)]
unsafe fn write_rows<S: Simd, const R: usize>(simd: S, strips: &[Strip], place: Place) {
    unsafe {
        match place.width.div_ceil(S::F32_LANES) {
            1 => write_tile::<S, R, 1>(simd, strips, place),
            2 => write_tile::<S, R, 2>(simd, strips, place),
            _ => write_tile::<S, R, 3>(simd, strips, place),
        }
    }
}

#[inline(always)]
unsafe fn write_tile<S: Simd, const R: usize, const V: usize>(simd: S, strips: &[Strip], place: Place) {
    simd.vectorize(Tile::<'_, S, R, V> { simd, strips, place });
}

/// A tile as a function of its own: its loop has all registers for itself.
struct Tile<'a, S, const R: usize, const V: usize> {
    simd: S,
    strips: &'a [Strip],
    place: Place,
}

impl<S: Simd, const R: usize, const V: usize> pulp::NullaryFnOnce for Tile<'_, S, R, V> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, strips, place } = self;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for strip in strips {
            sums = unsafe { add_strip(simd, strip, sums) };
        }
        unsafe { store::<S, R, V>(simd, &sums, place) };
    }
}

#[inline(always)]
unsafe fn add_strip<S: Simd, const R: usize, const V: usize>(
    simd: S,
    strip: &Strip,
    mut sums: [[S::f32s; V]; R],
) -> [[S::f32s; V]; R] {
    let (mut panel, step, rows) = (strip.panel, strip.panel_step, strip.rows);
    for l in 0..strip.len {
        let mut b = [simd.splat_f32s(0.0); V];
        for (j, b) in b.iter_mut().enumerate() {
            *b = unsafe { panel.add(j * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
        }
        for i in 0..R {
            let a = simd.splat_f32s(unsafe { *rows[i].add(l) });
            for j in 0..V {
                sums[i][j] = mul_add(simd, a, b[j], sums[i][j]);
            }
        }
        panel = panel.wrapping_add(step);
    }
    sums
}

/// `a·b + c`, in one instruction where there is one: a call into a library would take a hundred times as long.
#[inline(always)]
pub(super) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if S::IS_SCALAR { simd.add_f32s(simd.mul_f32s(a, b), c) } else { simd.mul_add_e_f32s(a, b, c) }
}

/// Rows become columns.
#[inline(always)]
pub(super) fn turned_block([a, b, c, d]: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    let column = |j: usize| [a[j], b[j], c[j], d[j]];
    [column(0), column(1), column(2), column(3)]
}

/// Values of a tile where vectors are widest.
const MOST_VALUES: usize = MOST_ROWS * VECTORS * 16;

#[inline(always)]
unsafe fn store<S: Simd, const R: usize, const V: usize>(simd: S, sums: &[[S::f32s; V]; R], place: Place) {
    let Place { at, step, width, is_turned, is_added } = place;
    let whole = V * S::F32_LANES;
    if !is_turned && width == whole {
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let place = at.wrapping_add(i * step + j * S::F32_LANES).cast::<S::f32s>();
                let sum = if is_added { simd.add_f32s(sum, unsafe { place.read_unaligned() }) } else { sum };
                unsafe { place.write_unaligned(sum) };
            }
        }
        return;
    }
    const { assert!(S::F32_LANES <= 16, "a tile is laid down whole") };
    let mut tile = [0.0f32; MOST_VALUES];
    for (i, row) in sums.iter().enumerate() {
        for (j, &sum) in row.iter().enumerate() {
            let place = tile[i * whole + j * S::F32_LANES..][..S::F32_LANES].as_mut_ptr();
            unsafe { place.cast::<S::f32s>().write_unaligned(sum) };
        }
    }
    unsafe { lay_down(&tile, whole, [R, width], place) };
}

/// Writes rows of sums, `from_step` values apart, to their place.
///
/// # Safety
/// All of the place is this thread's alone.
#[inline(always)]
pub(super) unsafe fn lay_down(sums: &[f32], from_step: usize, [n_rows, width]: [usize; 2], place: Place) {
    let Place { at, step, is_turned, is_added, .. } = place;
    let write = |at: *mut f32, values: [f32; 4]| {
        let at = at.cast::<[f32; 4]>();
        let old = if is_added { unsafe { at.read_unaligned() } } else { [0.0; 4] };
        let sum = |i: usize| if is_added { values[i] + old[i] } else { values[i] };
        unsafe { at.write_unaligned(std::array::from_fn(sum)) };
    };
    let whole_columns = width - width % 4;
    let whole_rows = if is_turned { n_rows - n_rows % 4 } else { n_rows };
    if is_turned {
        for column in (0..whole_columns).step_by(4) {
            for i in (0..whole_rows).step_by(4) {
                let mut block = [[0.0f32; 4]; 4];
                for (j, block) in block.iter_mut().enumerate() {
                    block.copy_from_slice(&sums[(i + j) * from_step + column..][..4]);
                }
                for (j, values) in turned_block(block).into_iter().enumerate() {
                    write(at.wrapping_add((column + j) * step + i), values);
                }
            }
        }
    } else {
        for i in 0..whole_rows {
            let (row, _) = sums[i * from_step..][..whole_columns].as_chunks::<4>();
            for (j, &values) in row.iter().enumerate() {
                write(at.wrapping_add(i * step + j * 4), values);
            }
        }
    }
    for i in 0..n_rows {
        let done = if i < whole_rows { whole_columns } else { 0 };
        for column in done..width {
            let value = sums[i * from_step + column];
            let place = if is_turned { column * step + i } else { i * step + column };
            let place = at.wrapping_add(place);
            unsafe { place.write(if is_added { *place + value } else { value }) };
        }
    }
}
