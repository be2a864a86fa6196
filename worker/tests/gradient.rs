//! The gradient of one step against a naive f64 twin, and the twin's against finite differences of its loss.

mod twin;

use slalom_common::rng::philox4x32_10;
use slalom_common::run::Shape;
use slalom_worker::kernels::{IsaName, Kernels};
use slalom_worker::lstm::params::Parameters;
use slalom_worker::lstm::step::Network;
use twin::Twin;

fn noise(seed: u32, len: usize) -> impl Iterator<Item = u32> {
    (0..len as u32).map(move |index| philox4x32_10([index, 0, 0, 0], [seed, 0])[0])
}

fn symbols(seed: u32, len: usize) -> Vec<u8> {
    noise(seed, len).map(|word| (word % 27) as u8).collect()
}

/// A network with a carried state that is not zero, and its twin.
fn network_and_twin(kernels: Kernels, shape: &Shape) -> (Network, Twin) {
    let [n, b] = [shape.nodes, shape.batch_size].map(|size| size as usize);
    let mut parameters = Parameters::initial(n, 5).expect("it fits");
    for (bias, word) in parameters.bias.iter_mut().zip(noise(1, 4 * n)) {
        *bias = word as f32 * (-34.0_f32).exp2();
    }
    let tensors = parameters.tensors().map(|tensor| tensor.iter().map(|&w| f64::from(w)).collect());
    let mut network = Network::new(kernels, shape, parameters).expect("it fits");
    let state = noise(2, 2 * b * n).map(|word| word as f32 * (-32.0_f32).exp2() - 0.5).collect::<Vec<_>>();
    let (h, c) = state.split_at(b * n);
    network.set_carried(h, c);
    let [h, c] = network.carried().map(|state| state.into_iter().map(f64::from).collect());
    (network, Twin { n, b, tensors, h, c })
}

/// Central differences err by about step^2 and by 1e-16 / step: 1e-9 here, of gradients near 0.1.
#[test]
fn the_twins_gradient_is_that_of_finite_differences() {
    const STEP: f64 = 1e-5;
    let shape = Shape { nodes: 3, batch_size: 2, unrollings: 4 };
    let (_, twin) = network_and_twin(Kernels::detect(), &shape);
    let (inputs, labels) = (symbols(3, 8), symbols(4, 8));
    let gradient = twin.gradient(&inputs, &labels);
    let moved = |tensor: usize, at: usize, by: f64| {
        let mut moved = twin.clone();
        moved.tensors[tensor][at] += by;
        moved.loss(&inputs, &labels)
    };
    for (tensor, gradient) in gradient.iter().enumerate() {
        assert!(gradient.iter().any(|g| g.abs() > 1e-4), "tensor {tensor} has a gradient");
        for (at, g) in gradient.iter().enumerate() {
            let difference = (moved(tensor, at, STEP) - moved(tensor, at, -STEP)) / (2.0 * STEP);
            assert!((difference - g).abs() < 1e-8, "tensor {tensor}, {at}: {g}, but {difference}");
        }
    }
}

/// Each number of the gradient is a sum of up to a few hundred products, each off by some units of 6e-8: together, by
/// the root of their number, below 2e-6 of the tensor's norm.
#[test]
fn the_gradient_of_a_step_is_the_twins() {
    for [nodes, batch_size, unrollings] in
        [[1, 1, 1], [3, 2, 4], [17, 5, 3], [16, 16, 2], [33, 7, 20], [128, 16, 10], [130, 3, 5]]
    {
        let shape = Shape { nodes, batch_size, unrollings };
        let rows = (batch_size * unrollings) as usize;
        let (inputs, labels) = (symbols(6, rows), symbols(7, rows));
        for kernels in Kernels::available() {
            if kernels.name() == IsaName::Portable && nodes > 100 {
                continue; // Bit for bit the others', as every kernel's own test shows.
            }
            let (mut network, twin) = network_and_twin(kernels, &shape);
            let (loss, norm) = network.gradient_of(&inputs, &labels);
            let expected = twin.gradient(&inputs, &labels);
            let expected_loss = twin.loss(&inputs, &labels);
            assert!((loss / expected_loss - 1.0).abs() < 1e-6, "{shape:?}: {loss}, not {expected_loss}");
            let mut squares = 0.0;
            for (tensor, (found, expected)) in network.gradient().tensors().iter().zip(&expected).enumerate()
            {
                let off = found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).powi(2)).sum::<f64>();
                let whole = expected.iter().map(|e| e.powi(2)).sum::<f64>();
                assert!(
                    off.sqrt() <= 2e-6 * whole.sqrt(),
                    "{shape:?}, tensor {tensor}: {}",
                    (off / whole).sqrt()
                );
                squares += whole;
            }
            assert!((norm / squares.sqrt() - 1.0).abs() < 1e-6, "{shape:?}: {norm}, not {}", squares.sqrt());
        }
    }
}
