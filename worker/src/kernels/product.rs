//! Matrix products: tiles in registers, and the one order of accumulation.
//!
//! Every element of a product is `a[0] b[0] + a[1] b[1] + ...` with k ascending from zero, each step one fused
//! multiply-add into one accumulator. Tiles and blocks of k change only which elements are worked on together: a block
//! of k goes on from what the one before it has stored, so neither a tile's size nor a cache's moves a bit.
//!
//! A right factor of `C` vectors lies in panels as wide as a tile ([`panel_vectors`]), each k after k, so that a tile
//! reads it from end to end and a panel's block of k stays in a cache while all tiles of rows pass over it. The left one
//! is read where it lies, a number at a time, by the broadcast that a fused multiply-add from memory does for nothing.

use std::ops::{Index, Range};

use super::lines::{Line, groups, width};
use super::simd::{Algorithm, LANES, Simd};

/// The most vectors of a right factor.
pub(crate) const RIGHT_VECTORS_MAX: usize = 4;

/// Vectors across a panel of a right factor of `vectors`.
#[inline(always)]
pub(super) const fn panel_vectors<S: Simd>(vectors: usize) -> usize {
    if S::TILE_VECTORS >= vectors { vectors } else { 1 }
}

/// Where vector `vector` of k number `k` lies in a right factor of `vectors` vectors and `len` k.
#[inline(always)]
pub(super) const fn right_place<S: Simd>(vectors: usize, len: usize, k: usize, vector: usize) -> usize {
    let across = panel_vectors::<S>(vectors);
    vector / across * len * across + k * across + vector % across
}

/// Segments of k in a block. A panel's block is 16 KiB where it is one vector wide, half the first cache of most
/// processors, the rows of a tile being beside it; 128 KiB where it is four, which is read from the second cache.
#[inline(always)]
const fn block_segments(vectors: usize) -> usize {
    if vectors == 1 { 16 } else { 32 }
}

/// Rows of a left factor: a matrix `[rows, columns]`, or several side by side, whose k comes in segments of at most
/// sixteen, a plane of lines each.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// `[matrix][group][stride]`.
    pub(super) lines: &'a [Line],
    /// Rows of a plane.
    pub(super) stride: usize,
    /// The rows that count: so many of each plane, from this one on.
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Of one matrix.
    pub(super) columns: usize,
}

impl<'a> Left<'a> {
    #[inline(always)]
    fn segments(self) -> usize {
        self.lines.len() / self.stride
    }

    /// The rows of each segment, and how many k it has.
    #[inline(always)]
    fn segments_of(self, block: Range<usize>) -> impl Iterator<Item = (&'a [Line], usize)> {
        let groups = groups(self.columns);
        let mut group = block.start % groups;
        block.map(move |index| {
            let len = width(self.columns, group);
            group = if group + 1 == groups { 0 } else { group + 1 };
            (&self.lines[index * self.stride + self.first..][..self.rows], len)
        })
    }
}

/// Where a product goes: the line of row r and vector c is `r * row_stride + c * vector_stride`.
pub(super) struct Out<'a> {
    pub(super) lines: &'a mut [Line],
    pub(super) row_stride: usize,
    pub(super) vector_stride: usize,
}

/// `out = left right`, `right` being `C` vectors in panels.
#[inline(always)]
pub(super) fn product<S: Simd, const C: usize>(s: S, left: Left<'_>, right: &[Line], out: &mut Out<'_>) {
    let across = panel_vectors::<S>(C);
    let len = right.len() / C;
    // A tile of few rows has few accumulators, each of which waits for itself: so panels side by side.
    let abreast = match left.rows {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    };
    let segments = left.segments();
    let mut start = 0;
    // Blocks outside panels: what a block reads of the left factor stays in the second cache for all of them.
    for first in (0..segments).step_by(block_segments(across)) {
        let block = first..segments.min(first + block_segments(across));
        let end = start + left.segments_of(block.clone()).map(|(_, len)| len).sum::<usize>();
        let panel = |at: usize| &right[at * len..][start * across..end * across];
        let mut at = 0;
        while at < C {
            let block = block.clone();
            if across == C {
                at += panels::<S, 1, C>(s, left, block, [panel(at)], at, out);
                continue;
            }
            at += match abreast.min(C - at) {
                4.. => {
                    let right = [panel(at), panel(at + 1), panel(at + 2), panel(at + 3)];
                    panels::<S, 4, 1>(s, left, block, right, at, out)
                }
                2.. => panels::<S, 2, 1>(s, left, block, [panel(at), panel(at + 1)], at, out),
                _ => panels::<S, 1, 1>(s, left, block, [panel(at)], at, out),
            };
        }
        start = end;
    }
}

