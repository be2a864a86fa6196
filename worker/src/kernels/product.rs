//! Matrix products: tiles in registers, and the one order of accumulation.
//!
//! Every element of a product is `a[0] b[0] + a[1] b[1] + ...` with k ascending from zero, each step one fused
//! multiply-add into one accumulator. Tiles and blocks of k change only which elements are worked on together: a block
//! of k goes on from what the one before it has stored, so neither a tile's size nor a cache's moves a bit.
//!
//! A right factor is a panel of one to four vectors, k after k. The left one is read where it lies, a number at a time,
//! by the broadcast that a fused multiply-add from memory does for nothing.

use std::ops::Range;

use super::lines::{GATES, GateLines, Line, groups, width};
use super::simd::{Algorithm, LANES, Simd};

/// The most vectors across a panel.
pub(crate) const PANEL_VECTORS_MAX: usize = 4;
/// Segments of k in a block: 128 KiB of the widest panel, so that it stays in the second cache while tiles pass over it.
const BLOCK_SEGMENTS: usize = 32;

/// The rows of a left factor, whose k comes in segments of at most sixteen, each on one of the `W` lines of a row.
pub(super) trait Left<const W: usize>: Copy {
    /// How many.
    fn segments(self) -> usize;
    /// Number `index`.
    fn segment(&self, index: usize) -> Segment<'_, W>;
}

/// Up to sixteen k of all rows.
pub(super) struct Segment<'a, const W: usize> {
    /// `[rows]`.
    rows: &'a [[Line; W]],
    /// Which of a row's lines.
    place: usize,
    /// How many k.
    len: usize,
}

/// Rows of a state, k being the node.
#[derive(Clone, Copy)]
pub(super) struct StateRows<'a> {
    /// `[group][stride]`.
    pub(super) lines: &'a [Line],
    /// Rows of a group.
    pub(super) stride: usize,
    /// The rows that count.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// `N`.
    pub(super) nodes: usize,
}

impl Left<1> for StateRows<'_> {
    #[inline(always)]
    fn segments(self) -> usize {
        groups(self.nodes)
    }

    #[inline(always)]
    fn segment(&self, index: usize) -> Segment<'_, 1> {
        let rows = &self.lines[index * self.stride + self.first..][..self.rows];
        Segment { rows: rows.as_chunks().0, place: 0, len: width(self.nodes, index) }
    }
}

/// Rows of gates, k being the gate's column: all nodes of one gate, then those of the next.
#[derive(Clone, Copy)]
pub(super) struct GateRows<'a> {
    /// `[group][stride]`.
    pub(super) lines: &'a [GateLines],
    /// Rows of a group.
    pub(super) stride: usize,
    /// The rows that count.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// `N`.
    pub(super) nodes: usize,
}

impl Left<GATES> for GateRows<'_> {
    #[inline(always)]
    fn segments(self) -> usize {
        GATES * groups(self.nodes)
    }

    #[inline(always)]
    fn segment(&self, index: usize) -> Segment<'_, GATES> {
        let (gate, group) = (index / groups(self.nodes), index % groups(self.nodes));
        let rows = &self.lines[group * self.stride + self.first..][..self.rows];
        Segment { rows, place: gate, len: width(self.nodes, group) }
    }
}

/// Rows of logits or of their gradients, k being the symbol.
#[derive(Clone, Copy)]
pub(super) struct LogitRows<'a> {
    /// `[rows]`.
    pub(super) lines: &'a [[Line; 2]],
    /// Symbols.
    pub(super) columns: usize,
}

impl Left<2> for LogitRows<'_> {
    #[inline(always)]
    fn segments(self) -> usize {
        groups(self.columns)
    }

    #[inline(always)]
    fn segment(&self, index: usize) -> Segment<'_, 2> {
        Segment { rows: self.lines, place: index, len: width(self.columns, index) }
    }
}

/// Where a product goes: the line of row r and vector c is `r * row_stride + c * vector_stride`.
pub(super) struct Out<'a> {
    pub(super) lines: &'a mut [Line],
    pub(super) row_stride: usize,
    pub(super) vector_stride: usize,
}

/// `out = left right`, `right` being `[k]` rows of `C` vectors.
#[inline(always)]
pub(super) fn product<S: Simd, L: Left<W>, const W: usize, const C: usize>(
    s: S,
    left: L,
    rows: usize,
    mut right: &[[Line; C]],
    out: &mut Out<'_>,
) {
    let segments = left.segments();
    for start in (0..segments).step_by(BLOCK_SEGMENTS) {
        let block = start..segments.min(start + BLOCK_SEGMENTS);
        for (first, len) in tiles(rows, rows_max::<S>(C)) {
            tile_of::<S, L, W, C>(s, len, Tile { left, first, segments: block.clone(), right, out });
        }
        let len: usize = block.map(|index| left.segment(index).len).sum();
        right = &right[len..];
    }
}

