//! The backward pass: the forward pass's steps in reverse. No gradient flows into the state that was carried in.

use super::flat_mut;
use super::forward::Activations;
use super::params::Parameters;
use crate::kernels::Kernels;
use crate::kernels::gradient::{ClassifierGradients, GateGradients};
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
    dc.fill(Line::ZERO);
    for t in (0..t).rev() {
        kernels.for_columns(nodes).run(TimeStepBackward {
            weights,
            batch_size,
            t,
            dlogits,
            c,
            tanh_c,
            gates,
            dc,
            dh,
        });
    }

    // All rows at once: of what makes the gates' sums, then of the classifier.
    kernels.for_columns(nodes).run(GateGradients {
        nodes,
        symbols: inputs,
        h,
        gates,
        recurrent_kernel: flat_mut(&mut gradient.recurrent_kernel),
        input_kernel: flat_mut(&mut gradient.input_kernel),
        bias: flat_mut(&mut gradient.bias),
    });
    kernels.run(ClassifierGradients {
        nodes,
        h,
        dlogits,
        classifier: flat_mut(&mut gradient.classifier),
        classifier_bias: flat_mut(&mut gradient.classifier_bias),
    });
}
