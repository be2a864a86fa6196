//! `worker_service.proto`: what a worker and a coordinator say to each other.

use slalom_proto::v1;

use super::{
    DETAIL_BYTES_MAX, LEASES_MAX, SLOTS_MAX, WANTED_STEPS_MAX, WireError, ascending, bytes, duration,
    duration_ms, finite, hash, in_range, no_longer_than, present, step, text,
};
use crate::cost::{Coefficients, REFERENCE};
use crate::id::{Incarnation, LeaseId, MessageNumber, NumericsVersion, RunKey, Step, StoreId};
use crate::message::{
    CheckpointName, CoordinatorMessage, Hello, Lease, LeaseEnd, LeaseKind, LeasesHeld, Report, Welcome,
    WorkerMessage,
};
use crate::outcome::{FailureReason, Milestone};
use crate::run::Run;

/// The longest word for an instruction set, in bytes.
const ISA_BYTES_MAX: usize = 64;

impl WorkerMessage {
    /// As a message.
    pub fn to_wire(&self) -> v1::WorkerMessage {
        use v1::worker_message::Message;
        let message = match self {
            Self::Hello(hello) => Message::Hello(hello.to_wire()),
            Self::Heartbeat(held) => Message::Heartbeat(v1::Heartbeat { held: Some(held.to_wire()) }),
            Self::Progress { lease, step, loss } => {
                Message::Progress(v1::Progress { lease: lease.number(), step: step.number(), loss: *loss })
            }
            Self::CheckpointStored { lease, run, checkpoint } => {
                Message::CheckpointStored(v1::CheckpointStored {
                    lease: lease.number(),
                    run_key: run.bytes().to_vec(),
                    step: checkpoint.step.number(),
                    sha256: checkpoint.blob.bytes().to_vec(),
                })
            }
            Self::Numbered { number, lease, run, report } => Message::Numbered(v1::Numbered {
                number: number.number(),
                lease: lease.number(),
                run_key: run.bytes().to_vec(),
                report: Some(report.to_wire()),
            }),
            Self::Draining { received_max } => {
                Message::Draining(v1::Draining { received_max: received_max.map(LeaseId::number) })
            }
        };
        v1::WorkerMessage { message: Some(message) }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of this protocol.
    pub fn from_wire(wire: v1::WorkerMessage) -> Result<Self, WireError> {
        use v1::worker_message::Message;
        Ok(match present("WorkerMessage.message", wire.message)? {
            Message::Hello(hello) => Self::Hello(Hello::from_wire(hello)?),
            Message::Heartbeat(v1::Heartbeat { held }) => {
                Self::Heartbeat(LeasesHeld::from_wire(present("Heartbeat.held", held)?)?)
            }
            Message::Progress(progress) => Self::Progress {
                lease: LeaseId::new(progress.lease),
                step: step("Progress.step", progress.step)?,
                loss: progress.loss.map(|loss| finite("Progress.loss", loss)).transpose()?,
            },
            Message::CheckpointStored(stored) => Self::CheckpointStored {
                lease: LeaseId::new(stored.lease),
                run: RunKey::new(bytes("CheckpointStored.run_key", &stored.run_key)?),
                checkpoint: CheckpointName {
                    step: step("CheckpointStored.step", stored.step)?,
                    blob: hash("CheckpointStored.sha256", &stored.sha256)?,
                },
            },
            Message::Numbered(numbered) => Self::Numbered {
                number: message_number("Numbered.number", numbered.number)?,
                lease: LeaseId::new(numbered.lease),
                run: RunKey::new(bytes("Numbered.run_key", &numbered.run_key)?),
                report: Report::from_wire(present("Numbered.report", numbered.report)?)?,
            },
            Message::Draining(v1::Draining { received_max }) => {
                Self::Draining { received_max: received_max.map(LeaseId::new) }
            }
        })
    }
}

impl Hello {
    fn to_wire(&self) -> v1::Hello {
        v1::Hello {
            protocol_version: self.protocol_version,
            worker: self.worker.to_string(),
            incarnation: self.incarnation.bits().to_be_bytes().to_vec(),
            slots: self.slots,
            numerics_version: self.numerics.number(),
            known_run_sha256: self.known_run.map(|outcome| outcome.bytes().to_vec()),
            isa: self.isa.clone(),
            speed: self.speed,
            gflops_per_slot: self.gflops_per_slot,
            cost: Some(self.cost.to_wire()),
            held: Some(self.held.to_wire()),
            store: self.store.map(|store| store.bits().to_be_bytes().to_vec()),
        }
    }

