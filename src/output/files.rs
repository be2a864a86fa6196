//! The files of a sweep: `results.csv`, the table that everything is compared by, `results.json` and `runs.csv`.
//!
//! Every cell is a number or a word of ours, so nothing needs quotes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use slalom_common::answer::{RunRow, TrialRow};

use super::results::Results;

/// The header of `results.csv`.
const RESULTS_HEADER: &str = "run,nodes,batch_size,unrollings,epochs,seed,steps,state,perplexity\n";

/// The header of `runs.csv`.
const RUNS_HEADER: &str =
    "run,nodes,batch_size,unrollings,seed,state,steps,step,failures,losses,reason,worker,lease,diverged_at\n";

/// `results.csv`: a row a trial. A perplexity is the shortest decimal that reads back to the same f64.
pub(crate) fn results_csv(trials: &[TrialRow]) -> String {
    let mut csv = RESULTS_HEADER.to_owned();
    for TrialRow { run, at, epochs, steps, state, perplexity } in trials {
        let shape = at.shape;
        let perplexity = cell(perplexity.as_ref());
        csv += &format!(
            "{run},{},{},{},{epochs},{},{steps},{state},{perplexity}\n",
            shape.nodes, shape.batch_size, shape.unrollings, at.seed
        );
    }
    csv
}

/// `runs.csv`: a row a run; what depends on time, machine and history stands here.
pub(crate) fn runs_csv(runs: &[RunRow]) -> String {
    let mut csv = RUNS_HEADER.to_owned();
    for row in runs {
        let shape = row.at.shape;
        let (lease, worker) =
            row.last_lease.as_ref().map_or((None, None), |(lease, worker)| (Some(lease), Some(worker)));
        let reason = row.last_failure.as_ref().map(|(reason, _)| reason);
        csv += &format!(
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n",
            row.run,
            shape.nodes,
            shape.batch_size,
            shape.unrollings,
            row.at.seed,
            row.state,
            row.steps,
            row.step,
            row.failures,
            row.losses,
            cell(reason),
            cell(worker),
            cell(lease),
            cell(row.diverged_at.as_ref()),
        );
    }
    csv
}

fn cell(value: Option<&impl ToString>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

/// `results.json`, and what `results --output json` prints: the same values as in `results.csv`.
#[derive(Serialize)]
pub(crate) struct ResultsJson<'a> {
    sweep: &'a str,
    /// As its submitter wrote it.
    corpus: &'a str,
    /// Trials that do not exist.
    excluded: u64,
    trials: Vec<TrialJson>,
}

#[derive(Serialize)]
struct TrialJson {
    run: u64,
    nodes: u32,
    batch_size: u32,
    unrollings: u32,
    epochs: u64,
    seed: u64,
    steps: u64,
    state: &'static str,
    /// All its digits; null unless done.
    perplexity: Option<f64>,
}

impl<'a> ResultsJson<'a> {
    /// The object of `results`.
    pub(crate) fn new(results: &'a Results) -> Self {
        let trial = |row: &TrialRow| TrialJson {
            run: row.run.number(),
            nodes: row.at.shape.nodes,
            batch_size: row.at.shape.batch_size,
            unrollings: row.at.shape.unrollings,
            epochs: row.epochs,
            seed: row.at.seed,
            steps: row.steps.number(),
            state: row.state.word(),
            perplexity: row.perplexity.map(slalom_common::outcome::Perplexity::value),
        };
        Self {
            sweep: results.sweep.as_str(),
            corpus: &results.corpus,
            excluded: results.excluded,
            trials: results.trials.iter().map(trial).collect(),
        }
    }
}

/// Writes the three files into `folder`, each beside and renamed, so that a reader sees the old one or the new one.
///
/// # Errors
/// If the disk refuses; the files that were there are then as they were.
pub(crate) fn write(folder: &Path, results: &Results, runs: &[RunRow]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut json = serde_json::to_string(&ResultsJson::new(results))?;
    json.push('\n');
    write_one(folder, "results.csv", &results_csv(&results.trials))?;
    write_one(folder, "results.json", &json)?;
    write_one(folder, "runs.csv", &runs_csv(runs))
}

fn write_one(folder: &Path, name: &str, content: &str) -> io::Result<()> {
    let beside = folder.join(format!(".{name}.partial"));
    let mut file = File::create(&beside)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))
}

#[cfg(test)]
mod tests {
    use slalom_common::answer::RunState;
    use slalom_common::grid::Coordinates;
    use slalom_common::id::{LeaseId, RunNumber, Step};
    use slalom_common::outcome::{FailureReason, Perplexity};
    use slalom_common::run::Shape;

    use super::*;

    const AT: Coordinates =
        Coordinates { shape: Shape { nodes: 8, batch_size: 16, unrollings: 1 }, seed: u64::MAX };

    fn trials() -> Vec<TrialRow> {
        let row = TrialRow {
            run: RunNumber::new(3),
            at: AT,
            epochs: 2,
            steps: Step::new(200),
            state: RunState::Done,
            perplexity: Perplexity::new(0.1 + 0.2),
        };
        let large = TrialRow { perplexity: Perplexity::new(1e10), epochs: 3, ..row.clone() };
        let waiting = TrialRow { perplexity: None, state: RunState::Waiting, epochs: 4, ..row.clone() };
        vec![row, large, waiting]
    }

    #[test]
    fn a_perplexity_in_the_files_reads_back_to_the_same_bits() {
        let csv = results_csv(&trials());
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(
            lines,
            [
                "run,nodes,batch_size,unrollings,epochs,seed,steps,state,perplexity",
                "3,8,16,1,2,18446744073709551615,200,done,0.30000000000000004",
                "3,8,16,1,3,18446744073709551615,200,done,10000000000",
                "3,8,16,1,4,18446744073709551615,200,waiting,",
            ]
        );
        let results = Results {
            sweep: "s".parse().expect("a name"),
            corpus: "synthetic".to_owned(),
            excluded: 0,
            trials: trials(),
        };
        let json = serde_json::to_value(ResultsJson::new(&results)).expect("an object");
        assert_eq!(json["trials"][0]["perplexity"], serde_json::json!(0.1 + 0.2));
        assert_eq!(json["trials"][0]["seed"], serde_json::json!(u64::MAX));
        assert!(json["trials"][2]["perplexity"].is_null());
    }

    #[test]
    fn files_are_written_whole_and_nothing_else_is_left_beside_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let results = Results {
            sweep: "s".parse().expect("a name"),
            corpus: "synthetic".to_owned(),
            excluded: 0,
            trials: trials(),
        };
        let run = RunRow {
            run: RunNumber::new(3),
            at: AT,
            state: RunState::Failed,
            steps: Step::new(300),
            step: Step::new(20),
            failures: 3,
            losses: 0,
            last_failure: Some((FailureReason::Memory, "needs 4 GiB".to_owned())),
            last_lease: Some((LeaseId::new(7), "hill-3".parse().expect("a name"))),
            diverged_at: None,
        };
        write(&folder.path().join("s"), &results, &[run]).expect("room");
        let mut names: Vec<_> = fs::read_dir(folder.path().join("s"))
            .expect("it was made")
            .map(|file| file.expect("readable").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["results.csv", "results.json", "runs.csv"]);
        let runs = fs::read_to_string(folder.path().join("s/runs.csv")).expect("written");
        assert_eq!(
            runs.lines().nth(1),
            Some("3,8,16,1,18446744073709551615,failed,300,20,3,0,memory,hill-3,7,")
        );
    }
}
