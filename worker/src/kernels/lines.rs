//! How numbers lie in memory: in lines of sixteen, each on a cache line of its own, so that every load and store of a
//! training step is whole and aligned.
//!
//! Columns come in groups of sixteen, the last group filled up with numbers that nothing reads. A matrix of states,
//! `[rows, N]`, is `[group][row]` lines; one of gates, `[rows, 4N]`, is `[group][row]` of four lines, one a gate: so
//! the four sums of sixteen nodes stand together, and what follows a product goes down its rows without a stride.

use std::collections::TryReserveError;

use super::simd::LANES;

/// Gates of a node: i, f, g, o.
pub(crate) const GATES: usize = 4;

/// Sixteen numbers on one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; LANES]);

impl Line {
    /// Sixteen zeros.
    pub(crate) const ZERO: Self = Self([0.0; LANES]);
}

/// The gates of sixteen nodes.
pub(crate) type GateLines = [Line; GATES];

/// Groups that `columns` columns make.
pub(crate) const fn groups(columns: usize) -> usize {
    columns.div_ceil(LANES)
}

/// How many of group `index` are columns.
#[inline(always)]
pub(super) fn width(columns: usize, index: usize) -> usize {
    LANES.min(columns - index * LANES)
}

/// `len` times `W` lines of zeros.
pub(crate) fn zeros<const W: usize>(len: usize) -> Result<Vec<[Line; W]>, TryReserveError> {
    let mut lines = Vec::new();
    lines.try_reserve_exact(len)?;
    lines.resize(len, [Line::ZERO; W]);
    Ok(lines)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `values`, `[rows, columns]`, as `[group][row]` lines; what fills the last group up is NaN, so that it shows.
    pub(in super::super) fn in_lines(values: &[f32], columns: usize) -> Vec<Line> {
        let rows = values.chunks_exact(columns);
        let group = |group: usize| rows.clone().map(move |row| line(row, group));
        (0..groups(columns)).flat_map(group).collect()
    }

    fn line(row: &[f32], group: usize) -> Line {
        Line(std::array::from_fn(|lane| row.get(group * LANES + lane).copied().unwrap_or(f32::NAN)))
    }

    /// The reverse.
    pub(in super::super) fn out_of_lines(lines: &[Line], columns: usize) -> Vec<f32> {
        let rows = lines.len() / groups(columns);
        let number = |row: usize, at: usize| lines[at / LANES * rows + row].0[at % LANES];
        (0..rows).flat_map(|row| (0..columns).map(move |at| number(row, at))).collect()
    }

    /// `values`, `[rows, 4 nodes]`, as `[group][row]` of four lines.
    pub(in super::super) fn in_gate_lines(values: &[f32], nodes: usize) -> Vec<GateLines> {
        let gate =
            |row: &[f32], gate: usize, group: usize| line(&row[gate * nodes..(gate + 1) * nodes], group);
        let rows = values.chunks_exact(4 * nodes);
        let of =
            |group: usize| rows.clone().map(move |row| std::array::from_fn(|index| gate(row, index, group)));
        (0..groups(nodes)).flat_map(of).collect()
    }

    /// The reverse.
    pub(in super::super) fn out_of_gate_lines(lines: &[GateLines], nodes: usize) -> Vec<f32> {
        let rows = lines.len() / groups(nodes);
        let number = |row: usize, at: usize| {
            let (gate, node) = (at / nodes, at % nodes);
            lines[node / LANES * rows + row][gate].0[node % LANES]
        };
        (0..rows).flat_map(|row| (0..4 * nodes).map(move |at| number(row, at))).collect()
    }

    /// `values`, `[rows, 27]`, as rows of two lines.
    pub(in super::super) fn in_logit_lines(values: &[f32]) -> Vec<[Line; 2]> {
        values.chunks_exact(27).map(|row| [line(row, 0), line(row, 1)]).collect()
    }

    #[test]
    fn what_goes_into_lines_comes_out_of_them() {
        for columns in [1, 15, 16, 17, 70] {
            let values: Vec<f32> = (0..3 * 4 * columns).map(|at| at as f32).collect();
            assert_eq!(out_of_lines(&in_lines(&values, columns), columns), values);
            assert_eq!(out_of_gate_lines(&in_gate_lines(&values, columns), columns), values);
        }
    }
}