/// All rows by `P` panels of `V` vectors over a block of k; `at` is which vector of the product the first one is. Gives
/// how many vectors that were.
#[inline(always)]
fn panels<S: Simd, const P: usize, const V: usize>(
    s: S,
    left: Left<'_>,
    block: Range<usize>,
    right: [&[Line]; P],
    at: usize,
    out: &mut Out<'_>,
) -> usize {
    let right = right.map(|panel| panel.as_chunks::<V>().0);
    let rows_max = if P == 1 { rows_max::<S>(V) } else { 3 };
    for (first, rows) in tiles(left.rows, rows_max) {
        let tile = Tile { left, first, segments: block.clone(), right, at, out };
        match rows {
            1..=3 => few_rows(s, rows, tile),
            _ => many_rows(s, rows, tile),
        }
    }
    P * V
}

/// The rows of the tallest tile across `vectors` vectors.
#[inline(always)]
const fn rows_max<S: Simd>(vectors: usize) -> usize {
    let rows = S::ACCUMULATORS / vectors;
    if rows < TILE_ROWS_MAX { rows } else { TILE_ROWS_MAX }
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

/// Some rows of a product over a block of k.
struct Tile<'a, 'b, const P: usize, const V: usize> {
    left: Left<'a>,
    first: usize,
    segments: Range<usize>,
    /// From the block's first k on.
    right: [&'a [[Line; V]]; P],
    /// Which vector of the product the first one is.
    at: usize,
    out: &'a mut Out<'b>,
}

#[inline(always)]
fn few_rows<S: Simd, const P: usize, const V: usize>(s: S, rows: usize, tile: Tile<'_, '_, P, V>) {
    match rows {
        1 => s.run(RowTile::<'_, '_, 1, P, V>(tile)),
        2 => s.run(RowTile::<'_, '_, 2, P, V>(tile)),
        3 => s.run(RowTile::<'_, '_, 3, P, V>(tile)),
        _ => unreachable!("a tile of few rows has at most three"),
    }
}

#[inline(always)]
fn many_rows<S: Simd, const P: usize, const V: usize>(s: S, rows: usize, tile: Tile<'_, '_, P, V>) {
    macro_rules! tile_of {
        ($($rows:literal)+) => {
            match rows {
                $($rows if P == 1 && $rows <= rows_max::<S>(V) => s.run(RowTile::<'_, '_, $rows, P, V>(tile)),)+
                _ => unreachable!("a tile has at most {} rows", rows_max::<S>(V)),
            }
        };
    }
    tile_of!(4 5 6 7 8 9 10 11 12);
}

/// A tile of `R` rows: an algorithm, so that each R is a function of its own.
struct RowTile<'a, 'b, const R: usize, const P: usize, const V: usize>(Tile<'a, 'b, P, V>);

impl<const R: usize, const P: usize, const V: usize> Algorithm for RowTile<'_, '_, R, P, V> {
    type Output = ();

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile { left, first, segments, right, at, out } = self.0;
        let place = |r: usize, p: usize, v: usize| {
            (first + r) * out.row_stride + (at + p * V + v) * out.vector_stride
        };
        let mut sums = [[[s.splat(0.0); V]; P]; R];
        if segments.start > 0 {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (p, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = s.load(&out.lines[place(r, p, v)].0);
                    }
                }
            }
        }
        let sums = accumulate(s, left, first, segments, right, sums);
        for (r, sums) in sums.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    s.store(sum, &mut out.lines[place(r, p, v)].0);
                }
            }
        }
    }
}