    fn from_wire(wire: v1::Hello) -> Result<Self, WireError> {
        if !(wire.speed.is_finite() && wire.speed > 0.0) {
            let must_be = "finite and above 0";
            return Err(WireError::Float { field: "Hello.speed", value: wire.speed, must_be });
        }
        let cost = wire
            .cost
            .map_or_else(|| REFERENCE.slowed(1.0 / wire.speed), |cost| Coefficients::from_wire(&cost));
        if !cost.are_sound() {
            return Err(WireError::Cost { field: "Hello.cost" });
        }
        in_range("Hello.slots", wire.slots.into(), 1..=SLOTS_MAX.into())?;
        Ok(Self {
            protocol_version: wire.protocol_version,
            worker: wire
                .worker
                .parse()
                .map_err(|source| WireError::Name { field: "Hello.worker", source })?,
            incarnation: Incarnation::new(u128::from_be_bytes(bytes(
                "Hello.incarnation",
                &wire.incarnation,
            )?)),
            slots: wire.slots,
            numerics: NumericsVersion::new(wire.numerics_version),
            known_run: wire
                .known_run_sha256
                .map(|outcome| hash("Hello.known_run_sha256", &outcome))
                .transpose()?,
            isa: text("Hello.isa", wire.isa, ISA_BYTES_MAX)?,
            speed: wire.speed,
            gflops_per_slot: finite("Hello.gflops_per_slot", wire.gflops_per_slot)?,
            cost,
            held: LeasesHeld::from_wire(present("Hello.held", wire.held)?)?,
            store: wire.store.map(|store| store_id("Hello.store", &store)).transpose()?,
        })
    }
}

impl Coefficients {
    fn to_wire(self) -> v1::Cost {
        v1::Cost {
            step_s: self.step,
            time_step_s: self.time_step,
            activation_s: self.activation,
            product_s: self.product,
            update_s: self.update,
            character_s: self.character,
            character_product_s: self.character_product,
        }
    }

    fn from_wire(wire: &v1::Cost) -> Self {
        Self {
            step: wire.step_s,
            time_step: wire.time_step_s,
            activation: wire.activation_s,
            product: wire.product_s,
            update: wire.update_s,
            character: wire.character_s,
            character_product: wire.character_product_s,
        }
    }
}

impl LeasesHeld {
    fn to_wire(&self) -> v1::LeasesHeld {
        v1::LeasesHeld {
            leases: self.leases.iter().map(|lease| lease.number()).collect(),
            received_max: self.received_max.map(LeaseId::number),
        }
    }

    fn from_wire(wire: v1::LeasesHeld) -> Result<Self, WireError> {
        no_longer_than("LeasesHeld.leases", &wire.leases, LEASES_MAX)?;
        ascending("LeasesHeld.leases", &wire.leases)?;
        Ok(Self {
            leases: wire.leases.into_iter().map(LeaseId::new).collect(),
            received_max: wire.received_max.map(LeaseId::new),
        })
    }
}

impl Report {
    fn to_wire(&self) -> v1::numbered::Report {
        match self {
            Self::Milestone(milestone) => v1::numbered::Report::Milestone(milestone.to_wire()),
            Self::LeaseEnded { milestones, how } => v1::numbered::Report::LeaseEnded(v1::LeaseEnded {
                milestones: milestones.iter().map(Milestone::to_wire).collect(),
                how: Some(how.to_wire()),
            }),
        }
    }

