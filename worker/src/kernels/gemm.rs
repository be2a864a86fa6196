//! Matrix products: packing, tiles, and the one order of accumulation.
//!
//! Every element of a product is `a[0] b[0] + a[1] b[1] + ...` with k ascending from zero, each step one fused
//! multiply-add into one accumulator. Tiles and blocks of k change only which elements are worked on together: a block
//! of k goes on from what the one before it has stored, so neither a tile's size nor a cache's moves a bit.
//!
//! The right factor is packed once, in panels of 32 columns, k after k, zeros beyond the last column; the left one a
//! tile of rows at a time.

use std::collections::TryReserveError;

use super::gemv;
use super::simd::{Algorithm, LANES, PANEL_VECTORS, Simd};

/// Columns of a panel.
const PANEL: usize = LANES * PANEL_VECTORS;
/// The longest block of k: a block of a panel (32 KiB) stays in the first cache while tiles pass over it.
const BLOCK: usize = 256;
/// The most rows that any instruction set's tile has.
const TILE_ROWS_MAX: usize = 12;

/// A matrix in a slice, row by row or column by column.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    order: Order,
}

#[derive(Clone, Copy)]
enum Order {
    RowByRow,
    ColumnByColumn,
}

impl<'a> Matrix<'a> {
    /// `values` as `[values / columns, columns]`, row by row.
    pub(crate) fn with_columns(columns: usize, values: &'a [f32]) -> Self {
        assert!(values.len().is_multiple_of(columns), "rows of {columns} do not make {}", values.len());
        Self { values, rows: values.len() / columns, columns, order: Order::RowByRow }
    }

    /// The same numbers, rows for columns.
    pub(crate) fn transposed(self) -> Self {
        let order = match self.order {
            Order::RowByRow => Order::ColumnByColumn,
            Order::ColumnByColumn => Order::RowByRow,
        };
        Self { rows: self.columns, columns: self.rows, order, ..self }
    }
}

/// Sixteen numbers on one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [f32; LANES]);

/// One row of a panel.
pub(super) type PanelRow = [Line; PANEL_VECTORS];

/// A right factor, packed. Made once with room for the largest it will hold.
pub(crate) struct Panels {
    /// `[columns / 32 rounded up, rows]`; longer than that where a smaller factor is held than there is room for.
    lines: Vec<PanelRow>,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Room for any one factor of these `(rows, columns)`.
    pub(crate) fn with_room(factors: &[(usize, usize)]) -> Result<Self, TryReserveError> {
        let mut len = 0;
        for &(rows, columns) in factors {
            len = len.max(Self::packed_rows(rows, columns));
        }
        let mut lines = Vec::new();
        lines.try_reserve_exact(len)?;
        lines.resize(len, [Line([0.0; LANES]); PANEL_VECTORS]);
        Ok(Self { lines, rows: 0, columns: 0 })
    }

    /// Bytes that [`Panels::with_room`] takes for one such factor; none where that has no u64.
    pub(crate) fn bytes(rows: u64, columns: u64) -> Option<u64> {
        columns.div_ceil(PANEL as u64).checked_mul(rows)?.checked_mul(size_of::<PanelRow>() as u64)
    }

    fn packed_rows(rows: usize, columns: usize) -> usize {
        columns.div_ceil(PANEL) * rows
    }

    /// Holds `factor` from now on.
    pub(crate) fn pack(&mut self, factor: Matrix<'_>) {
        let Matrix { values, rows, columns, order } = factor;
        (self.rows, self.columns) = (rows, columns);
        let lines = &mut self.lines[..Self::packed_rows(rows, columns)];
        for (panel, lines) in lines.chunks_exact_mut(rows).enumerate() {
            let first = panel * PANEL;
            let width = PANEL.min(columns - first);
            match order {
                Order::RowByRow => {
                    for (line, row) in lines.iter_mut().zip(values.chunks_exact(columns)) {
                        put_row(line, &row[first..first + width]);
                    }
                }
                Order::ColumnByColumn => {
                    let columns = &values[first * rows..(first + width) * rows];
                    put_columns(lines, columns);
                }
            }
        }
    }

    /// How many panels.
    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Panel `index`, `[rows]`.
    #[inline(always)]
    pub(super) fn panel(&self, index: usize) -> &[PanelRow] {
        &self.lines[index * self.rows..][..self.rows]
    }
}

fn put_row(line: &mut PanelRow, row: &[f32]) {
    let mut wide = [0.0; PANEL];
    wide[..row.len()].copy_from_slice(row);
    let (low, high) = wide.split_at(LANES);
    line[0].0.copy_from_slice(low);
    line[1].0.copy_from_slice(high);
}

