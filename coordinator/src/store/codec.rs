//! A record as bytes and back: `slalom.store.v1`, and the checksum that each is read against.

use std::time::Duration;

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use slalom_common::id::{ContentHash, Incarnation, LeaseId, RunKey, Step, SweepName};
use slalom_common::message::{CheckpointName, LeaseEnd, LeaseKind};
use slalom_common::outcome::{FailureReason, Milestone};
use slalom_common::run::Run;
use slalom_common::sweep::{Policy, Sweep};
use slalom_common::wire::{STEP_END, WireError};
use slalom_proto::store::v1::record::Record as Body;
use slalom_proto::store::v1::{self as stored, answer, lease_over};
use slalom_proto::v1;

use crate::scheduler::event::Steering;
use crate::scheduler::record::{Answer, End, Grant, Record};

/// Why bytes with the right checksum are no record: another build wrote them.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// No message at all.
    #[error("not a message of slalom.store.v1")]
    Message(#[source] prost::DecodeError),
    /// A message that says what cannot be, or what this build does not know.
    #[error("not a record that this build knows")]
    Field(#[from] WireError),
}

/// The first 8 bytes of the SHA-256 over a record's place, time and body, little-endian.
pub(super) fn checksum(id: u64, at_ms: u64, body: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(id.to_le_bytes());
    hash.update(at_ms.to_le_bytes());
    hash.update(body);
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// `record` as it is stored.
pub fn encode(record: &Record) -> Vec<u8> {
    let body = match record {
        Record::SweepSubmitted(sweep) => {
            Body::SweepSubmitted(stored::SweepSubmitted { sweep: Some(sweep.to_wire()) })
        }
        Record::SweepExtended(sweep) => {
            Body::SweepExtended(stored::SweepExtended { sweep: Some(sweep.to_wire()) })
        }
        Record::SweepResubmitted { sweep, policy } => Body::SweepResubmitted(stored::SweepResubmitted {
            sweep: sweep.as_str().to_owned(),
            policy: Some(policy.to_wire()),
        }),
        Record::SweepCancelled { sweep } => {
            Body::SweepCancelled(stored::SweepCancelled { sweep: sweep.as_str().to_owned() })
        }
        Record::SweepSteered { sweep, steering } => Body::SweepSteered(stored::SweepSteered {
            sweep: sweep.as_str().to_owned(),
            steering: steering_to_stored(*steering) as i32,
        }),
        Record::RunsLeased { incarnation, worker, first, grants } => Body::RunsLeased(stored::RunsLeased {
            incarnation: incarnation.bits().to_be_bytes().to_vec(),
            worker: worker.as_str().to_owned(),
            first: first.number(),
            grants: grants.iter().map(grant_to_stored).collect(),
        }),
        Record::MilestoneReached { lease, milestone } => Body::MilestoneReached(stored::MilestoneReached {
            lease: lease.number(),
            milestone: Some(milestone.to_wire()),
        }),
        Record::LeaseEnded { lease, milestones, end } => Body::LeaseOver(stored::LeaseOver {
            lease: lease.number(),
            milestones: milestones.iter().map(Milestone::to_wire).collect(),
            end: Some(end_to_stored(end)),
        }),
        Record::DivergenceReached { lease, at } => {
            Body::DivergenceReached(stored::DivergenceReached { lease: lease.number(), at: at.number() })
        }
        Record::CheckpointKept { lease, checkpoint } => Body::CheckpointKept(stored::CheckpointKept {
            lease: lease.number(),
            checkpoint: Some(v1::Checkpoint {
                step: checkpoint.step.number(),
                sha256: checkpoint.blob.bytes().to_vec(),
            }),
        }),
        Record::ConflictFound { kept_lease, kept, refused_lease, refused } => {
            Body::ConflictFound(stored::ConflictFound {
                kept_lease: kept_lease.number(),
                kept: Some(answer_to_stored(*kept)),
                refused_lease: refused_lease.number(),
                refused: Some(answer_to_stored(*refused)),
            })
        }
        Record::WorkerDrained { worker, incarnations } => Body::WorkerDrained(stored::WorkerDrained {
            worker: worker.as_str().to_owned(),
            incarnations: incarnations.iter().map(|one| one.bits().to_be_bytes().to_vec()).collect(),
        }),
        Record::WorkerResumed { worker } => {
            Body::WorkerResumed(stored::WorkerResumed { worker: worker.as_str().to_owned() })
        }
        Record::RunsRetried { runs } => Body::RunsRetried(stored::RunsRetried {
            runs: runs.iter().map(|run| run.bytes().to_vec()).collect(),
        }),
    };
    stored::Record { record: Some(body) }.encode_to_vec()
}

/// The record of these bytes.
///
/// # Errors
/// If they are none that this build knows.
pub fn decode(bytes: &[u8]) -> Result<Record, BodyError> {
    let body = stored::Record::decode(bytes).map_err(BodyError::Message)?;
    Ok(match present("Record.record", body.record)? {
        Body::SweepSubmitted(stored::SweepSubmitted { sweep }) => {
            Record::SweepSubmitted(Box::new(Sweep::from_wire(present("SweepSubmitted.sweep", sweep)?)?))
        }
        Body::SweepExtended(stored::SweepExtended { sweep }) => {
            Record::SweepExtended(Box::new(Sweep::from_wire(present("SweepExtended.sweep", sweep)?)?))
        }
        Body::SweepResubmitted(stored::SweepResubmitted { sweep, policy }) => Record::SweepResubmitted {
            sweep: sweep_name("SweepResubmitted.sweep", &sweep)?,
            policy: Policy::from_wire(present("SweepResubmitted.policy", policy)?)?,
        },
        Body::SweepCancelled(stored::SweepCancelled { sweep }) => {
            Record::SweepCancelled { sweep: sweep_name("SweepCancelled.sweep", &sweep)? }
        }
        Body::SweepSteered(stored::SweepSteered { sweep, steering }) => Record::SweepSteered {
            sweep: sweep_name("SweepSteered.sweep", &sweep)?,
            steering: steering_from_stored(steering)?,
        },
        Body::RunsLeased(stored::RunsLeased { incarnation, worker, first, grants }) => Record::RunsLeased {
            incarnation: Incarnation::new(u128::from_be_bytes(bytes_of(
                "RunsLeased.incarnation",
                &incarnation,
            )?)),
            worker: worker
                .parse()
                .map_err(|source| WireError::Name { field: "RunsLeased.worker", source })?,
            first: LeaseId::new(first),
            grants: grants.iter().map(grant_from_stored).collect::<Result<_, _>>()?,
        },
        Body::MilestoneReached(stored::MilestoneReached { lease, milestone }) => Record::MilestoneReached {
            lease: LeaseId::new(lease),
            milestone: Milestone::from_wire(&present("MilestoneReached.milestone", milestone)?)?,
        },
        Body::LeaseOver(stored::LeaseOver { lease, milestones, end }) => Record::LeaseEnded {
            lease: LeaseId::new(lease),
            milestones: milestones.iter().map(Milestone::from_wire).collect::<Result<_, _>>()?,
            end: end_from_stored(present("LeaseOver.end", end)?)?,
        },
        Body::DivergenceReached(stored::DivergenceReached { lease, at }) => {
            Record::DivergenceReached { lease: LeaseId::new(lease), at: step("DivergenceReached.at", at)? }
        }
        Body::CheckpointKept(stored::CheckpointKept { lease, checkpoint }) => {
            let checkpoint = present("CheckpointKept.checkpoint", checkpoint)?;
            let blob = ContentHash::new(bytes_of("Checkpoint.sha256", &checkpoint.sha256)?);
            let checkpoint = CheckpointName { step: step("Checkpoint.step", checkpoint.step)?, blob };
            Record::CheckpointKept { lease: LeaseId::new(lease), checkpoint }
        }
        Body::ConflictFound(stored::ConflictFound { kept_lease, kept, refused_lease, refused }) => {
            Record::ConflictFound {
                kept_lease: LeaseId::new(kept_lease),
                kept: answer_from_stored("ConflictFound.kept", kept)?,
                refused_lease: LeaseId::new(refused_lease),
                refused: answer_from_stored("ConflictFound.refused", refused)?,
            }
        }
        Body::WorkerDrained(stored::WorkerDrained { worker, incarnations }) => {
            let field = "WorkerDrained.incarnations";
            let incarnation =
                |one: &Vec<u8>| Ok(Incarnation::new(u128::from_be_bytes(bytes_of(field, one)?)));
            Record::WorkerDrained {
                worker: worker
                    .parse()
                    .map_err(|source| WireError::Name { field: "WorkerDrained.worker", source })?,
                incarnations: incarnations.iter().map(incarnation).collect::<Result<_, WireError>>()?,
            }
        }
        Body::WorkerResumed(stored::WorkerResumed { worker }) => Record::WorkerResumed {
            worker: worker
                .parse()
                .map_err(|source| WireError::Name { field: "WorkerResumed.worker", source })?,
        },
        Body::RunsRetried(stored::RunsRetried { runs }) => {
            let key = |run: &Vec<u8>| Ok(RunKey::new(bytes_of("RunsRetried.runs", run)?));
            Record::RunsRetried { runs: runs.iter().map(key).collect::<Result<_, WireError>>()? }
        }
    })
}

fn steering_to_stored(steering: Steering) -> stored::Steering {
    match steering {
        Steering::Pause => stored::Steering::Pause,
        Steering::Stop => stored::Steering::Stop,
        Steering::Resume => stored::Steering::Resume,
    }
}

fn steering_from_stored(steering: i32) -> Result<Steering, WireError> {
    match stored::Steering::try_from(steering) {
        Ok(stored::Steering::Pause) => Ok(Steering::Pause),
        Ok(stored::Steering::Stop) => Ok(Steering::Stop),
        Ok(stored::Steering::Resume) => Ok(Steering::Resume),
        Ok(stored::Steering::Unspecified) | Err(_) => {
            Err(WireError::NotInEnum { field: "SweepSteered.steering", value: steering })
        }
    }
}

fn grant_to_stored(grant: &Grant) -> stored::Grant {
    stored::Grant { kind: grant.kind.to_wire() as i32, run: Some(grant.run.to_wire()) }
}

fn grant_from_stored(grant: &stored::Grant) -> Result<Grant, WireError> {
    let kind = LeaseKind::from_wire("Grant.kind", grant.kind)?;
    let run = grant.run.as_ref().ok_or(WireError::Absent { field: "Grant.run" })?;
    Ok(Grant { kind, run: Run::from_wire(run)? })
}

fn end_to_stored(end: &End) -> lease_over::End {
    match end {
        End::Reported(LeaseEnd::Finished) => lease_over::End::Finished(v1::Finished {}),
        End::Reported(LeaseEnd::Diverged { at }) => {
            lease_over::End::Diverged(v1::TrainingDiverged { at: at.number() })
        }
        End::Reported(LeaseEnd::Failed { reason, detail }) => {
            lease_over::End::Failed(v1::Failed { reason: reason.to_wire() as i32, detail: detail.clone() })
        }
        End::Reported(LeaseEnd::HandedBack) => lease_over::End::HandedBack(v1::HandedBack {}),
        End::Expired { silent } => {
            lease_over::End::Expired(stored::Expired { silent_us: silent.as_micros() as u64 })
        }
        End::Absent => lease_over::End::Absent(stored::Absent {}),
        End::Cancelled => lease_over::End::Cancelled(stored::Cancelled {}),
    }
}

fn end_from_stored(end: lease_over::End) -> Result<End, WireError> {
    Ok(match end {
        lease_over::End::Finished(v1::Finished {}) => End::Reported(LeaseEnd::Finished),
        lease_over::End::Diverged(v1::TrainingDiverged { at }) => {
            End::Reported(LeaseEnd::Diverged { at: step("TrainingDiverged.at", at)? })
        }
        lease_over::End::Failed(v1::Failed { reason, detail }) => End::Reported(LeaseEnd::Failed {
            reason: FailureReason::from_wire("Failed.reason", reason)?,
            detail,
        }),
        lease_over::End::HandedBack(v1::HandedBack {}) => End::Reported(LeaseEnd::HandedBack),
        lease_over::End::Expired(stored::Expired { silent_us }) => {
            End::Expired { silent: Duration::from_micros(silent_us) }
        }
        lease_over::End::Absent(stored::Absent {}) => End::Absent,
        lease_over::End::Cancelled(stored::Cancelled {}) => End::Cancelled,
    })
}

fn answer_to_stored(answer: Answer) -> stored::Answer {
    let answer = match answer {
        Answer::Milestone(milestone) => answer::Answer::Milestone(milestone.to_wire()),
        Answer::DivergedAt(at) => answer::Answer::DivergedAt(at.number()),
    };
    stored::Answer { answer: Some(answer) }
}

fn answer_from_stored(field: &'static str, answer: Option<stored::Answer>) -> Result<Answer, WireError> {
    Ok(match present("Answer.answer", present(field, answer)?.answer)? {
        answer::Answer::Milestone(milestone) => Answer::Milestone(Milestone::from_wire(&milestone)?),
        answer::Answer::DivergedAt(at) => Answer::DivergedAt(step("Answer.diverged_at", at)?),
    })
}

fn present<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Absent { field })
}

fn bytes_of<const N: usize>(field: &'static str, value: &[u8]) -> Result<[u8; N], WireError> {
    value.try_into().map_err(|_| WireError::ByteCount { field, found: value.len(), wanted: N })
}

fn step(field: &'static str, value: u64) -> Result<Step, WireError> {
    if value < STEP_END {
        return Ok(Step::new(value));
    }
    Err(WireError::OutOfRange { field, value, min: 0, max: STEP_END - 1 })
}

fn sweep_name(field: &'static str, name: &str) -> Result<SweepName, WireError> {
    name.parse().map_err(|source| WireError::Name { field, source })
}