/// Goes on with `sums`: `R` rows of the left factor, from row `first` on, by `P` panels of `V` vectors, whose first k is
/// that of the first segment.
#[inline(always)]
fn accumulate<S: Simd, const R: usize, const P: usize, const V: usize>(
    s: S,
    left: Left<'_>,
    first: usize,
    segments: Range<usize>,
    mut right: [&[[Line; V]]; P],
    mut sums: [[[S::V; V]; P]; R],
) -> [[[S::V; V]; P]; R] {
    for (rows, len) in left.segments_of(segments) {
        let rows: &[Line; R] = rows[first..].first_chunk().expect("a tile is within its rows");
        let mut now = right;
        for p in 0..P {
            (now[p], right[p]) = right[p].split_at(len);
        }
        if len == LANES {
            let now: [&[[Line; V]; LANES]; P] =
                std::array::from_fn(|p| now[p].first_chunk().expect("a whole segment"));
            let all: [&[f32; LANES]; R] = std::array::from_fn(|r| &rows[r].0);
            macro_rules! unrolled {
                ($($k:literal)+) => { $(step(s, &mut sums, &all, $k, &now);)+ };
            }
            unrolled!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        } else {
            let fours = len.min(LANES) / 4;
            for four in 0..fours {
                let now: [&[[Line; V]; 4]; P] = std::array::from_fn(|p| &now[p].as_chunks().0[four]);
                let rows: [&[f32; 4]; R] = std::array::from_fn(|r| &rows[r].0.as_chunks().0[four]);
                for k in 0..4 {
                    step(s, &mut sums, &rows, k, &now);
                }
            }
            for k in 4 * fours..len.min(LANES) {
                step(s, &mut sums, &rows.each_ref().map(|row| &row.0), k, &now);
            }
        }
    }
    sums
}

/// One k.
#[inline(always)]
fn step<S: Simd, const R: usize, const P: usize, const V: usize, const K: usize>(
    s: S,
    sums: &mut [[[S::V; V]; P]; R],
    rows: &[&[f32; K]; R],
    k: usize,
    right: &[&(impl Index<usize, Output = [Line; V]> + ?Sized); P],
) {
    let mut b = [[s.splat(0.0); V]; P];
    for p in 0..P {
        for v in 0..V {
            b[p][v] = s.load(&right[p][k][v].0);
        }
    }
    for r in 0..R {
        let a = s.splat(rows[r][k]);
        for p in 0..P {
            for v in 0..V {
                sums[r][p][v] = s.fma(a, b[p][v], sums[r][p][v]);
            }
        }
    }
}

/// One row times the panels of a right factor of `C` vectors, and of the `P` such that follow it, each of `k`: what a
/// product of one row leaves, in registers.
#[inline(always)]
pub(super) fn row_product<S: Simd, const P: usize, const C: usize>(
    s: S,
    left: Left<'_>,
    right: [&[Line]; P],
) -> [[S::V; C]; P] {
    let segments = 0..left.segments();
    if panel_vectors::<S>(C) == C {
        let panels = right.map(|panel| panel.as_chunks().0);
        let [sums] = accumulate::<S, 1, P, C>(s, left, 0, segments, panels, [[[s.splat(0.0); C]; P]]);
        return sums;
    }
    let mut product = [[s.splat(0.0); C]; P];
    for (product, right) in product.iter_mut().zip(right) {
        let k = right.len() / C;
        let panels = std::array::from_fn(|at| right[at * k..(at + 1) * k].as_chunks().0);
        let [sums] = accumulate::<S, 1, C, 1>(s, left, 0, segments.clone(), panels, [[[s.splat(0.0)]; C]]);
        for at in 0..C {
            product[at] = sums[at][0];
        }
    }
    product
}

