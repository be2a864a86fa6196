//! The trajectories of `../shared/golden`, which an independent float64 reference computed, as its README has them
//! compared: loss within 1e-4 and norm within 1e-3, up to the smaller trust limit; perplexity within 1e-3.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use slalom_common::id::ContentHash;
use slalom_common::outcome::Measured;
use slalom_common::run::{Family, NUMERICS, Run, Shape};
use slalom_common::settings::TrainingSettings;
use slalom_worker::kernels::{IsaName, Kernels};
use slalom_worker::lstm::params::Parameters;
use slalom_worker::lstm::step::Stepped;
use slalom_worker::trainer::{Initial, Trainer};

#[derive(Deserialize)]
struct Expected {
    nodes: u32,
    batch_size: u32,
    unrollings: u32,
    steps: u64,
    learning_rate: f64,
    decay_rate: f64,
    decay_steps: u64,
    clip_norm: f64,
    valid_size: u64,
    loss_per_step: Vec<f64>,
    grad_norm_per_step: Vec<f64>,
    valid_perplexity: BTreeMap<u64, f64>,
    trust_steps: u64,
    trust_steps_approx_math: u64,
}

/// `../shared`, beside the workspace; none, loudly, where this checkout has no such neighbour.
fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if shared.is_dir() {
        return Some(shared);
    }
    eprintln!("SKIPPED golden trajectories: ../shared is absent");
    None
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The case's text as ids; `notebook` names a number of leading characters of text8 instead.
fn symbols(shared: &Path, folder: &Path) -> Arc<[u8]> {
    let mut text = read(&folder.join("corpus.txt"));
    if let Some(number) = text.strip_prefix(b"leading characters of text8: ") {
        let number = std::str::from_utf8(number).expect("digits").trim().parse().expect("a number");
        let archive =
            fs::File::open(shared.join("data/text8-head.zip")).expect("the data is beside the cases");
        let mut archive = zip::ZipArchive::new(archive).expect("a zip archive");
        let member = archive.by_name("text8").expect("its one member");
        text = Vec::new();
        member.take(number).read_to_end(&mut text).expect("so many characters");
        assert_eq!(text.len() as u64, number);
    }
    text.iter().map(|&byte| if byte == b' ' { 0 } else { byte - b'a' + 1 }).collect()
}

fn case(name: &str) {
    let Some(shared) = shared() else { return };
    let folder = shared.join("golden").join(name);
    let expected: Expected =
        serde_json::from_slice(&read(&folder.join("expected.json"))).expect("expected.json has these fields");
    let symbols = symbols(&shared, &folder);
    for isa in IsaName::ALL {
        let multiply_adds = u64::from(expected.nodes).pow(2)
            * u64::from(expected.batch_size * expected.unrollings)
            * expected.steps;
        if isa == IsaName::Portable && multiply_adds > 1_000_000 {
            eprintln!("SKIPPED {name} on {isa}: it would take minutes there");
            continue;
        }
        match Kernels::of(isa) {
            Ok(kernels) => check(kernels, &expected, &folder, &symbols),
            Err(missing) => eprintln!("SKIPPED {name}: {missing}"),
        }
    }
}

