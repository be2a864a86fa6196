//! One worker's stream on the coordinator's side: what may be said on it, and when. Pure: messages in, sayings out.
//!
//! It knows one stream. The session that outlives streams is the scheduler's: what a worker holds and what is
//! acknowledged stand there. What a message means is not decided here, only whether it may come now.
//!
//! | message | greeting | live | draining | closed |
//! | --- | --- | --- | --- | --- |
//! | `Hello` | live, if versions and known run are ours; else refused, closed | refused, closed | refused, closed | refused |
//! | `Numbered` | refused, closed | said; a gap is refused, closed | as live | refused |
//! | `Heartbeat`, `Progress`, `CheckpointStored` | refused, closed | said | said | refused |
//! | `Draining` | refused, closed | said, draining | said again: it may be a repeat | refused |
//! | the stream ends | nobody was here | lost: it is expected back | left | as before |

use slalom_common::id::{ContentHash, MessageNumber, NumericsVersion};
use slalom_common::message::{Hello, PROTOCOL_VERSION, WorkerMessage};

use crate::scheduler::event::Saying;

/// See the module's head.
#[derive(Clone, PartialEq, Debug)]
pub struct Session {
    /// The bits this build gives.
    numerics: NumericsVersion,
    /// What that version's known run comes to where all is sound.
    known_run: ContentHash,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Greeting,
    /// With the highest report number heard on this stream.
    Live(Option<MessageNumber>),
    Draining(Option<MessageNumber>),
    Closed,
}

/// What a message comes to.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    /// The worker may join: the first message was a hello that we can work with.
    Greeting(Hello),
    /// For the scheduler.
    Saying(Saying),
}

/// Why a stream is ended by what its worker sent. All are the worker's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Another build of the protocol (I15).
    #[error("protocol version {theirs} is not spoken here: this coordinator speaks {PROTOCOL_VERSION}")]
    OtherProtocol {
        /// The worker's.
        theirs: u32,
    },
    /// Another build of the arithmetic (I15).
    #[error(
        "a worker of numerics version {theirs} would give other bits: this coordinator's sweeps are of version {ours}"
    )]
    OtherNumerics {
        /// The worker's.
        theirs: NumericsVersion,
        /// This build's.
        ours: NumericsVersion,
    },
    /// A build from before workers trained a known run (I9, I15).
    #[error(
        "this worker does not say what the known run of numerics version {numerics} comes to on it: its build is too old; \
         give it the build of its coordinator"
    )]
    NoKnownRun {
        /// The version that worker and coordinator agree on.
        numerics: NumericsVersion,
    },
    /// A build that is not what it says, a processor or a memory that is not sound (I9).
    #[error(
        "this worker does not compute what numerics version {numerics} computes: its known run came to {theirs}, where \
         {ours} is right; test the memory of its machine, or build it anew"
    )]
    OtherBits {
        /// The version that worker and coordinator agree on.
        numerics: NumericsVersion,
        /// What the worker's known run came to.
        theirs: ContentHash,
        /// What it comes to.
        ours: ContentHash,
    },
    /// Something came before the hello.
    #[error("the first message of a stream is a hello")]
    NotGreeted,
    /// A second hello.
    #[error("a stream has one hello")]
    GreetedTwice,
    /// A report is missing: acknowledging this one would acknowledge that one too (I2).
    #[error("report {found} came after report {last}: one between them is missing")]
    Gap {
        /// The highest heard.
        last: MessageNumber,
        /// What came.
        found: MessageNumber,
    },
    /// The stream was refused before.
    #[error("this stream is closed")]
    Closed,
}

/// How a stream that was not refused ended, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The worker said that it drains: it is not expected back.
    Left,
    /// It is expected back within the lease time.
    Lost,
}

impl Session {
    /// A stream that has just been opened, to a coordinator whose sweeps are of version `numerics`, whose known run comes to
    /// `known_run`.
    pub fn new(numerics: NumericsVersion, known_run: ContentHash) -> Self {
        Self { numerics, known_run, state: State::Greeting }
    }