/// Sixteen rows of the panel at a time, so that what is written in columns stays in the first cache.
fn put_columns(panel: &mut [PanelRow], columns: &[f32]) {
    let rows = panel.len();
    for (block, lines) in panel.chunks_mut(LANES).enumerate() {
        for line in lines.iter_mut() {
            *line = [Line([0.0; LANES]); PANEL_VECTORS];
        }
        for (place, column) in columns.chunks_exact(rows).enumerate() {
            let column = &column[block * LANES..][..lines.len()];
            for (line, &value) in lines.iter_mut().zip(column) {
                line[place / LANES].0[place % LANES] = value;
            }
        }
    }
}

/// Room for one packed tile of a left factor.
pub(crate) struct LeftTile(Box<[f32]>);

impl LeftTile {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(vec![0.0; TILE_ROWS_MAX * BLOCK].into())
    }
}

/// `out = left right`.
pub(crate) struct Product<'a> {
    /// `[m, k]`.
    pub(crate) left: Matrix<'a>,
    /// `[k, n]`.
    pub(crate) right: &'a Panels,
    /// `[m, n]`, overwritten.
    pub(crate) out: &'a mut [f32],
    /// Scratch.
    pub(crate) tile: &'a mut LeftTile,
}

impl Algorithm for Product<'_> {
    type Output = ();

    fn check(&self) {
        assert_eq!(self.left.columns, self.right.rows, "the factors of a product do not fit");
        assert_eq!(self.out.len(), self.left.rows * self.right.columns);
    }

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { left, right, out, tile } = self;
        if let Matrix { rows: 1, values: row, .. } = left {
            return gemv::row_times_panels(s, row, right, out);
        }
        for k in (0..left.columns).step_by(BLOCK) {
            let block = Block { left, right, start: k, len: BLOCK.min(left.columns - k) };
            // As even as they come: two tiles of eight rows rather than one of twelve and one of four.
            let tiles = left.rows.div_ceil(S::TILE_ROWS);
            let mut row = 0;
            for index in 0..tiles {
                let end = (index + 1) * left.rows / tiles;
                let out = &mut out[row * right.columns..end * right.columns];
                block.tile_of(s, end - row, row, out, tile);
                row = end;
            }
        }
    }
}

/// A block of k of one product.
#[derive(Clone, Copy)]
struct Block<'a> {
    left: Matrix<'a>,
    right: &'a Panels,
    start: usize,
    len: usize,
}

impl Block<'_> {
    #[inline(always)]
    fn tile_of<S: Simd>(self, s: S, rows: usize, first: usize, out: &mut [f32], tile: &mut LeftTile) {
        macro_rules! tile_of {
            ($($rows:literal)+) => {
                match rows {
                    $($rows if $rows <= S::TILE_ROWS => {
                        s.run(RowTile::<$rows> { block: self, first, out, tile: &mut tile.0 });
                    })+
                    _ => unreachable!("a tile has at most {} rows", S::TILE_ROWS),
                }
            };
        }
        tile_of!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

/// `R` rows of the left factor times a block of every panel: an algorithm, so that each R is a function of its own.
struct RowTile<'a, const R: usize> {
    block: Block<'a>,
    /// The first of the rows.
    first: usize,
    /// `[R, n]`.
    out: &'a mut [f32],
    tile: &'a mut [f32],
}

impl<const R: usize> Algorithm for RowTile<'_, R> {
    type Output = ();

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Block { left, right, start, len } = self.block;
        let tile = &mut self.tile.as_chunks_mut::<R>().0[..len];
        pack_tile(left, self.first, start, tile);
        for panel in 0..right.count() {
            let rows = &right.panel(panel)[start..start + len];
            let (out, at) = (&mut *self.out, panel * PANEL);
            if S::TILE_VECTORS == PANEL_VECTORS {
                panel_times::<S, R, 2>(s, tile, rows, 0, start, out, right.columns, at);
            } else {
                panel_times::<S, R, 1>(s, tile, rows, 0, start, out, right.columns, at);
                if at + LANES < right.columns {
                    panel_times::<S, R, 1>(s, tile, rows, 1, start, out, right.columns, at + LANES);
                }
            }
        }
    }
}

/// Element `[k][r]` is left's in row `first + r` and column `start + k`.
#[inline(always)]
fn pack_tile<const R: usize>(left: Matrix<'_>, first: usize, start: usize, tile: &mut [[f32; R]]) {
    let Matrix { values, rows, columns, order } = left;
    match order {
        Order::RowByRow => {
            for r in 0..R {
                let row = &values[(first + r) * columns + start..][..tile.len()];
                for (tile, &value) in tile.iter_mut().zip(row) {
                    tile[r] = value;
                }
            }
        }
        Order::ColumnByColumn => {
            let columns = values[start * rows..].chunks_exact(rows);
            for (tile, column) in tile.iter_mut().zip(columns) {
                tile.copy_from_slice(&column[first..first + R]);
            }
        }
    }
}