    fn from_wire(wire: v1::numbered::Report) -> Result<Self, WireError> {
        match wire {
            v1::numbered::Report::Milestone(milestone) => {
                Milestone::from_wire(&milestone).map(Self::Milestone)
            }
            v1::numbered::Report::LeaseEnded(v1::LeaseEnded { milestones, how }) => {
                no_longer_than("LeaseEnded.milestones", &milestones, WANTED_STEPS_MAX)?;
                let milestones: Vec<Milestone> =
                    milestones.iter().map(Milestone::from_wire).collect::<Result<_, _>>()?;
                let steps: Vec<Step> = milestones.iter().map(|milestone| milestone.step).collect();
                ascending("LeaseEnded.milestones", &steps)?;
                Ok(Self::LeaseEnded {
                    milestones,
                    how: LeaseEnd::from_wire(present("LeaseEnded.how", how)?)?,
                })
            }
        }
    }
}

impl LeaseEnd {
    fn to_wire(&self) -> v1::lease_ended::How {
        use v1::lease_ended::How;
        match self {
            Self::Finished => How::Finished(v1::Finished {}),
            Self::Diverged { at } => How::Diverged(v1::TrainingDiverged { at: at.number() }),
            Self::Failed { reason, detail } => {
                How::Failed(v1::Failed { reason: reason.to_wire() as i32, detail: one_line(detail) })
            }
            Self::HandedBack => How::HandedBack(v1::HandedBack {}),
        }
    }

    fn from_wire(wire: v1::lease_ended::How) -> Result<Self, WireError> {
        use v1::lease_ended::How;
        Ok(match wire {
            How::Finished(v1::Finished {}) => Self::Finished,
            How::Diverged(v1::TrainingDiverged { at }) => {
                Self::Diverged { at: step("TrainingDiverged.at", at)? }
            }
            How::Failed(v1::Failed { reason, detail }) => Self::Failed {
                reason: FailureReason::from_wire("Failed.reason", reason)?,
                detail: one_line(&text("Failed.detail", detail, DETAIL_BYTES_MAX)?),
            },
            How::HandedBack(v1::HandedBack {}) => Self::HandedBack,
        })
    }
}

impl CoordinatorMessage {
    /// As a message.
    pub fn to_wire(&self) -> v1::CoordinatorMessage {
        use v1::coordinator_message::Message;
        let message = match self {
            Self::Welcome(welcome) => Message::Welcome(welcome.to_wire()),
            Self::Grants(leases) => {
                Message::Grants(v1::Grants { leases: leases.iter().map(Lease::to_wire).collect() })
            }
            Self::Acknowledged(number) => Message::Acknowledged(v1::Acknowledged { number: number.number() }),
            Self::Cancelled(leases) => Message::Cancelled(v1::Cancelled {
                leases: leases.iter().map(|lease| lease.number()).collect(),
            }),
            Self::Drain => Message::Drain(v1::Drain {}),
        };
        v1::CoordinatorMessage { message: Some(message) }
    }