fn check(kernels: Kernels, expected: &Expected, folder: &Path, symbols: &Arc<[u8]>) {
    let Expected { nodes, batch_size, unrollings, .. } = *expected;
    let training = TrainingSettings {
        learning_rate: expected.learning_rate,
        decay_rate: expected.decay_rate,
        decay_steps: expected.decay_steps,
        clip_norm: expected.clip_norm,
    };
    let family = Family {
        corpus: ContentHash::of(symbols),
        valid_size: expected.valid_size,
        training,
        numerics: NUMERICS,
    };
    let run = Run { family, shape: Shape { nodes, batch_size, unrollings }, seed: 0 };
    let weights = Parameters::from_safetensors(&read(&folder.join("init.safetensors")), nodes as usize);
    let weights = weights.expect("the initial weights are of the case's model");
    let mut trainer = Trainer::new(kernels, &run, Arc::clone(symbols), Initial::Weights(Box::new(weights)))
        .expect("the case can be trained");

    let trusted = expected.trust_steps.min(expected.trust_steps_approx_math);
    let close = |found: f64, wanted: f64, tolerance: f64, what: &str, step: u64| {
        let off = (found - wanted).abs() / wanted.abs();
        assert!(off <= tolerance, "{}: {what} at step {step}: {found}, not {wanted}", folder.display());
    };
    let mut perplexities = 0;
    for step in 0..=trusted {
        if let Some(&wanted) = expected.valid_perplexity.get(&step) {
            let Measured::Perplexity(found) = trainer.validate() else {
                panic!("{}: validation after {step} steps diverged", folder.display());
            };
            close(found.value(), wanted, 1e-3, "perplexity", step);
            perplexities += 1;
        }
        if step < trusted {
            let Stepped::Applied { loss, grad_norm } = trainer.step() else {
                panic!("{}: step {step} diverged", folder.display());
            };
            close(loss, expected.loss_per_step[step as usize], 1e-4, "loss", step);
            close(grad_norm, expected.grad_norm_per_step[step as usize], 1e-3, "gradient norm", step);
        }
    }
    assert!(trusted >= 20 && perplexities >= 2, "the case compares something");
}

macro_rules! cases {
    ($($test:ident: $name:literal)+) => {
        $(#[test]
        fn $test() {
            case($name);
        })+
    };
}

cases! {
    clip_active_follows_the_reference: "clip-active"
    decay_follows_the_reference: "decay"
    notebook_follows_the_reference: "notebook"
    one_of_each_follows_the_reference: "one-of-each"
    tiny_follows_the_reference: "tiny"
    unroll_gt_nodes_follows_the_reference: "unroll-gt-nodes"
    wrap_follows_the_reference: "wrap"
}

#[derive(Deserialize)]
struct KnownWeights {
    cases: Vec<KnownTensor>,
}

#[derive(Deserialize)]
struct KnownTensor {
    seed: u64,
    nodes: usize,
    tensor: usize,
    rows: usize,
    width: usize,
    elements: Vec<usize>,
    weights: Vec<f64>,
}

#[test]
fn initial_weights_are_the_known_ones() {
    let Some(shared) = shared() else { return };
    let known = read(&shared.join("golden/initial-weights.json"));
    let known: KnownWeights = serde_json::from_slice(&known).expect("initial-weights.json has these fields");
    assert!(known.cases.len() >= 20);
    for case in known.cases {
        let parameters = Parameters::initial(case.nodes, case.seed).expect("it fits");
        let kernels = [&parameters.input_kernel, &parameters.recurrent_kernel, &parameters.classifier];
        let kernel = kernels[case.tensor];
        assert_eq!(kernel.dim(), (case.rows, case.width));
        for (&element, &wanted) in case.elements.iter().zip(&case.weights) {
            let found = kernel[[element / case.width, element % case.width]];
            // A unit in the last place, as the file's note allows: the reference's ln and cos are another library's.
            let apart = found.to_bits().abs_diff((wanted as f32).to_bits());
            assert!(apart <= 1, "seed {}, element {element}: {found}, not {wanted}", case.seed);
        }
    }
}

/// `PyTorch`'s layout has a row per output, so that of a file differs from ours in every kernel.
#[test]
fn weights_are_exported_as_they_were_imported() {
    let Some(shared) = shared() else { return };
    for (name, nodes) in [("tiny", 3), ("notebook", 64)] {
        let file = read(&shared.join("golden").join(name).join("init.safetensors"));
        let imported = Parameters::from_safetensors(&file, nodes).expect("the case's weights");
        let exported = imported.to_safetensors();
        assert_eq!(Parameters::from_safetensors(&exported, nodes).expect("our own file"), imported);
        let (theirs, ours) = (
            safetensors::SafeTensors::deserialize(&file).expect("their file"),
            safetensors::SafeTensors::deserialize(&exported).expect("our file"),
        );
        let mut names = theirs.names();
        names.sort_unstable();
        assert_eq!(names.len(), 5);
        for name in names {
            let (theirs, ours) = (theirs.tensor(name).expect(name), ours.tensor(name).expect(name));
            assert_eq!((ours.shape(), ours.data()), (theirs.shape(), theirs.data()), "{name}");
        }
    }
}
