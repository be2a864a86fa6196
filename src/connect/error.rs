//! What may be wrong with a way to a coordinator, or with an answer: in words, with what to do about it.

use std::error::Error;
use std::path::PathBuf;

use slalom_common::wire::WireError;
use tonic::{Code, Status};

use super::{DEFAULT_ADDRESS, Who};
use crate::local::LocalError;

/// Why nobody answers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot reach a coordinator at {addresses}: {why}")]
    Unreachable { addresses: String, why: String },
    /// Nobody was named, and whoever would go on with the work in `dir` does not live.
    #[error("nobody works in {} or at {DEFAULT_ADDRESS}", dir.display())]
    NobodyWorks { dir: PathBuf },
    #[error("`{address}` is not the address of a coordinator")]
    Address { address: String, source: tonic::transport::Error },
    #[error("no coordinator is given")]
    NoAddress,
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl ConnectError {
    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Unreachable { addresses, .. } if addresses == DEFAULT_ADDRESS => {
                "`slalom coordinator` starts one here; --coordinator names another, --dir the folder of a `slalom run`"
            }
            Self::NobodyWorks { .. } => {
                "`slalom run` goes on with a sweep that it began, `slalom coordinator` starts a coordinator; \
                 --coordinator names one elsewhere"
            }
            Self::Unreachable { .. } => {
                "`slalom coordinator` starts one on that machine; is the address right, and the port open?"
            }
            Self::Address { .. } | Self::NoAddress => "addresses are HOST:PORT or http://HOST:PORT",
            Self::Local(error) => error.help(),
        }
    }
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The name stands for nothing there.
    #[error("{what} at {who}")]
    NotFound { who: Who, what: String },
    /// The name stands for no worker there.
    #[error("{what} at {who}")]
    NoWorker { who: Who, what: String },
    /// The name is another sweep's; the words say in which keys they differ.
    #[error("{what}")]
    NameTaken { what: String },
    /// The name is another sweep's, of which this one has all trials, and more.
    #[error("{what}")]
    GoesBeyond { what: String },
    /// What was asked for is refused in words.
    #[error("{who} refuses: {what}")]
    Refused { who: Who, what: String },
    /// It has no room for what was asked for.
    #[error("{who} refuses: {what}")]
    Full { who: Who, what: String },
    /// A `slalom run` takes no other sweep.
    #[error("{who} takes no sweep: {what}")]
    TakesNone { who: Who, what: String },
    /// The connection broke, or the coordinator stops.
    #[error("{who} went away: {what}")]
    Gone { who: Who, what: String },
    /// It failed on its side.
    #[error("{who} failed: {what}")]
    Failed { who: Who, what: String },
    /// It said what is not of the protocol.
    #[error("{who} answers what this build does not understand")]
    Malformed { who: Who, source: Box<WireError> },
}

impl CallError {
    pub(super) fn of(who: &Who, status: &Status) -> Self {
        // What the other side says has no cause here: one with a cause is of the connection's own making.
        if let Some(broken) = status.source() {
            return Self::Gone { who: who.clone(), what: innermost(broken) };
        }
        let (who, what) = (who.clone(), status.message().to_owned());
        match status.code() {
            Code::NotFound => Self::NotFound { who, what },
            Code::AlreadyExists => Self::NameTaken { what },
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                Self::Refused { who, what }
            }
            Code::ResourceExhausted => Self::Full { who, what },
            Code::Unimplemented => Self::TakesNone { who, what },
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => {
                Self::Gone { who, what }
            }
            Code::Ok
            | Code::Unknown
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Internal
            | Code::DataLoss => Self::Failed { who, what },
        }
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some("`slalom status` lists the sweeps there".to_owned()),
            Self::NoWorker { .. } => Some("`slalom workers` lists the workers there".to_owned()),
            Self::NameTaken { .. } => {
                Some("give this one another name with --name, or the old one's values back".to_owned())
            }
            Self::GoesBeyond { .. } => Some(
                "`slalom extend` of the same, in place of this verb, adds to it what is new; --name makes another sweep of it"
                    .to_owned(),
            ),
            Self::TakesNone { .. } => {
                Some("`slalom run` the sweep when that one is done, or in another folder by --dir".to_owned())
            }
            Self::Gone { who: Who::Coordinator { .. }, .. } => {
                Some("what it acknowledged is safe; try again when it is back".to_owned())
            }
            Self::Gone { .. } => Some("`slalom run` of the same sweep goes on where it stopped".to_owned()),
            Self::Full { .. } => Some(
                "free some space there, then type the same again; what it acknowledged is safe".to_owned(),
            ),
            Self::Refused { .. } => None,
            Self::Failed { .. } => Some("its log says more".to_owned()),
            Self::Malformed { .. } => {
                Some("are this program and the coordinator of the same version?".to_owned())
            }
        }
    }

    /// Whether what was typed cannot be meant.
    pub(crate) const fn is_usage(&self) -> bool {
        matches!(self, Self::NameTaken { .. } | Self::GoesBeyond { .. })
    }

    /// Whether a coordinator that comes back may answer.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// The root of an error: the layers between say only that there is one.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}