    /// From a message.
    ///
    /// # Errors
    /// Names the field that is not of this protocol.
    pub fn from_wire(wire: v1::CoordinatorMessage) -> Result<Self, WireError> {
        use v1::coordinator_message::Message;
        Ok(match present("CoordinatorMessage.message", wire.message)? {
            Message::Welcome(welcome) => Self::Welcome(Welcome::from_wire(&welcome)?),
            Message::Grants(v1::Grants { leases }) => {
                no_longer_than("Grants.leases", &leases, LEASES_MAX)?;
                Self::Grants(leases.into_iter().map(Lease::from_wire).collect::<Result<_, _>>()?)
            }
            Message::Acknowledged(v1::Acknowledged { number }) => {
                Self::Acknowledged(message_number("Acknowledged.number", number)?)
            }
            Message::Cancelled(v1::Cancelled { leases }) => {
                no_longer_than("Cancelled.leases", &leases, LEASES_MAX)?;
                Self::Cancelled(leases.into_iter().map(LeaseId::new).collect())
            }
            Message::Drain(v1::Drain {}) => Self::Drain,
        })
    }
}

impl Welcome {
    fn to_wire(self) -> v1::Welcome {
        v1::Welcome {
            heartbeat_ms: duration_ms(self.heartbeat),
            lease_ms: duration_ms(self.lease),
            checkpoint_every_ms: duration_ms(self.checkpoint_every),
            acknowledged: self.acknowledged.map(MessageNumber::number),
            store: self.store.bits().to_be_bytes().to_vec(),
            forget: self.forget,
        }
    }

    fn from_wire(wire: &v1::Welcome) -> Result<Self, WireError> {
        let acknowledged = wire.acknowledged.map(|number| message_number("Welcome.acknowledged", number));
        Ok(Self {
            heartbeat: duration("Welcome.heartbeat_ms", wire.heartbeat_ms)?,
            lease: duration("Welcome.lease_ms", wire.lease_ms)?,
            checkpoint_every: duration("Welcome.checkpoint_every_ms", wire.checkpoint_every_ms)?,
            acknowledged: acknowledged.transpose()?,
            store: store_id("Welcome.store", &wire.store)?,
            forget: wire.forget,
        })
    }
}

impl LeaseKind {
    /// As a message's number.
    pub fn to_wire(self) -> v1::LeaseKind {
        match self {
            Self::Primary => v1::LeaseKind::Primary,
            Self::Copy => v1::LeaseKind::Copy,
        }
    }

    /// From `field`'s number.
    ///
    /// # Errors
    /// If it is no kind.
    pub fn from_wire(field: &'static str, wire: i32) -> Result<Self, WireError> {
        match v1::LeaseKind::try_from(wire) {
            Ok(v1::LeaseKind::Primary) => Ok(Self::Primary),
            Ok(v1::LeaseKind::Copy) => Ok(Self::Copy),
            Ok(v1::LeaseKind::Unspecified) | Err(_) => Err(WireError::NotInEnum { field, value: wire }),
        }
    }
}

impl Lease {
    fn to_wire(&self) -> v1::Lease {
        v1::Lease {
            lease: self.id.number(),
            kind: self.kind.to_wire() as i32,
            run: Some(self.run.to_wire()),
            wanted_steps: self.wanted.iter().map(|step| step.number()).collect(),
            resume: self.resume.as_ref().map(resume_to_wire),
            resume_before: self.resume_before.as_ref().map(resume_to_wire),
            checkpoint_every_ms: self.checkpoint_every.map(duration_ms),
        }
    }

