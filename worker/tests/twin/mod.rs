//! The model once more, in f64 and one number at a time: equations only, no order of operations, no speed.

/// Parameters in the order of `Parameters::tensors`, and the state carried in.
#[derive(Clone)]
pub(crate) struct Twin {
    pub(crate) n: usize,
    pub(crate) b: usize,
    pub(crate) tensors: [Vec<f64>; 5],
    /// `[B, N]`, as is c.
    pub(crate) h: Vec<f64>,
    pub(crate) c: Vec<f64>,
}

/// One row of one time step: i, f, g, o, the c before, tanh of the c after, and the h before and after, `[N]` each.
struct Cell {
    gates: [Vec<f64>; 4],
    c_before: Vec<f64>,
    tanh_c: Vec<f64>,
    h_before: Vec<f64>,
    h: Vec<f64>,
    /// The softmax.
    p: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Twin {
    /// Mean loss of predicting `labels` from `inputs`, `[T B]` each.
    pub(crate) fn loss(&self, inputs: &[u8], labels: &[u8]) -> f64 {
        let cells = self.forward(inputs);
        let rows = cells.iter().zip(labels);
        rows.map(|(cell, &label)| -cell.p[usize::from(label)].ln()).sum::<f64>() / labels.len() as f64
    }

    fn forward(&self, inputs: &[u8]) -> Vec<Cell> {
        let Self {
            n, b, tensors: [input_kernel, recurrent_kernel, bias, classifier, classifier_bias], ..
        } = self;
        let (n, b) = (*n, *b);
        let mut cells: Vec<Cell> = Vec::new();
        let (mut h, mut c) = (self.h.clone(), self.c.clone());
        for (row, &symbol) in inputs.iter().enumerate() {
            let state = row % b * n..(row % b + 1) * n;
            let (h_before, c_before) = (h[state.clone()].to_vec(), c[state.clone()].to_vec());
            let sum = |column: usize| {
                let recurrent: f64 = (0..n).map(|k| h_before[k] * recurrent_kernel[k * 4 * n + column]).sum();
                input_kernel[usize::from(symbol) * 4 * n + column] + recurrent + bias[column]
            };
            let gate = |gate: usize| (0..n).map(|j| sum(gate * n + j)).collect::<Vec<_>>();
            let squashed = |gate: Vec<f64>, by: fn(f64) -> f64| gate.into_iter().map(by).collect::<Vec<_>>();
            let gates = [
                squashed(gate(0), sigmoid),
                squashed(gate(1), sigmoid),
                squashed(gate(2), f64::tanh),
                squashed(gate(3), sigmoid),
            ];
            let [i, f, g, o] = &gates;
            let c_after: Vec<f64> = (0..n).map(|j| f[j] * c_before[j] + i[j] * g[j]).collect();
            let tanh_c: Vec<f64> = c_after.iter().map(|c| c.tanh()).collect();
            let h_after: Vec<f64> = (0..n).map(|j| o[j] * tanh_c[j]).collect();
            let logit = |s: usize| -> f64 {
                (0..n).map(|j| h_after[j] * classifier[j * 27 + s]).sum::<f64>() + classifier_bias[s]
            };
            let exponentials: Vec<f64> = (0..27).map(|s| logit(s).exp()).collect();
            let total: f64 = exponentials.iter().sum();
            let p = exponentials.iter().map(|e| e / total).collect();
            h[state.clone()].copy_from_slice(&h_after);
            c[state].copy_from_slice(&c_after);
            cells.push(Cell { gates, c_before, tanh_c, h_before, h: h_after, p });
        }
        cells
    }

    /// The gradient of [`Twin::loss`] by each parameter.
    pub(crate) fn gradient(&self, inputs: &[u8], labels: &[u8]) -> [Vec<f64>; 5] {
        let Self { n, b, tensors, .. } = self;
        let (n, b) = (*n, *b);
        let [_, recurrent_kernel, _, classifier, _] = tensors;
        let mut gradient = tensors.clone().map(|tensor| vec![0.0; tensor.len()]);
        let [d_input, d_recurrent, d_bias, d_classifier, d_classifier_bias] = &mut gradient;
        let cells = self.forward(inputs);
        let (mut dh_next, mut dc_next) = (vec![0.0; b * n], vec![0.0; b * n]);
        for (row, cell) in cells.iter().enumerate().rev() {
            let at = |j: usize| row % b * n + j;
            let mut dh: Vec<f64> = (0..n).map(|j| dh_next[at(j)]).collect();
            for s in 0..27 {
                let y = if s == usize::from(labels[row]) { 1.0 } else { 0.0 };
                let dlogit = (cell.p[s] - y) / labels.len() as f64;
                d_classifier_bias[s] += dlogit;
                for j in 0..n {
                    d_classifier[j * 27 + s] += cell.h[j] * dlogit;
                    dh[j] += dlogit * classifier[j * 27 + s];
                }
            }
            let [i, f, g, o] = &cell.gates;
            let mut dsums = vec![0.0; 4 * n];
            for j in 0..n {
                let dc = dc_next[at(j)] + dh[j] * o[j] * (1.0 - cell.tanh_c[j].powi(2));
                dsums[j] = dc * g[j] * i[j] * (1.0 - i[j]);
                dsums[n + j] = dc * cell.c_before[j] * f[j] * (1.0 - f[j]);
                dsums[2 * n + j] = dc * i[j] * (1.0 - g[j].powi(2));
                dsums[3 * n + j] = dh[j] * cell.tanh_c[j] * o[j] * (1.0 - o[j]);
                dc_next[at(j)] = dc * f[j];
            }
            for column in 0..4 * n {
                d_input[usize::from(inputs[row]) * 4 * n + column] += dsums[column];
                d_bias[column] += dsums[column];
                for k in 0..n {
                    d_recurrent[k * 4 * n + column] += cell.h_before[k] * dsums[column];
                }
            }
            for k in 0..n {
                let columns = 0..4 * n;
                dh_next[at(k)] =
                    columns.map(|column| dsums[column] * recurrent_kernel[k * 4 * n + column]).sum();
            }
        }
        gradient
    }
}
