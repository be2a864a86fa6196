//! The words of `slalom --help` that no flag says: verbs by what a person wants to do, and an example of each.

use std::fmt::Write as _;

/// Verbs by what a person wants to do, in the order of `slalom --help`.
pub(crate) const GROUPS: [(&str, &[&str]); 5] = [
    ("On this machine", &["run", "plan", "train"]),
    ("On several machines", &["coordinator", "worker", "submit", "wait"]),
    ("See how it stands", &["status", "runs", "workers", "results"]),
    ("Steer", &["extend", "pause", "resume", "stop", "cancel", "retry", "drain"]),
    ("Tend", &["corpus", "bench"]),
];

/// The end of `slalom --help`.
pub(crate) const FIRST_STEPS: &str = "\
First steps:
  slalom run examples/quickstart.toml     a sweep of a minute, its table and its slope
  slalom run --nodes 8,16,32 --batch-size 16 --unrollings 1,5,10 --epochs 500
  slalom run                              a spec to start from
  slalom VERB --help                      a verb's flags, with an example

Values are lists and ranges: 8,16,32 or 1..=16:5 (by steps) or 8..=64:x2 (by factors).
Exit codes: 0 done, 1 error, 2 usage, 3 finished with failed or missing trials, 130 interrupted.";

/// `GROUPS` with what each verb says of itself.
pub(crate) fn groups(command: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, verbs) in GROUPS {
        // Infallible for a String.
        let _ = writeln!(text, "{heading}:");
        for verb in verbs {
            let about = command.find_subcommand(verb).and_then(clap::Command::get_about);
            let _ = writeln!(text, "  {verb:<13}{}", about.map(ToString::to_string).unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

pub(crate) const RUN: &str = "\
Example:
  slalom run examples/ski-slope.toml

Ctrl-C stores what is being trained and stops; the same command goes on. A second Ctrl-C stops at once, and the same \
     command goes on from the last checkpoint. A sweep that is done prints its table again. Results are written to \
     DIR/SWEEP/results.csv, results.json and runs.csv; the log, a line an event, to DIR/.store/slalom-run.DATE.log.";

pub(crate) const PLAN: &str = "\
Example:
  slalom plan examples/ski-slope.toml

With --coordinator it says what the coordinator knows already and how long its workers take, each by the costs that it \
     fitted at its start and by how its runs go. Without, this machine: a fifth of a second of training tells what a core \
     takes for each shape, and all slots are taken to be as fast as the one that was measured.";

pub(crate) const TRAIN: &str = "\
Example:
  slalom train --nodes 64 --batch-size 64 --unrollings 10 --steps 2000 --eval-every 500

With --output json, one object a line: {\"step\":0,\"loss\":..,\"grad_norm\":..} for each step (the loss of its batch before \
     the update, the norm before clipping), {\"steps_done\":10,\"valid_perplexity\":..} at each evaluation (null if it meets a \
     number that is not finite), {\"diverged_at\":S} if step S diverges, which ends the training. Same bits on every machine.";

pub(crate) const BENCH: &str = "\
Example:
  slalom bench
  slalom bench --fit
  slalom bench --shapes 64,64,10 256,64,20 --validations 64 --seconds 2 --output json

On one core. A shape is NODES,BATCH_SIZE,UNROLLINGS; a step's FLOPs are counted as T*B*(24*N*N + 162*N). The peak is this \
     core's own for fused multiply-adds, measured right before each timing of a step, and the share is the median of these \
     ratios: other work on the machine moves the times more than the share. A validation reads 1,000 characters and is \
     compared with its matrix products alone. With --output json, one object a line, by \"kind\": \"core\", then a \"step\" for \
     each shape and a \"validation\" for each model; with --fit a \"probe\" for each shape timed, then the \"cost\".";

pub(crate) const SUBMIT: &str = "\
Example:
  slalom submit examples/ski-slope.toml --coordinator http://hill:7117
  slalom wait ski-slope --coordinator http://hill:7117

Submitting the same sweep again is no error: it is the same sweep, with its policy renewed, and active again if it was \
     cancelled.";

pub(crate) const EXTEND: &str = "\
Example:
  slalom extend ski-slope --seeds 5 --nodes 128
  slalom extend examples/ski-slope.toml

By values, the sweep becomes the product of those that it has and those that are given, and what it excludes stays excluded. By \
     a spec, the sweep of its name has all that the spec describes, too: corpus, [training], steps_per_epoch and eval_every must be \
     the same. Runs keep their numbers and answers; runs that get more epochs go on from their last checkpoints. A sweep that was \
     done is active again: `slalom run` of either spec goes on with one that it began.";

pub(crate) const STATUS: &str = "\
Example:
  slalom status
  slalom status ski-slope --output json";

pub(crate) const WAIT: &str = "\
Example:
  slalom wait ski-slope && slalom results ski-slope

A sweep that is paused is waited for, too, and standard error says so. Exit code 0 when all is done, 3 if trials failed, 1 if \
     the sweep is cancelled.";

pub(crate) const RUNS: &str = "\
Example:
  slalom runs ski-slope --state failed --where 'nodes >= 64'";

pub(crate) const RESULTS: &str = "\
Example:
  slalom results ski-slope
  slalom results ski-slope --format csv > results.csv

CSV: run,nodes,batch_size,unrollings,epochs,seed,steps,state,perplexity; one row a trial, sorted by nodes, batch_size, \
     unrollings, epochs, seed as numbers. JSON: {\"sweep\",\"corpus\",\"excluded\",\"trials\":[{the same fields}]}, perplexity null unless \
     done. Both have every digit. Exit code 3 while trials are failed or missing.";

pub(crate) const PAUSE: &str = "\
Example:
  slalom pause ski-slope
  slalom resume ski-slope

Runs that are leased go on to their end, also those that a worker holds ahead; another sweep that wants the same runs still gets \
     them. A coordinator that is killed and started again keeps it paused; `slalom run` of the sweep resumes it.";

pub(crate) const RESUME: &str = "\
Example:
  slalom resume ski-slope
  slalom resume --worker hill-3

What is cancelled is not resumed: submit it again. A worker on which three runs in a row fail is paused until it is resumed; the \
     coordinator's log has the reason, and `slalom workers` who is.";

pub(crate) const STOP: &str = "\
Example:
  slalom stop ski-slope

As `slalom pause`, but the sweep is stopping until the last of its leased runs has ended, and paused from then on: so that \
     status and log say when the machines are free.";

pub(crate) const CANCEL: &str = "\
Example:
  slalom cancel ski-slope

Submitting the sweep again makes it active again.";

pub(crate) const RETRY: &str = "\
Example:
  slalom retry ski-slope --state failed";

pub(crate) const DRAIN: &str = "\
Example:
  slalom drain hill-3

As SIGTERM to its process, from anywhere: no attempt is spent, and its runs go on elsewhere from where they are. A worker that \
     is away is told when it is back, also by a coordinator that was killed meanwhile. To have one serve again, start it again.";

pub(crate) const WORKERS: &str = "\
Example:
  slalom workers --coordinator http://hill:7117";

pub(crate) const COORDINATOR: &str = "\
Example:
  slalom coordinator --listen 0.0.0.0:7117 --insecure --store /var/lib/slalom
  slalom coordinator backup --store /var/lib/slalom /mnt/copies/monday

The same as the program slalom-coordinator.";

pub(crate) const WORKER: &str = "\
Example:
  slalom worker --coordinator http://hill:7117

The same as the program slalom-worker. The first Ctrl-C or SIGTERM stores what is being trained, hands it back and ends \
     with 0; the second ends at once.";

pub(crate) const CORPUS_LIST: &str = "\
Example:
  slalom corpus list";

pub(crate) const CORPUS_FETCH: &str = "\
Example:
  slalom corpus fetch text8

Whatever the URL, the archive must be the very one its author published: size and SHA-256 are checked.";

pub(crate) const CORPUS_INFO: &str = "\
Example:
  slalom corpus info synthetic
  slalom corpus info path/to/file.zip";