/// The rows of the tallest tile across `vectors` vectors.
#[inline(always)]
fn rows_max<S: Simd>(vectors: usize) -> usize {
    (S::ACCUMULATORS / vectors.min(S::TILE_VECTORS)).min(TILE_ROWS_MAX)
}

const TILE_ROWS_MAX: usize = 12;

/// `rows` in tiles of at most `max`, as even as they come: two of eight rather than one of twelve and one of four.
#[inline(always)]
fn tiles(rows: usize, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(max);
    let (short, longer) = (rows / count, rows % count);
    (0..count).map(move |index| {
        let first = index * short + index.min(longer);
        (first, short + usize::from(index < longer))
    })
}

/// Rows of a product over a block of k.
struct Tile<'a, 'b, L, const W: usize, const C: usize> {
    left: L,
    first: usize,
    segments: Range<usize>,
    /// From the block's first k on.
    right: &'a [[Line; C]],
    out: &'a mut Out<'b>,
}

#[inline(always)]
fn tile_of<S: Simd, L: Left<W>, const W: usize, const C: usize>(
    s: S,
    rows: usize,
    tile: Tile<'_, '_, L, W, C>,
) {
    macro_rules! tile_of {
        ($($rows:literal)+) => {
            match rows {
                $($rows if $rows <= rows_max::<S>(C) => s.run(RowTile::<'_, '_, L, W, $rows, C>(tile)),)+
                _ => unreachable!("a tile has at most {} rows", rows_max::<S>(C)),
            }
        };
    }
    tile_of!(1 2 3 4 5 6 7 8 9 10 11 12);
}

/// A tile of `R` rows: an algorithm, so that each R is a function of its own.
struct RowTile<'a, 'b, L, const W: usize, const R: usize, const C: usize>(Tile<'a, 'b, L, W, C>);

impl<L: Left<W>, const W: usize, const R: usize, const C: usize> Algorithm for RowTile<'_, '_, L, W, R, C> {
    type Output = ();

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { left, first, segments, right, out } = self.0;
        if S::TILE_VECTORS >= C {
            vectors_of::<S, L, W, R, C, C>(s, &left, first, segments, right, 0, out);
        } else {
            for at in 0..C {
                vectors_of::<S, L, W, R, C, 1>(s, &left, first, segments.clone(), right, at, out);
            }
        }
    }
}

/// Goes on with `R` rows and `V` vectors, from vector `at` on, over the segments.
#[inline(always)]
fn vectors_of<S: Simd, L: Left<W>, const W: usize, const R: usize, const C: usize, const V: usize>(
    s: S,
    left: &L,
    first: usize,
    segments: Range<usize>,
    mut right: &[[Line; C]],
    at: usize,
    out: &mut Out<'_>,
) {
    let mut sums = [[s.splat(0.0); V]; R];
    if segments.start > 0 {
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.load(&out.lines[(first + r) * out.row_stride + (at + v) * out.vector_stride].0);
            }
        }
    }
    for index in segments {
        let Segment { rows, place, len } = left.segment(index);
        let rows: &[[Line; W]; R] = rows[first..].first_chunk().expect("a tile is within its rows");
        assert!(place < W);
        let (now, after) = right.split_at(len);
        right = after;
        if let Ok(now) = <&[[Line; C]; LANES]>::try_from(now) {
            for (k, right) in now.iter().enumerate() {
                step(s, &mut sums, rows, place, k, right, at);
            }
        } else {
            for (k, right) in now[..len.min(LANES)].iter().enumerate() {
                step(s, &mut sums, rows, place, k, right, at);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            s.store(sum, &mut out.lines[(first + r) * out.row_stride + (at + v) * out.vector_stride].0);
        }
    }
}

/// One k.
#[inline(always)]
fn step<S: Simd, const W: usize, const R: usize, const C: usize, const V: usize>(
    s: S,
    sums: &mut [[S::V; V]; R],
    rows: &[[Line; W]; R],
    place: usize,
    k: usize,
    right: &[Line; C],
    at: usize,
) {
    let mut b = [s.splat(0.0); V];
    for v in 0..V {
        b[v] = s.load(&right[at + v].0);
    }
    for r in 0..R {
        let a = s.splat(rows[r][place].0[k]);
        for v in 0..V {
            sums[r][v] = s.fma(a, b[v], sums[r][v]);
        }
    }
}