/// Goes on with `R` rows and `C` vectors of `out`, from column `at` on, over one block of k.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the innermost step: one place in each of three matrices")]
fn panel_times<S: Simd, const R: usize, const C: usize>(
    s: S,
    tile: &[[f32; R]],
    panel: &[PanelRow],
    vector: usize,
    start: usize,
    out: &mut [f32],
    columns: usize,
    at: usize,
) {
    let mut sums = [[s.splat(0.0); C]; R];
    if start > 0 {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (c, sum) in sums.iter_mut().enumerate() {
                *sum = load_columns(s, &out[r * columns..][..columns], at + c * LANES);
            }
        }
    }
    for (left, right) in tile.iter().zip(panel) {
        let mut b = [s.splat(0.0); C];
        for c in 0..C {
            b[c] = s.load(&right[vector + c].0);
        }
        for r in 0..R {
            let a = s.splat(left[r]);
            for c in 0..C {
                sums[r][c] = s.fma(a, b[c], sums[r][c]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (c, &sum) in sums.iter().enumerate() {
            store_columns(s, sum, &mut out[r * columns..][..columns], at + c * LANES);
        }
    }
}

/// As [`Simd::load_at`], and zeros where a panel reaches beyond the last column.
#[inline(always)]
fn load_columns<S: Simd>(s: S, row: &[f32], at: usize) -> S::V {
    if at < row.len() { s.load_at(row, at) } else { s.splat(0.0) }
}

/// As [`Simd::store_at`], and nothing where a panel reaches beyond the last column.
#[inline(always)]
pub(super) fn store_columns<S: Simd>(s: S, x: S::V, row: &mut [f32], at: usize) {
    if at < row.len() {
        s.store_at(x, row, at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, every_isa, noise};
    use super::*;

    /// The definition: one accumulator an element, k ascending, fused.
    fn naive(m: usize, k: usize, n: usize, a: impl Fn(usize, usize) -> f32, b: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; m * n];
        for row in 0..m {
            for column in 0..n {
                for i in 0..k {
                    let sum = &mut out[row * n + column];
                    *sum = libm::fmaf(a(row, i), b[i * n + column], *sum);
                }
            }
        }
        out
    }

    /// Sizes around every edge: of a lane, a vector, a panel, a tile and a block, and one row, which has its own path.
    const SIZES: [[usize; 3]; 12] = [
        [1, 1, 1],
        [1, 7, 27],
        [1, 64, 257],
        [1, 300, 130],
        [2, 3, 5],
        [5, 17, 16],
        [13, 33, 32],
        [12, 31, 33],
        [24, 27, 48],
        [25, 256, 27],
        [7, 257, 49],
        [37, 600, 65],
    ];

    #[test]
    fn a_product_is_the_naive_one_bit_for_bit_in_either_order_of_either_factor() {
        for [m, k, n] in SIZES {
            let (a, b) = (noise(1, m * k), noise(2, k * n));
            let transposed = |values: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
            };
            let (a_columns, b_columns) = (transposed(&a, m, k), transposed(&b, k, n));
            let lefts = [Matrix::with_columns(k, &a), Matrix::with_columns(m, &a_columns).transposed()];
            let rights = [Matrix::with_columns(n, &b), Matrix::with_columns(k, &b_columns).transposed()];
            let expected = bits(&naive(m, k, n, |row, i| a[row * k + i], &b));
            for kernels in every_isa() {
                for (left, right) in lefts.into_iter().flat_map(|left| rights.map(|right| (left, right))) {
                    let mut panels = Panels::with_room(&[(k, n), (k, n + 40)]).expect("it fits");
                    panels.pack(Matrix::with_columns(n, &vec![f32::NAN; k * n]));
                    panels.pack(right);
                    let mut out = vec![f32::NAN; m * n];
                    kernels.run(Product { left, right: &panels, out: &mut out, tile: &mut LeftTile::new() });
                    assert_eq!(bits(&out), expected, "{:?}: [{m}, {k}] [{k}, {n}]", kernels.name());
                }
            }
        }
    }

    #[test]
    fn room_is_what_the_estimate_says() {
        for [_, k, n] in SIZES {
            let panels = Panels::with_room(&[(k, n)]).expect("it fits");
            assert_eq!(Some(size_of_val(&*panels.lines) as u64), Panels::bytes(k as u64, n as u64));
        }
    }
}
