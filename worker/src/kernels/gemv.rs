//! One row times a packed factor: no tile to fill, so several panels side by side keep the adders busy.

use super::gemm::{PanelRow, Panels, store_columns};
use super::simd::{LANES, PANEL_VECTORS, Simd};

/// `out = row right`, k ascending from zero, fused, as every product.
#[inline(always)]
pub(super) fn row_times_panels<S: Simd>(s: S, row: &[f32], right: &Panels, out: &mut [f32]) {
    let mut panel = 0;
    while panel < right.count() {
        let side_by_side = S::ROW_PANELS.min(right.count() - panel);
        panel += match side_by_side {
            4.. => panels_times::<S, 4>(s, row, right, panel, out),
            2.. => panels_times::<S, 2>(s, row, right, panel, out),
            _ => panels_times::<S, 1>(s, row, right, panel, out),
        };
    }
}

/// The row times `P` panels, from number `first` on; gives P.
#[inline(always)]
fn panels_times<S: Simd, const P: usize>(
    s: S,
    row: &[f32],
    right: &Panels,
    first: usize,
    out: &mut [f32],
) -> usize {
    let panels: [&[PanelRow]; P] = std::array::from_fn(|p| &right.panel(first + p)[..row.len()]);
    let mut sums = [[s.splat(0.0); PANEL_VECTORS]; P];
    for k in 0..row.len() {
        let a = s.splat(row[k]);
        for p in 0..P {
            for c in 0..PANEL_VECTORS {
                sums[p][c] = s.fma(a, s.load(&panels[p][k][c].0), sums[p][c]);
            }
        }
    }
    for (p, sums) in sums.iter().enumerate() {
        for (c, &sum) in sums.iter().enumerate() {
            store_columns(s, sum, out, ((first + p) * PANEL_VECTORS + c) * LANES);
        }
    }
    P
}
