//! The backward pass: the forward pass's steps in reverse. No gradient flows into the state that was carried in.

use ndarray::s;

use super::forward::Activations;
use super::params::Parameters;
use super::{SYMBOLS, flat, flat_mut};
use crate::kernels::Kernels;
use crate::kernels::cell::CellBackward;
use crate::kernels::gemm::{Matrix, Product};
use crate::kernels::reduce::{ColumnSums, ScatterRows};

/// Fills `gradient` with the mean loss's gradient by each parameter, after [`super::forward::forward`] of the same
/// `inputs`. Sums over rows are in the order t B + b; those of biases in `ColumnSums`' order.
pub fn backward(
    kernels: Kernels,
    parameters: &Parameters,
    activations: &mut Activations,
    inputs: &[u8],
    gradient: &mut Parameters,
) {
    let [n, b, t] = [parameters.nodes(), activations.batch_size, activations.unrollings];
    let Activations { h, c, tanh_c, gates, dlogits, dh_classifier, dh_next, dc, right, tile, .. } =
        activations;

    // 2. All rows at once. dW = h^T dlogits, db = the column sums of dlogits, dh = dlogits W^T.
    let h_after = h.slice(s![b.., ..]);
    right.pack(Matrix::with_columns(SYMBOLS, flat(dlogits)));
    kernels.run(Product {
        left: Matrix::with_columns(n, flat(&h_after)).transposed(),
        right,
        out: flat_mut(&mut gradient.classifier),
        tile,
    });
    kernels.run(ColumnSums { rows: flat(dlogits), sums: flat_mut(&mut gradient.classifier_bias) });
    right.pack(Matrix::with_columns(SYMBOLS, flat(&parameters.classifier)).transposed());
    kernels.run(Product {
        left: Matrix::with_columns(SYMBOLS, flat(dlogits)),
        right,
        out: flat_mut(dh_classifier),
        tile,
    });

    // 1. Time step by time step, the last first: the cell, then the product that reaches the h before.
    right.pack(Matrix::with_columns(4 * n, flat(&parameters.recurrent_kernel)).transposed());
    dh_next.fill(0.0);
    dc.fill(0.0);
    for t in (0..t).rev() {
        let rows = t * b..(t + 1) * b;
        let mut gates = gates.slice_mut(s![rows.clone(), ..]);
        kernels.run(CellBackward {
            nodes: n,
            gates: flat_mut(&mut gates),
            tanh_c: flat(&tanh_c.slice(s![rows.clone(), ..])),
            c_before: flat(&c.slice(s![rows.clone(), ..])),
            dh_classifier: flat(&dh_classifier.slice(s![rows, ..])),
            dh_next: flat(dh_next),
            dc: flat_mut(dc),
        });
        if t > 0 {
            kernels.run(Product {
                left: Matrix::with_columns(4 * n, flat(&gates)),
                right,
                out: flat_mut(dh_next),
                tile,
            });
        }
    }

    // All rows at once again: the recurrent kernel by a product, the input kernel by a scatter, the bias by sums.
    let h_before = h.slice(s![..t * b, ..]);
    right.pack(Matrix::with_columns(4 * n, flat(gates)));
    kernels.run(Product {
        left: Matrix::with_columns(n, flat(&h_before)).transposed(),
        right,
        out: flat_mut(&mut gradient.recurrent_kernel),
        tile,
    });
    kernels.run(ScatterRows {
        symbols: inputs,
        rows: flat(gates),
        sums: flat_mut(&mut gradient.input_kernel),
        columns: 4 * n,
    });
    kernels.run(ColumnSums { rows: flat(gates), sums: flat_mut(&mut gradient.bias) });
}
