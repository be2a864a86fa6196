//! What a run needs in memory, from its shape alone: so that a slot can refuse a run before it allocates.

use slalom_common::run::Shape;

use crate::lstm::SYMBOLS;
use crate::lstm::evaluate::Evaluator;
use crate::lstm::forward::Activations;

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
    let floats = sum(&[parameters, parameters])?;
    let batches = sum(&[product(&[2, rows]), product(&[b, 9])]);
    sum(&[floats.checked_mul(4), Activations::bytes(shape), Some(Evaluator::bytes(n)), batches])
}