/// Where the gradient of a weight goes, in standard layout: vector c of row r starts at `r * row_stride + at[c]` and is
/// `widths[c]` wide.
pub(super) struct GradientOut<'a, const V: usize> {
    pub(super) values: &'a mut [f32],
    pub(super) row_stride: usize,
    pub(super) at: [usize; V],
    pub(super) widths: [usize; V],
}

impl<const V: usize> GradientOut<'_, V> {
    #[inline(always)]
    fn vector(&mut self, row: usize, vector: usize) -> &mut [f32] {
        let place = row * self.row_stride + self.at[vector];
        &mut self.values[place..place + self.widths[vector]]
    }
}

/// `out = left^T right` for the nodes of one group over a block of rows, from what `from` says.
/// `left` is `[k]` lines of that group's state, `right` as many planes of `[k]` lines as a tile is wide.
#[inline(always)]
pub(super) fn gradient_product<S: Simd, const V: usize>(
    s: S,
    left: &[Line],
    nodes: usize,
    right: [&[Line]; V],
    from: From,
    out: &mut GradientOut<'_, V>,
) {
    for (first, len) in tiles(nodes, rows_max::<S>(V)) {
        let tile = GradientTile { left, first, right, from, out };
        macro_rules! tile_of {
            ($($rows:literal)+) => {
                match len {
                    $($rows if $rows <= rows_max::<S>(V) => s.run(NodeTile::<'_, '_, $rows, V>(tile)),)+
                    _ => unreachable!("a tile has at most {} rows", rows_max::<S>(V)),
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

impl From {
    /// The block of these k.
    #[inline(always)]
    pub(super) const fn at(block: &Range<usize>) -> Self {
        if block.start == 0 { Self::Zero } else { Self::Stored }
    }
}

struct GradientTile<'a, 'b, const V: usize> {
    left: &'a [Line],
    /// The first of the nodes.
    first: usize,
    right: [&'a [Line]; V],
    from: From,
    out: &'a mut GradientOut<'b, V>,
}

struct NodeTile<'a, 'b, const R: usize, const V: usize>(GradientTile<'a, 'b, V>);

impl<const R: usize, const V: usize> Algorithm for NodeTile<'_, '_, R, V> {
    type Output = ();

    fn check(&self) {}

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GradientTile { left, first, right, from, out } = self.0;
        assert!(first + R <= LANES);
        // What is loaded and stored, partly or whole, is so in loops of its own: in these arrays, and the sums in registers.
        let mut stored = [[Line::ZERO; V]; R];
        if from == From::Stored {
            for (r, lines) in stored.iter_mut().enumerate() {
                for (v, line) in lines.iter_mut().enumerate() {
                    s.store(s.load_at(out.vector(first + r, v), 0), &mut line.0);
                }
            }
        }
        let mut sums = [[s.splat(0.0); V]; R];
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = s.load(&stored[r][v].0);
            }
        }
        let right = right.map(|plane| &plane[..left.len()]);
        for (k, left) in left.iter().enumerate() {
            let mut b = [s.splat(0.0); V];
            for v in 0..V {
                b[v] = s.load(&right[v][k].0);
            }
            for r in 0..R {
                let a = s.splat(left.0[first + r]);
                for v in 0..V {
                    sums[r][v] = s.fma(a, b[v], sums[r][v]);
                }
            }
        }
        if out.widths == [LANES; V] {
            for r in 0..R {
                for v in 0..V {
                    let place = (first + r) * out.row_stride + out.at[v];
                    let line = out.values[place..].first_chunk_mut().expect("a whole line");
                    s.store(sums[r][v], line);
                }
            }
            return;
        }
        for r in 0..R {
            for v in 0..V {
                s.store(sums[r][v], &mut stored[r][v].0);
            }
        }
        for (r, lines) in stored.iter().enumerate() {
            for (v, line) in lines.iter().enumerate() {
                s.store_at(s.load(&line.0), out.vector(first + r, v), 0);
            }
        }
    }
}