    fn from_wire(wire: v1::Lease) -> Result<Self, WireError> {
        let kind = LeaseKind::from_wire("Lease.kind", wire.kind)?;
        let wanted = "Lease.wanted_steps";
        no_longer_than(wanted, &wire.wanted_steps, WANTED_STEPS_MAX)?;
        ascending(wanted, &wire.wanted_steps)?;
        let steps: Vec<Step> =
            wire.wanted_steps.into_iter().map(|value| step(wanted, value)).collect::<Result<_, _>>()?;
        let first = *present(wanted, steps.first())?;
        let resume = wire.resume.map(|resume| resume_from_wire(&resume, first)).transpose()?;
        let before = wire.resume_before.map(|before| {
            let newest = present("Lease.resume", resume)?;
            resume_from_wire(&before, newest.step)
        });
        let checkpoint_every = wire.checkpoint_every_ms.map(|ms| duration("Lease.checkpoint_every_ms", ms));
        Ok(Self {
            id: LeaseId::new(wire.lease),
            kind,
            run: Run::from_wire(&present("Lease.run", wire.run)?)?,
            wanted: steps,
            resume,
            resume_before: before.transpose()?,
            checkpoint_every: checkpoint_every.transpose()?,
        })
    }
}

fn resume_to_wire(resume: &CheckpointName) -> v1::Checkpoint {
    v1::Checkpoint { step: resume.step.number(), sha256: resume.blob.bytes().to_vec() }
}

fn resume_from_wire(wire: &v1::Checkpoint, first_wanted: Step) -> Result<CheckpointName, WireError> {
    let resume = CheckpointName {
        step: step("Checkpoint.step", wire.step)?,
        blob: hash("Checkpoint.sha256", &wire.sha256)?,
    };
    if resume.step > first_wanted {
        return Err(WireError::ResumeOvertakes { resume: resume.step, wanted: first_wanted });
    }
    Ok(resume)
}

fn store_id(field: &'static str, value: &[u8]) -> Result<StoreId, WireError> {
    bytes(field, value).map(|bits| StoreId::new(u128::from_be_bytes(bits)))
}

/// Numbers count from 1, so that 0 can be "nothing yet" in arithmetic on either side.
fn message_number(field: &'static str, value: u64) -> Result<MessageNumber, WireError> {
    in_range(field, value, 1..=u64::MAX - 1).map(MessageNumber::new)
}

/// `detail` with its control characters blanked, cut at [`DETAIL_BYTES_MAX`]: one line in any log.
fn one_line(detail: &str) -> String {
    let blanked = detail.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line = String::new();
    for c in blanked {
        if line.len() + c.len_utf8() > DETAIL_BYTES_MAX {
            break;
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::id::ContentHash;
    use crate::outcome::{Measured, Perplexity};
    use crate::run::{Family, Shape};
    use crate::settings::TrainingSettings;

    fn lease() -> Lease {
        let family = Family {
            corpus: ContentHash::of(b"snow"),
            valid_size: 1000,
            training: TrainingSettings::default(),
            numerics: NumericsVersion::new(1),
        };
        Lease {
            id: LeaseId::new(88),
            kind: LeaseKind::Primary,
            run: Run { family, shape: Shape { nodes: 8, batch_size: 16, unrollings: 5 }, seed: 2 },
            wanted: vec![Step::new(500), Step::new(1000)],
            resume: Some(CheckpointName { step: Step::new(500), blob: ContentHash::of(b"state") }),
            resume_before: Some(CheckpointName { step: Step::new(400), blob: ContentHash::of(b"earlier") }),
            checkpoint_every: Some(Duration::from_millis(1500)),
        }
    }

    fn milestone(at: u64) -> Milestone {
        let perplexity = Perplexity::new(6.5).expect("finite");
        Milestone { step: Step::new(at), measured: Measured::Perplexity(perplexity), loss: None }
    }

    fn ended(how: LeaseEnd) -> WorkerMessage {
        let report = Report::LeaseEnded { milestones: vec![milestone(1), milestone(2)], how };
        let run = lease().run.key();
        WorkerMessage::Numbered { number: MessageNumber::new(3), lease: LeaseId::new(88), run, report }
    }

    fn hello() -> Hello {
        Hello {
            protocol_version: 1,
            worker: "hill-3".parse().expect("a name"),
            incarnation: Incarnation::new(u128::MAX - 5),
            slots: 16,
            numerics: NumericsVersion::new(1),
            known_run: Some(ContentHash::of(b"known")),
            isa: "avx512".to_owned(),
            speed: 0.9,
            gflops_per_slot: 61.0,
            cost: REFERENCE.slowed(1.25),
            held: LeasesHeld::default(),
            store: None,
        }
    }

    #[test]
    fn a_cost_that_no_core_could_have_is_refused_and_an_absent_one_is_the_reference_at_that_speed() {
        for step in [-1e-6, f64::NAN, f64::INFINITY] {
            let refused =
                Hello::from_wire(Hello { cost: Coefficients { step, ..REFERENCE }, ..hello() }.to_wire());
            assert!(matches!(refused, Err(WireError::Cost { field: "Hello.cost" })), "{step}");
        }
        let nothing = Hello { cost: REFERENCE.slowed(0.0), ..hello() }.to_wire();
        assert!(matches!(Hello::from_wire(nothing), Err(WireError::Cost { .. })), "all zero");
        let without = |speed| v1::Hello { cost: None, ..Hello { speed, ..hello() }.to_wire() };
        assert!(matches!(Hello::from_wire(without(1e-300)), Err(WireError::Cost { .. })), "hardly a core");
        let without = without(2.0);
        assert_eq!(Hello::from_wire(without).map(|hello| hello.cost), Ok(REFERENCE.slowed(0.5)));
    }

    #[test]
    fn a_worker_has_from_1_to_4096_slots_of_a_finite_speed_above_zero() {
        for slots in [1, SLOTS_MAX] {
            let sent = Hello { slots, ..hello() };
            assert_eq!(Hello::from_wire(sent.to_wire()), Ok(sent));
        }
        for slots in [0, SLOTS_MAX + 1] {
            let refused = Hello::from_wire(Hello { slots, ..hello() }.to_wire());
            assert!(matches!(refused, Err(WireError::OutOfRange { field: "Hello.slots", .. })), "{slots}");
        }
        for speed in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            let refused = Hello::from_wire(Hello { speed, ..hello() }.to_wire());
            assert!(matches!(refused, Err(WireError::Float { field: "Hello.speed", .. })), "{speed}");
        }
    }

    #[test]
    fn every_message_up_arrives_as_it_was_sent() {
        let (lease, run) = (LeaseId::new(88), lease().run.key());
        let held = LeasesHeld { leases: vec![LeaseId::new(7), lease], received_max: Some(lease) };
        let failed = LeaseEnd::Failed { reason: FailureReason::Memory, detail: "wants 9 GB".to_owned() };
        let checkpoint = CheckpointName { step: Step::new(40), blob: ContentHash::of(b"state") };
        let report = Report::Milestone(milestone(500));
        let messages = [
            WorkerMessage::Hello(hello()),
            WorkerMessage::Hello(Hello { known_run: None, ..hello() }),
            WorkerMessage::Hello(Hello { store: Some(StoreId::new(u128::MAX - 6)), ..hello() }),
            WorkerMessage::Heartbeat(held),
            WorkerMessage::Progress { lease, step: Step::new(3), loss: Some(2.5) },
            WorkerMessage::CheckpointStored { lease, run, checkpoint },
            WorkerMessage::Numbered { number: MessageNumber::new(1), lease, run, report },
            ended(LeaseEnd::Finished),
            ended(LeaseEnd::Diverged { at: Step::new(9) }),
            ended(failed),
            ended(LeaseEnd::HandedBack),
            WorkerMessage::Draining { received_max: None },
            WorkerMessage::Draining { received_max: Some(lease) },
        ];
        for message in messages {
            assert_eq!(WorkerMessage::from_wire(message.to_wire()), Ok(message));
        }
    }

    #[test]
    fn every_message_down_arrives_as_it_was_sent() {
        let welcome = Welcome {
            heartbeat: Duration::from_secs(5),
            lease: Duration::from_secs(30),
            checkpoint_every: Duration::from_secs(60),
            acknowledged: Some(MessageNumber::new(12)),
            store: StoreId::new(u128::MAX - 6),
            forget: false,
        };
        let messages = [
            CoordinatorMessage::Welcome(welcome),
            CoordinatorMessage::Welcome(Welcome { acknowledged: None, forget: true, ..welcome }),
            CoordinatorMessage::Grants(vec![
                lease(),
                Lease { resume_before: None, ..lease() },
                Lease { resume: None, resume_before: None, checkpoint_every: None, ..lease() },
            ]),
            CoordinatorMessage::Acknowledged(MessageNumber::new(1)),
            CoordinatorMessage::Cancelled(vec![LeaseId::new(4)]),
            CoordinatorMessage::Drain,
        ];
        for message in messages {
            assert_eq!(CoordinatorMessage::from_wire(message.to_wire()), Ok(message));
        }
    }

    #[test]
    fn a_lease_that_would_leave_a_hole_or_answers_nothing_is_refused() {
        let refused = |change: fn(&mut v1::Lease)| {
            let mut wire = lease().to_wire();
            change(&mut wire);
            Lease::from_wire(wire).expect_err("not a lease to train by")
        };
        let overtaken = refused(|lease| lease.wanted_steps[0] = 499);
        assert!(matches!(overtaken, WireError::ResumeOvertakes { .. }), "{overtaken}");
        let unordered = refused(|lease| lease.wanted_steps.swap(0, 1));
        assert_eq!(unordered, WireError::NotAscending { field: "Lease.wanted_steps", index: 1 });
        let idle = refused(|lease| lease.wanted_steps.clear());
        assert_eq!(idle, WireError::Absent { field: "Lease.wanted_steps" });
        let endless = refused(|lease| lease.wanted_steps = (0..10_001).collect());
        assert!(matches!(endless, WireError::TooLong { .. }), "{endless}");
        let kindless = refused(|lease| lease.kind = 0);
        assert_eq!(kindless, WireError::NotInEnum { field: "Lease.kind", value: 0 });
        let hasty = refused(|lease| lease.checkpoint_every_ms = Some(0));
        assert!(matches!(hasty, WireError::OutOfRange { .. }), "{hasty}");
    }

    #[test]
    fn a_failure_s_detail_is_one_short_line_whatever_the_panic_said() {
        let detail = format!("line\none\u{1b}[31m{}", "é".repeat(DETAIL_BYTES_MAX));
        let sent = ended(LeaseEnd::Failed { reason: FailureReason::Panic, detail });
        let Ok(WorkerMessage::Numbered { report: Report::LeaseEnded { how, .. }, .. }) =
            WorkerMessage::from_wire(sent.to_wire())
        else {
            panic!("the failure was refused");
        };
        let LeaseEnd::Failed { detail, .. } = how else { panic!("not a failure: {how:?}") };
        assert!(detail.starts_with("line one [31mé"), "{detail}");
        assert!(detail.len() <= DETAIL_BYTES_MAX && !detail.contains(char::is_control));
    }

    proptest! {
        /// Nothing that a peer sends panics: bytes that decode as a message of this protocol convert or are refused.
        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(wire) = v1::WorkerMessage::decode(bytes.as_slice()) {
                let _ = WorkerMessage::from_wire(wire);
            }
            if let Ok(wire) = v1::CoordinatorMessage::decode(bytes.as_slice()) {
                let _ = CoordinatorMessage::from_wire(wire);
            }
        }

        /// The same for honest bytes of which some were changed: these reach the conversions more often.
        #[test]
        fn a_message_with_changed_bytes_is_a_message_or_refused(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut up = ended(LeaseEnd::Diverged { at: Step::new(9) }).to_wire().encode_to_vec();
            let mut down = CoordinatorMessage::Grants(vec![lease()]).to_wire().encode_to_vec();
            for (place, byte) in changes {
                let (up_len, down_len) = (up.len(), down.len());
                up[place.index(up_len)] = byte;
                down[place.index(down_len)] = byte;
            }
            if let Ok(wire) = v1::WorkerMessage::decode(up.as_slice()) {
                let _ = WorkerMessage::from_wire(wire);
            }
            if let Ok(wire) = v1::CoordinatorMessage::decode(down.as_slice()) {
                let _ = CoordinatorMessage::from_wire(wire);
            }
        }
    }
}
