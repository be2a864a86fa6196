//! Any bytes as a file of weights: those, each of them finite, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slalom_worker::lstm::params::Parameters;

fuzz_target!(|bytes: &[u8]| {
    for nodes in [1, 2] {
        if let Ok(parameters) = Parameters::from_safetensors(bytes, nodes) {
            assert!(parameters.tensors().into_iter().flatten().all(|weight| weight.is_finite()));
            let written = parameters.to_safetensors();
            let again = Parameters::from_safetensors(&written, nodes).expect("what was written is read");
            assert_eq!(again.to_safetensors(), written);
        }
    }
});
