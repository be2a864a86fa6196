//! The backward pass: the forward pass's steps in reverse. No gradient flows into the state that was carried in.

use super::flat_mut;
use super::forward::Activations;
use super::params::Parameters;
use crate::kernels::Kernels;
use crate::kernels::gradient::{InputGradients, KernelGradients};
use crate::kernels::lines::Line;
use crate::kernels::pack::PackBackward;
use crate::kernels::recurrence::TimeStepBackward;

/// Fills `gradient` with the mean loss's gradient by each parameter, after [`super::forward::forward`] of the same
/// `inputs`. Sums over rows are in the order t B + b; those of biases in sixteen partial sums (`kernels::gradient`).
pub fn backward(
    kernels: Kernels,
    parameters: &Parameters,
    activations: &mut Activations,
    inputs: &[u8],
    gradient: &mut Parameters,
) {
    let [nodes, batch_size, t] = [activations.nodes, activations.batch_size, activations.unrollings];
    let Activations { h, c, tanh_c, gates, dlogits, dc, dh, backward_weights: weights, .. } = activations;

    // 2. and 1. Time step by time step, the last first: what reaches h through the classifier, dlogits W^T, and through the
    // next time step; then the cell.
    kernels.run(PackBackward { weights: parameters.weights(), packed: weights });
    dc.fill([Line::ZERO]);
    for t in (0..t).rev() {
        kernels.run(TimeStepBackward {
            weights,
            batch_size,
            t,
            dlogits,
            c: c.as_flattened(),
            tanh_c: tanh_c.as_flattened(),
            gates,
            dc: dc.as_flattened_mut(),
            dh: dh.as_flattened_mut(),
        });
    }

    // All rows at once: the kernels of products by products, the input kernel by a scatter, the biases by sums.
    kernels.run(KernelGradients {
        nodes,
        h: h.as_flattened(),
        gates,
        dlogits,
        recurrent_kernel: flat_mut(&mut gradient.recurrent_kernel),
        classifier: flat_mut(&mut gradient.classifier),
    });
    kernels.run(InputGradients {
        nodes,
        symbols: inputs,
        gates,
        dlogits,
        input_kernel: flat_mut(&mut gradient.input_kernel),
        bias: flat_mut(&mut gradient.bias),
        classifier_bias: flat_mut(&mut gradient.classifier_bias),
    });
}
