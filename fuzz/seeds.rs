//! Something whole for each target to begin with: a file each in the folders of the target's name below the one that is given.

use std::io::{Cursor, Write as _};
use std::path::Path;

use prost::Message as _;
use slalom_common::checkpoint::{Checkpoint, Weights};
use slalom_common::grid::{Axes, Grid};
use slalom_common::id::{Incarnation, LeaseId, MessageNumber, Step};
use slalom_common::message::{
    CheckpointName, CoordinatorMessage, Lease, LeaseEnd, LeaseKind, LeasesHeld, Report, WorkerMessage,
};
use slalom_common::outcome::{FailureReason, Measured, Milestone, Perplexity};
use slalom_common::sweep::{CorpusFacts, Draft, Policy, StepsPerEpoch, Sweep};
use slalom_coordinator::scheduler::record::{End, Grant, Record};
use slalom_coordinator::store::codec::encode;
use slalom_worker::lstm::params::Parameters;

mod run;

fn main() -> std::io::Result<()> {
    let into = std::env::args().nth(1).expect("a folder");
    let mut count = 0;
    let mut seed = |target: &str, bytes: &[u8]| {
        let folder = Path::new(&into).join(target);
        std::fs::create_dir_all(&folder)?;
        count += 1;
        std::fs::write(folder.join(format!("seed-{count}")), bytes)
    };
    for spec in ["quickstart", "ski-slope", "study"] {
        seed("spec", &std::fs::read(format!("examples/{spec}.toml"))?)?;
    }
    for expression in [
        "unrollings > nodes && batch_size == 16",
        "(epochs + seed) % 3 == 0 || !(nodes / 2 >= 8)",
        "nodes in [1, 2]",
    ] {
        seed("expression", expression.as_bytes())?;
    }
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("text8", zip::write::SimpleFileOptions::default()).expect("a member");
    archive.write_all(b" the snow and the slope")?;
    seed("corpus", &archive.finish().expect("an archive").into_inner())?;
    seed("corpus", b"The snow, and 2 slopes\xff")?;
    seed("checkpoint", &checkpoint().to_bytes())?;
    for nodes in [1, 2] {
        seed("safetensors", &Parameters::initial(nodes, 7).expect("room").to_safetensors())?;
    }
    for (which, bytes) in messages() {
        seed("messages", &[&[which][..], &bytes].concat())?;
    }
    for record in records() {
        seed("record", &encode(&record))?;
    }
    Ok(())
}

fn checkpoint() -> Checkpoint {
    let run = run::tiny();
    Checkpoint {
        run: run.key(),
        numerics: run.family.numerics,
        shape: run.shape,
        step: Step::new(540),
        loss: Some(1.5),
        weights: Weights {
            input_kernel: vec![0.5; 27 * 4],
            recurrent_kernel: vec![0.5; 4],
            bias: vec![0.5; 4],
            classifier: vec![0.5; 27],
            classifier_bias: vec![0.5; 27],
        },
        h: vec![0.5],
        c: vec![0.5],
        cursors: vec![9],
        last_column: vec![3],
    }
}

fn milestone() -> Milestone {
    let perplexity = Perplexity::new(6.31).expect("finite");
    Milestone { step: Step::new(500), measured: Measured::Perplexity(perplexity), loss: Some(1.8) }
}

fn lease() -> Lease {
    let resume = CheckpointName { step: Step::new(100), blob: slalom_common::id::ContentHash::of(b"state") };
    Lease {
        id: LeaseId::new(88),
        kind: LeaseKind::Copy,
        run: run::tiny(),
        wanted: [500, 1000].map(Step::new).to_vec(),
        resume: Some(resume),
        resume_before: None,
        checkpoint_every: None,
    }
}

fn sweep() -> Sweep {
    let axis = |text: &str| text.parse().expect("an axis");
    let axes = Axes {
        nodes: axis("8,16"),
        batch_size: axis("4"),
        unrollings: axis("1,3"),
        epochs: axis("10,20"),
        seed: axis("0"),
    };
    let filter = slalom_common::filter::Filter::compile("nodes == 8 && epochs == 20").expect("a filter");
    Sweep::new(Draft {
        name: Some("ski-slope".parse().expect("a name")),
        family: run::tiny().family,
        corpus: CorpusFacts { written: "snow".to_owned(), chars: 1_000 },
        blocks: vec![Grid::new(axes, vec![filter]).expect("a grid")],
        steps_per_epoch: StepsPerEpoch::Steps(1),
        eval_every: 5,
        policy: Policy::default(),
    })
    .expect("a sweep")
}

fn messages() -> Vec<(u8, Vec<u8>)> {
    let ended = |how| Report::LeaseEnded { milestones: vec![milestone()], how };
    let numbered = |report| WorkerMessage::Numbered {
        number: MessageNumber::new(3),
        lease: LeaseId::new(88),
        run: run::tiny().key(),
        report,
    };
    let held = LeasesHeld { leases: vec![LeaseId::new(88)], received_max: Some(LeaseId::new(91)) };
    let up = [
        numbered(Report::Milestone(milestone())),
        numbered(ended(LeaseEnd::Finished)),
        numbered(ended(LeaseEnd::Diverged { at: Step::new(700) })),
        numbered(ended(LeaseEnd::Failed { reason: FailureReason::Memory, detail: "9 GB".to_owned() })),
        WorkerMessage::Heartbeat(held),
    ];
    let down = [
        CoordinatorMessage::Grants(vec![lease()]),
        CoordinatorMessage::Acknowledged(MessageNumber::new(3)),
        CoordinatorMessage::Cancelled(vec![LeaseId::new(88)]),
        CoordinatorMessage::Drain,
    ];
    let up = up.iter().map(|message| (0, message.to_wire().encode_to_vec()));
    let down = down.iter().map(|message| (3, message.to_wire().encode_to_vec()));
    up.chain(down).chain([(5, sweep().to_wire().encode_to_vec())]).collect()
}

fn records() -> Vec<Record> {
    let grants = vec![Grant { kind: LeaseKind::Primary, run: run::tiny() }];
    let worker = "hill-3".parse().expect("a name");
    vec![
        Record::SweepSubmitted(Box::new(sweep())),
        Record::RunsLeased { incarnation: Incarnation::new(7), worker, first: LeaseId::new(1), grants },
        Record::MilestoneReached { lease: LeaseId::new(1), milestone: milestone() },
        Record::LeaseEnded { lease: LeaseId::new(1), milestones: vec![milestone()], end: End::Absent },
    ]
}