    /// What `message` comes to.
    ///
    /// # Errors
    /// If it may not come now; the stream is closed by that.
    pub fn on_message(&mut self, message: WorkerMessage) -> Result<Heard, Refusal> {
        let (state, heard) = match (self.state, message) {
            (State::Closed, _) => (State::Closed, Err(Refusal::Closed)),
            (State::Greeting, WorkerMessage::Hello(hello)) => match self.check(&hello) {
                Ok(()) => (State::Live(None), Ok(Heard::Greeting(hello))),
                Err(refusal) => (State::Closed, Err(refusal)),
            },
            (State::Greeting, _) => (State::Closed, Err(Refusal::NotGreeted)),
            (State::Live(_) | State::Draining(_), WorkerMessage::Hello(_)) => {
                (State::Closed, Err(Refusal::GreetedTwice))
            }
            (State::Live(last), message) => match saying(last, message) {
                Ok((last, said @ Saying::Draining { .. })) => {
                    (State::Draining(last), Ok(Heard::Saying(said)))
                }
                Ok((last, saying)) => (State::Live(last), Ok(Heard::Saying(saying))),
                Err(refusal) => (State::Closed, Err(refusal)),
            },
            (State::Draining(last), message) => match saying(last, message) {
                Ok((last, saying)) => (State::Draining(last), Ok(Heard::Saying(saying))),
                Err(refusal) => (State::Closed, Err(refusal)),
            },
        };
        self.state = state;
        heard
    }

    /// The stream is gone.
    pub fn on_end(&mut self) -> Ending {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Draining(_) => Ending::Left,
            State::Greeting | State::Live(_) | State::Closed => Ending::Lost,
        }
    }

    fn check(&self, hello: &Hello) -> Result<(), Refusal> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(Refusal::OtherProtocol { theirs: hello.protocol_version });
        }
        if hello.numerics != self.numerics {
            return Err(Refusal::OtherNumerics { theirs: hello.numerics, ours: self.numerics });
        }
        let Self { numerics, known_run: ours, .. } = *self;
        match hello.known_run {
            None => Err(Refusal::NoKnownRun { numerics }),
            Some(theirs) if theirs != ours => Err(Refusal::OtherBits { numerics, theirs, ours }),
            Some(_) => Ok(()),
        }
    }
}

/// What a greeted worker says, and the highest report number heard with it.
fn saying(
    last: Option<MessageNumber>,
    message: WorkerMessage,
) -> Result<(Option<MessageNumber>, Saying), Refusal> {
    Ok(match message {
        WorkerMessage::Hello(_) => return Err(Refusal::GreetedTwice),
        WorkerMessage::Numbered { number, lease, run, report } => {
            // The first of a stream may be any: it goes on where the last stream's acknowledgements ended.
            if let Some(last) = last.filter(|last| number.number() > last.number() + 1) {
                return Err(Refusal::Gap { last, found: number });
            }
            (last.max(Some(number)), Saying::Reported { number, lease, run, report })
        }
        WorkerMessage::Heartbeat(held) => (last, Saying::Heartbeat(held)),
        WorkerMessage::Progress { lease, step, loss } => (last, Saying::Progress { lease, step, loss }),
        WorkerMessage::CheckpointStored { lease, run, checkpoint } => {
            (last, Saying::CheckpointStored { lease, run, checkpoint })
        }
        WorkerMessage::Draining { received_max } => (last, Saying::Draining { received_max }),
    })
}

#[cfg(test)]
mod tests {
    use slalom_common::cost::REFERENCE;
    use slalom_common::id::{Incarnation, LeaseId, RunKey, Step};
    use slalom_common::message::{CheckpointName, LeaseEnd, LeasesHeld, Report};

    use super::*;

    const OURS: NumericsVersion = NumericsVersion::new(7);

    fn known_run() -> ContentHash {
        ContentHash::of(b"known")
    }

    fn hello() -> Hello {
        Hello {
            protocol_version: PROTOCOL_VERSION,
            worker: "hill-3".parse().expect("a name"),
            incarnation: Incarnation::new(3),
            slots: 2,
            numerics: OURS,
            known_run: Some(known_run()),
            isa: "avx2".to_owned(),
            speed: 1.0,
            gflops_per_slot: 60.0,
            cost: REFERENCE,
            held: LeasesHeld::default(),
            store: None,
        }
    }

    fn greeted() -> Session {
        let mut session = Session::new(OURS, known_run());
        assert_eq!(session.on_message(WorkerMessage::Hello(hello())), Ok(Heard::Greeting(hello())));
        session
    }

    fn report(number: u64) -> WorkerMessage {
        let report = Report::LeaseEnded { milestones: Vec::new(), how: LeaseEnd::HandedBack };
        let (lease, run) = (LeaseId::new(1), RunKey::new([4; 32]));
        WorkerMessage::Numbered { number: MessageNumber::new(number), lease, run, report }
    }

