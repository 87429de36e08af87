//! The instructions: a block of a result, its sums in tile registers.

use std::arch::asm;
use std::sync::LazyLock;

/// Rows of a tile, and columns of a tile of results.
pub(super) const SIDE: usize = 16;
/// Inner indices of a tile.
pub(super) const INNER: usize = 32;
/// Bytes of a tile's row.
const ROW: usize = 64;
/// Values of a tile.
pub(super) const TILE: usize = SIDE * INNER;
/// What a value is the sum of.
pub(super) const PARTS: usize = 3;
/// From one block of inner indices to the next, in a run: the parts' tiles, and a vector of columns' sums.
pub(super) const BLOCK: usize = PARTS * TILE + 2 * SIDE;

/// Whether there are tiles of bf16 and vectors of 16 values here, and the system lets this process use them.
pub(super) fn is_there() -> bool {
    static IS_THERE: LazyLock<bool> = LazyLock::new(|| {
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        const ASK_FOR_STATE: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        let has_leaf = std::arch::x86_64::__cpuid(0).eax >= 7;
        let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
        let has_vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let is_known = has_vectors && has_leaf && features & AMX_BF16 != 0 && features & AMX_TILE != 0;
        // Their state is large: Linux keeps it for those who ask.
        // SAFETY: a call that changes nothing but the permission.
        is_known && unsafe { libc::syscall(libc::SYS_arch_prctl, ASK_FOR_STATE, TILE_DATA) } == 0
    });
    *IS_THERE
}

