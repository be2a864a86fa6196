//! How numbers lie in memory: in lines of sixteen, each on a cache line of its own, so that every load and store of a
//! training step is whole and aligned.
//!
//! Columns come in groups of sixteen, the last group filled up with numbers that nothing reads. A matrix `[rows, N]` is
//! `[group][row]` lines: a plane a group, so that whatever goes down the rows of a group goes without a stride. Gates,
//! `[rows, 4N]`, are four such matrices, `[gate][group][row]`; logits, `[rows, 27]`, are two planes.

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

/// `len` times `zero`, which is a line or several.
fn filled<T: Clone>(len: usize, zero: T) -> Result<Vec<T>, TryReserveError> {
    let mut lines = Vec::new();
    lines.try_reserve_exact(len)?;
    lines.resize(len, zero);
    Ok(lines)
}

/// `len` lines of zeros.
pub(crate) fn zeros(len: usize) -> Result<Vec<Line>, TryReserveError> {
    filled(len, Line::ZERO)
}

/// The gates of `len` times sixteen nodes, zeros.
pub(super) fn gate_zeros(len: usize) -> Result<Vec<GateLines>, TryReserveError> {
    filled(len, [Line::ZERO; GATES])
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

    /// `values`, `[rows, 4 nodes]`, as `[gate][group][row]` lines.
    pub(in super::super) fn in_gate_lines(values: &[f32], nodes: usize) -> Vec<Line> {
        let gate = |gate: usize| {
            let rows = values.chunks_exact(4 * nodes);
            let columns: Vec<f32> = rows.flat_map(|row| row[gate * nodes..][..nodes].to_vec()).collect();
            in_lines(&columns, nodes)
        };
        (0..GATES).flat_map(gate).collect()
    }

    /// The reverse.
    pub(in super::super) fn out_of_gate_lines(lines: &[Line], nodes: usize) -> Vec<f32> {
        let rows = lines.len() / groups(nodes) / GATES;
        let gates: Vec<Vec<f32>> =
            lines.chunks_exact(groups(nodes) * rows).map(|lines| out_of_lines(lines, nodes)).collect();
        (0..rows)
            .flat_map(|row| gates.iter().flat_map(move |gate| gate[row * nodes..][..nodes].to_vec()))
            .collect()
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