    #[test]
    fn a_hello_of_another_build_is_refused_in_words_and_closes_the_stream() {
        let refused = |hello| {
            let mut session = Session::new(OURS, known_run());
            let refusal = session.on_message(WorkerMessage::Hello(hello)).expect_err("another build");
            assert_eq!(
                session.on_message(WorkerMessage::Draining { received_max: None }),
                Err(Refusal::Closed)
            );
            refusal.to_string()
        };
        assert_eq!(
            refused(Hello { protocol_version: 2, ..hello() }),
            "protocol version 2 is not spoken here: this coordinator speaks 1"
        );
        assert_eq!(
            refused(Hello { numerics: NumericsVersion::new(8), ..hello() }),
            "a worker of numerics version 8 would give other bits: this coordinator's sweeps are of version 7"
        );
        assert_eq!(
            refused(Hello { known_run: None, ..hello() }),
            "this worker does not say what the known run of numerics version 7 comes to on it: its build is too old; give it the \
             build of its coordinator"
        );
        let unsound = refused(Hello { known_run: Some(ContentHash::of(b"another")), ..hello() });
        let expected =
            "this worker does not compute what numerics version 7 computes: its known run came to ae448ac8";
        assert!(unsound.starts_with(expected), "{unsound}");
    }

    #[test]
    fn nothing_comes_before_the_hello_and_no_second_one_after_it() {
        let mut session = Session::new(OURS, known_run());
        let early = session.on_message(WorkerMessage::Heartbeat(LeasesHeld::default()));
        assert_eq!(early, Err(Refusal::NotGreeted));
        assert_eq!(session.on_message(WorkerMessage::Hello(hello())), Err(Refusal::Closed));

        let mut session = greeted();
        assert_eq!(session.on_message(WorkerMessage::Hello(hello())), Err(Refusal::GreetedTwice));
        assert_eq!(session.on_message(report(1)), Err(Refusal::Closed));
    }

    #[test]
    fn reports_go_on_from_any_number_and_then_leave_none_out() {
        let mut session = greeted();
        for number in [41, 42, 42, 41, 43] {
            let heard = session.on_message(report(number)).expect("no gap");
            assert!(
                matches!(heard, Heard::Saying(Saying::Reported { number: n, .. }) if n.number() == number)
            );
        }
        let gap = Refusal::Gap { last: MessageNumber::new(43), found: MessageNumber::new(45) };
        assert_eq!(session.on_message(report(45)), Err(gap));
        assert_eq!(session.on_message(report(44)), Err(Refusal::Closed));
    }

    #[test]
    fn reports_of_a_draining_worker_leave_none_out_either() {
        let mut session = greeted();
        session.on_message(report(1)).expect("no gap");
        session.on_message(WorkerMessage::Draining { received_max: None }).expect("it may drain");
        session.on_message(report(2)).expect("no gap");
        assert!(matches!(session.on_message(report(4)), Err(Refusal::Gap { .. })));
    }

    #[test]
    fn what_a_greeted_worker_says_arrives_as_it_was_said() {
        let held = LeasesHeld { leases: vec![LeaseId::new(5)], received_max: Some(LeaseId::new(9)) };
        let (lease, run, step) = (LeaseId::new(5), RunKey::new([4; 32]), Step::new(60));
        let checkpoint = CheckpointName { step, blob: ContentHash::of(b"state") };
        let mut session = greeted();
        let mut said = |message| session.on_message(message);
        assert_eq!(said(WorkerMessage::Heartbeat(held.clone())), Ok(Heard::Saying(Saying::Heartbeat(held))));
        assert_eq!(
            said(WorkerMessage::Progress { lease, step, loss: Some(1.5) }),
            Ok(Heard::Saying(Saying::Progress { lease, step, loss: Some(1.5) }))
        );
        assert_eq!(
            said(WorkerMessage::CheckpointStored { lease, run, checkpoint }),
            Ok(Heard::Saying(Saying::CheckpointStored { lease, run, checkpoint }))
        );
        for _ in 0..2 {
            assert_eq!(
                said(WorkerMessage::Draining { received_max: None }),
                Ok(Heard::Saying(Saying::Draining { received_max: None }))
            );
        }
    }

    #[test]
    fn only_a_worker_that_drains_is_not_expected_back() {
        let mut session = greeted();
        assert_eq!(session.on_end(), Ending::Lost);
        let mut session = greeted();
        session.on_message(WorkerMessage::Draining { received_max: None }).expect("it may drain");
        assert_eq!(session.on_end(), Ending::Left);
        assert_eq!(session.on_message(report(1)), Err(Refusal::Closed));
    }
}