/// A new pair of rows' tiles, so many bytes from the block's start, and all four products with the columns' that are
/// there. Each tile is loaded right before its products: the other's are made meanwhile.
macro_rules! rows {
    ($at:literal) => {
        concat!(
            "tileloadd tmm4, [{a0} + {s}*1 + ",
            $at,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tileloadd tmm5, [{a1} + {s}*1 + ",
            $at,
            "]\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
        )
    };
}

/// The same with a new pair of columns' tiles.
macro_rules! columns {
    ($at:literal) => {
        concat!(
            "tileloadd tmm6, [{b0} + {s}*1 + ",
            $at,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tileloadd tmm7, [{b1} + {s}*1 + ",
            $at,
            "]\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
        )
    };
}

/// The same with a new pair of both.
macro_rules! both {
    ($rows:literal, $columns:literal) => {
        concat!(
            "tileloadd tmm6, [{b0} + {s}*1 + ",
            $columns,
            "]\n",
            "tileloadd tmm4, [{a0} + {s}*1 + ",
            $rows,
            "]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tileloadd tmm7, [{b1} + {s}*1 + ",
            $columns,
            "]\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tileloadd tmm5, [{a1} + {s}*1 + ",
            $rows,
            "]\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
        )
    };
}

/// A loop over blocks.
macro_rules! each_block {
    ($runs:ident, $n:ident, $($step:expr),* $(,)?) => {
        asm!(
            "2:",
            $($step,)*
            "add {a0}, {block}",
            "add {a1}, {block}",
            "add {b0}, {block}",
            "add {b1}, {block}",
            "dec {n}",
            "jnz 2b",
            a0 = inout(reg) $runs.rows[0] => _, a1 = inout(reg) $runs.rows[1] => _,
            b0 = inout(reg) $runs.columns[0] => _, b1 = inout(reg) $runs.columns[1] => _,
            n = inout(reg) $n => _, s = in(reg) ROW, block = const BLOCK * size_of::<u16>(),
            options(nostack, readonly),
        )
    };
}

/// All eight tiles, of 16 rows of 64 bytes, for this thread as long as it lives.
pub(super) struct Tiles(());

#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    pub fn new() -> Self {
        assert!(is_there(), "the caller asked");
        let mut config =
            Config { palette: 1, start_row: 0, reserved: [0; 14], bytes_a_row: [0; 16], rows: [0; 16] };
        config.bytes_a_row[..8].fill(ROW as u16);
        config.rows[..8].fill(SIDE as u8);
        // SAFETY: the processor has tiles and this process may use them; the configuration is whole.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Self(())
    }

    /// Adds to four tiles of results, two beside two, the products of two runs of rows with two runs of columns; writes
    /// them where `is_first`.
    ///
    /// # Safety
    /// Each run holds as many blocks as there are `products`, three tiles each, the parts of 32 inner indices; each place
    /// of `c` has 16 rows of 16 values, `step` values apart, that are this thread's alone.
    #[inline(always)]
    pub unsafe fn multiply(
        &self,
        mut runs: Pairs,
        products: &[Products],
        c: [*mut f32; 4],
        step: usize,
        is_first: bool,
    ) {
        let c_step = step * size_of::<f32>();
        // SAFETY: as the caller promises.
        unsafe {
            if is_first {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    options(nostack, nomem)
                );
            } else {
                asm!(
                    "tileloadd tmm0, [{c0} + {s}*1]",
                    "tileloadd tmm1, [{c1} + {s}*1]",
                    "tileloadd tmm2, [{c2} + {s}*1]",
                    "tileloadd tmm3, [{c3} + {s}*1]",
                    c0 = in(reg) c[0], c1 = in(reg) c[1], c2 = in(reg) c[2], c3 = in(reg) c[3],
                    s = in(reg) c_step,
                    options(nostack, readonly),
                );
            }
            for same in products.chunk_by(|one, next| one == next) {
                let n = same.len();
                match same[0] {
                    Products::Six => each_block! {
                        runs, n,
                        both!("2048", "0"),
                        rows!("0"),
                        columns!("2048"),
                        columns!("1024"),
                        rows!("1024"),
                        columns!("0"),
                    },
                    Products::TwoOfRows => each_block! {
                        runs, n,
                        both!("1024", "0"),
                        columns!("1024"),
                        rows!("0"),
                        columns!("0"),
                        columns!("2048"),
                    },
                    Products::TwoOfColumns => each_block! {
                        runs, n,
                        both!("0", "1024"),
                        rows!("1024"),
                        columns!("0"),
                        rows!("0"),
                        rows!("2048"),
                    },
                    Products::OneOfRows => each_block! {
                        runs, n,
                        both!("0", "0"),
                        columns!("1024"),
                        columns!("2048"),
                    },
                    Products::OneOfColumns => each_block! {
                        runs, n,
                        both!("0", "0"),
                        rows!("1024"),
                        rows!("2048"),
                    },
                }
                runs = runs.from(n);
            }
            asm!(
                "tilestored [{c0} + {s}*1], tmm0",
                "tilestored [{c1} + {s}*1], tmm1",
                "tilestored [{c2} + {s}*1], tmm2",
                "tilestored [{c3} + {s}*1], tmm3",
                c0 = in(reg) c[0], c1 = in(reg) c[1], c2 = in(reg) c[2], c3 = in(reg) c[3],
                s = in(reg) c_step,
                options(nostack),
            );
        }
    }
}

/// Where the parts of a pair of rows' tiles and of a pair of columns' tiles begin.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    pub rows: [*const u16; 2],
    pub columns: [*const u16; 2],
}

impl Pairs {
    fn from(self, block: usize) -> Self {
        let place = |run: *const u16| run.wrapping_add(block * BLOCK);
        Self { rows: self.rows.map(place), columns: self.columns.map(place) }
    }
}

/// Which products of parts make a block's product. Of nine, the three that are below a rounding of f32 are always left
/// out; others are of parts that are zero: values of bf16 are their first parts, those of f16, and those of four bits with
/// a scale of f16, as good as always their first two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Products {
    Six,
    TwoOfRows,
    TwoOfColumns,
    OneOfRows,
    OneOfColumns,
}

impl Products {
    /// Those of rows and columns that have so many parts.
    pub fn of(n_parts: [u8; 2]) -> Self {
        match n_parts {
            [..=1, _] => Self::OneOfRows,
            [_, ..=1] => Self::OneOfColumns,
            [2, _] => Self::TwoOfRows,
            [_, 2] => Self::TwoOfColumns,
            _ => Self::Six,
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: without it each switch of threads would save eight kilobytes.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}