/// One row times several panels of gates, each `[N]`: there is no tile to fill, so panels side by side keep the adders
/// busy.
#[inline(always)]
pub(super) fn row_times_gate_panels<S: Simd, const P: usize>(
    s: S,
    row: StateRows<'_>,
    panels: [&[GateLines]; P],
) -> [[S::V; GATES]; P] {
    let mut sums = [[s.splat(0.0); GATES]; P];
    for index in 0..row.segments() {
        let Segment { rows, len, .. } = row.segment(index);
        let row = &rows[0][0].0;
        let now = panels.map(|panel| &panel[index * LANES..][..len]);
        for k in 0..len.min(LANES) {
            let a = s.splat(row[k]);
            for p in 0..P {
                for v in 0..GATES {
                    sums[p][v] = s.fma(a, s.load(&now[p][k][v].0), sums[p][v]);
                }
            }
        }
    }
    sums
}

/// Where the gradient of a weight goes, in standard layout: vector c of row r starts at `r * row_stride + at[c]` and is
/// `widths[c]` wide.
pub(super) struct GradientOut<'a, const C: usize> {
    pub(super) values: &'a mut [f32],
    pub(super) row_stride: usize,
    pub(super) at: [usize; C],
    pub(super) widths: [usize; C],
}

impl<const C: usize> GradientOut<'_, C> {
    #[inline(always)]
    fn vector(&mut self, row: usize, vector: usize) -> &mut [f32] {
        let place = row * self.row_stride + self.at[vector];
        &mut self.values[place..place + self.widths[vector]]
    }
}

/// `out = left^T right` for the nodes of one group over a block of rows; where `goes_on`, from what `out` holds.
/// `left` is `[k]` lines of that group's state, `right` `[k]` rows of `C` vectors.
#[inline(always)]
pub(super) fn gradient_product<S: Simd, const C: usize>(
    s: S,
    left: &[Line],
    nodes: usize,
    right: &[[Line; C]],
    from: From,
    out: &mut GradientOut<'_, C>,
) {
    for (first, len) in tiles(nodes, rows_max::<S>(C)) {
        let tile = GradientTile { left, first, right, from, out };
        macro_rules! tile_of {
            ($($rows:literal)+) => {
                match len {
                    $($rows if $rows <= rows_max::<S>(C) => s.run(NodeTile::<'_, '_, $rows, C>(tile)),)+
                    _ => unreachable!("a tile has at most {} rows", rows_max::<S>(C)),
                }
            };
        }
        tile_of!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
}

/// What a block of k goes on from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Zero,
    Stored,
}

struct GradientTile<'a, 'b, const C: usize> {
    left: &'a [Line],
    /// The first of the nodes.
    first: usize,
    right: &'a [[Line; C]],
    from: From,
    out: &'a mut GradientOut<'b, C>,
}

struct NodeTile<'a, 'b, const R: usize, const C: usize>(GradientTile<'a, 'b, C>);

impl<const R: usize, const C: usize> Algorithm for NodeTile<'_, '_, R, C> {
    type Output = ();

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GradientTile { left, first, right, from, out } = self.0;
        if S::TILE_VECTORS >= C {
            gradient_vectors::<S, R, C, C>(s, left, first, right, 0, from, out);
        } else {
            for at in 0..C {
                gradient_vectors::<S, R, C, 1>(s, left, first, right, at, from, out);
            }
        }
    }
}

#[inline(always)]
fn gradient_vectors<S: Simd, const R: usize, const C: usize, const V: usize>(
    s: S,
    left: &[Line],
    first: usize,
    right: &[[Line; C]],
    at: usize,
    from: From,
    out: &mut GradientOut<'_, C>,
) {
    assert!(first + R <= LANES);
    // What is loaded and stored, partly or whole, is so in loops of its own: in these arrays, and the sums in registers.
    let mut stored = [[Line::ZERO; V]; R];
    if from == From::Stored {
        for (r, lines) in stored.iter_mut().enumerate() {
            for (v, line) in lines.iter_mut().enumerate() {
                s.store(s.load_at(out.vector(first + r, at + v), 0), &mut line.0);
            }
        }
    }
    let mut sums = [[s.splat(0.0); V]; R];
    for r in 0..R {
        for v in 0..V {
            sums[r][v] = s.load(&stored[r][v].0);
        }
    }
    for (left, right) in left.iter().zip(right) {
        let mut b = [s.splat(0.0); V];
        for v in 0..V {
            b[v] = s.load(&right[at + v].0);
        }
        let left: &[f32; R] = left.0[first..first + R].try_into().expect("a tile is within its group");
        for (sums, &a) in sums.iter_mut().zip(left) {
            let a = s.splat(a);
            for (sum, &b) in sums.iter_mut().zip(&b) {
                *sum = s.fma(a, b, *sum);
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            s.store(sums[r][v], &mut stored[r][v].0);
        }
    }
    for (r, lines) in stored.iter().enumerate() {
        for (v, line) in lines.iter().enumerate() {
            s.store_at(s.load(&line.0), out.vector(first + r, at + v), 0);
        }
    }
}
