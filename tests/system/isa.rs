//! The instruction set is nobody's business but the processor's: a sweep gives the same bytes under each.

use std::path::Path;
use std::process::{Command, Output};

use slalom_worker::kernels::{IsaName, Kernels};

use crate::world::{binary, said};

/// Sizes beside a vector's, and few steps: the portable path may multiply in software.
const SWEEP: &str = r#"
name = "tiny"
corpus = { synthetic = 1, chars = 5_000 }
[grid]
nodes = [1, 9, 17]
batch_size = [1, 5]
unrollings = [1, 3]
epochs = [10, 40]
seeds = 2
[training]
valid_size = 60
"#;

/// `slalom run` of [`SWEEP`] in a folder of its own.
fn run(folder: &Path, isa: IsaName) -> Output {
    let spec = folder.join("spec.toml");
    std::fs::write(&spec, SWEEP).unwrap();
    let mut command = Command::new(binary("slalom"));
    command.arg("run").arg(spec).arg("--dir").arg(folder).args(["--output", "quiet"]);
    command.env("SLALOM_ISA", isa.word()).env("SLALOM_CACHE", folder.join("cache"));
    command.env_remove("SLALOM_COORDINATOR").output().unwrap()
}

/// What the processors of this sweep's workers trained with, as the log has it.
fn joined_with(folder: &Path, isa: IsaName) -> bool {
    let logs = std::fs::read_dir(folder.join(".store")).unwrap().map(|entry| entry.unwrap().path());
    let mut logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let log = std::fs::read_to_string(logs.next().unwrap()).unwrap();
    log.lines().any(|line| line.contains("worker joined") && line.contains(&format!(" isa={isa} ")))
}

#[test]
fn a_sweep_gives_the_same_bytes_under_each_instruction_set() {
    let mut all = Vec::new();
    for isa in IsaName::ALL {
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), isa);
        if let Err(missing) = Kernels::of(isa) {
            eprintln!("SKIPPED a sweep on {isa}: {missing}");
            assert!(!output.status.success(), "{isa} is not here, and yet: {}", said(&output));
            continue;
        }
        assert!(output.status.success(), "{isa}: {}", said(&output));
        assert!(joined_with(folder.path(), isa), "{isa} is what it was trained with");
        let results = std::fs::read_to_string(folder.path().join("tiny/results.csv")).unwrap();
        assert_eq!(results.matches(",done,").count(), 48, "{results}");
        all.push((isa, results));
    }
    for (isa, results) in &all[1..] {
        assert_eq!(*results, all[0].1, "{isa} and {}", all[0].0);
    }
}
