//! What a run needs in memory, from its shape alone: so that a slot can refuse a run before it allocates.

use slalom_common::run::Shape;

use crate::kernels::gemm::Panels;
use crate::lstm::SYMBOLS;
use crate::lstm::forward::right_factors;

/// Bytes of all arrays that a [`super::Trainer`] of this shape makes, its corpus apart; `u64::MAX` if that is less.
pub fn bytes_needed(shape: &Shape) -> u64 {
    checked_bytes(shape).unwrap_or(u64::MAX)
}

fn checked_bytes(shape: &Shape) -> Option<u64> {
    let Shape { nodes, batch_size, unrollings } = *shape;
    let [n, b, t] = [nodes, batch_size, unrollings].map(u64::from);
    let symbols = SYMBOLS as u64;
    let rows = t.checked_mul(b)?;
    let sum = |terms: &[Option<u64>]| terms.iter().try_fold(0_u64, |sum, term| sum.checked_add((*term)?));
    let product = |factors: &[u64]| factors.iter().try_fold(1_u64, |product, &f| product.checked_mul(f));

    let parameters = sum(&[
        product(&[symbols, 4 * n]),
        product(&[n, 4 * n]),
        Some(4 * n),
        product(&[n, symbols]),
        Some(symbols),
    ]);
    let activations = sum(&[
        product(&[2, rows.checked_add(b)?, n]), // h and c
        product(&[2, rows, n]),                 // tanh_c and dh_classifier
        product(&[rows, 4 * n]),                // gates
        product(&[rows, symbols]),              // dlogits
        product(&[2, b, n]),                    // dh_next and dc
    ]);
    let evaluator = Some(8 * n); // h, c before and after, tanh_c, gates
    let floats = sum(&[parameters, parameters, activations, evaluator])?;

    let mut right = 0;
    for (rows, columns) in right_factors(n as usize, b as usize, t as usize) {
        right = right.max(Panels::bytes(rows as u64, columns as u64)?);
    }
    let evaluator_panels = [Panels::bytes(n, 4 * n), Panels::bytes(n, symbols)];
    let batches = sum(&[product(&[2, rows]), product(&[b, 9])]);
    sum(&[floats.checked_mul(4), Some(right), evaluator_panels[0], evaluator_panels[1], batches])
}
