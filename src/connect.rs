//! A way to whoever knows the sweeps: where to look, and people's calls as functions of the domain's own types.
//!
//! Expected failures: nobody is there, what was asked for is not, a coordinator goes away in the middle of an answer.

mod error;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slalom_common::answer::{Preview, RunRow, SweepStatus, TrialRow, WorkerRow};
use slalom_common::corpus::Text;
use slalom_common::id::{SweepName, WorkerName};
use slalom_common::sweep::Sweep;
use slalom_common::wire::sweep_service::{RunsWanted, watch};
use slalom_common::wire::{CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX, WireError};
use slalom_proto::v1;
use slalom_proto::v1::sweep_service_client::SweepServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use self::error::innermost;
pub(crate) use self::error::{CallError, ConnectError};
use crate::args::WhereArgs;
use crate::local::{self, LocalError, OpenStore};
use crate::output::note;

/// Where a coordinator listens unless told otherwise.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:7117";
/// A coordinator that does not answer a connection within this is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection on which nothing came for so long is asked whether it lives, and given up after as long again.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Who was found to answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    /// A coordinator at this address.
    Coordinator { address: String },
    /// A living `slalom run`.
    Run { dir: PathBuf, pid: u32, address: String },
    /// The store of a `slalom run` that is over, opened here without workers.
    Store { dir: PathBuf },
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator { address } => write!(f, "the coordinator at {address}"),
            Self::Run { dir, pid, .. } => write!(f, "`slalom run` in {} (process {pid})", dir.display()),
            Self::Store { dir } => write!(f, "the store in {}", dir.display()),
        }
    }
}

/// What a verb needs of whoever answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// What is recorded: a closed store will do.
    Records,
    /// To change what is recorded: so will it.
    Change,
    /// Somebody who goes on when the verb is over.
    Life,
}

/// Whoever knows the sweeps.
pub(crate) struct People {
    who: Who,
    client: SweepServiceClient<Channel>,
    /// A store that was opened for this, until [`People::close`].
    opened: Option<OpenStore>,
}

impl People {
    /// Looks where `at` says, in the order of CLI.md, and tells standard error who answers.
    ///
    /// # Errors
    /// If nobody does.
    pub(crate) async fn find(at: &WhereArgs, needs: Needs) -> Result<Self, ConnectError> {
        let people = match Self::find_near(at, needs).await? {
            Some(people) => people,
            None => match Self::at_addresses(&[DEFAULT_ADDRESS.to_owned()]).await {
                Err(ConnectError::Unreachable { .. }) if local::has_store(&at.dir.dir) => {
                    return Err(ConnectError::NobodyWorks { dir: at.dir.dir.clone() });
                }
                people => people?,
            },
        };
        match &people.who {
            Who::Store { dir } => {
                note(&format!("asking the store in {}: no `slalom run` is at work there", dir.display()));
            }
            who => note(&format!("asking {who}")),
        }
        Ok(people)
    }

    /// As [`People::find`], and nothing where nobody was named and nobody is there.
    ///
    /// # Errors
    /// If somebody was named, or is there, and does not answer.
    pub(crate) async fn find_any(at: &WhereArgs) -> Result<Option<Self>, ConnectError> {
        match Self::find_near(at, Needs::Records).await? {
            Some(people) => Ok(Some(people)),
            None => Ok(Self::at_addresses(&[DEFAULT_ADDRESS.to_owned()]).await.ok()),
        }
    }

    /// All places but the last.
    async fn find_near(at: &WhereArgs, needs: Needs) -> Result<Option<Self>, ConnectError> {
        if !at.coordinator.is_empty() {
            return Self::at_addresses(&at.coordinator).await.map(Some);
        }
        let dir = &at.dir.dir;
        if let Some(people) = Self::at_run(dir).await {
            return Ok(Some(people));
        }
        if needs == Needs::Life || !local::has_store(dir) {
            return Ok(None);
        }
        match Self::in_store(dir, needs).await {
            // Whoever has it was beginning to serve.
            Err(ConnectError::Local(LocalError::InUse { dir, pid })) => match Self::at_run(&dir).await {
                Some(people) => Ok(Some(people)),
                None => Err(LocalError::InUse { dir, pid }.into()),
            },
            people => people.map(Some),
        }
    }

    /// The `slalom run` that lives in `dir`.
    async fn at_run(dir: &Path) -> Option<Self> {
        let serving = local::serving(dir)?;
        let client = dial(&serving.address).await.ok()?;
        let who = Who::Run { dir: dir.to_owned(), pid: serving.pid, address: serving.address };
        Some(Self { who, client, opened: None })
    }

    async fn in_store(dir: &Path, needs: Needs) -> Result<Self, ConnectError> {
        let opened = match needs {
            Needs::Change => OpenStore::for_changing(dir).await?,
            Needs::Records | Needs::Life => OpenStore::for_reading(dir).await?,
        };
        Ok(Self {
            who: Who::Store { dir: dir.to_owned() },
            client: limited(opened.channel()),
            opened: Some(opened),
        })
    }

    /// The first of `addresses` that answers.
    async fn at_addresses(addresses: &[String]) -> Result<Self, ConnectError> {
        let mut failed = ConnectError::NoAddress;
        for address in addresses {
            match dial(address).await {
                Ok(client) => {
                    let who = Who::Coordinator { address: address.clone() };
                    return Ok(Self { who, client, opened: None });
                }
                Err(Dial::Address(source)) => {
                    return Err(ConnectError::Address { address: address.clone(), source });
                }
                Err(Dial::Unreachable(source)) => {
                    let why = innermost(&source);
                    failed = ConnectError::Unreachable { addresses: addresses.join(", "), why };
                }
            }
        }
        Err(failed)
    }

    /// Through a channel that is already there.
    pub(crate) fn through(channel: Channel, who: Who) -> Self {
        Self { who, client: limited(channel), opened: None }
    }

    /// Who answers.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// Ends the connection, and closes the store that was opened for it: the next verb may open it then.
    ///
    /// # Errors
    /// If the store failed meanwhile.
    pub(crate) async fn close(self) -> Result<(), ConnectError> {
        drop(self.client);
        match self.opened {
            Some(opened) => Ok(opened.close().await?),
            None => Ok(()),
        }
    }

    fn failed(&self, status: &Status) -> CallError {
        CallError::of(&self.who, status)
    }

    fn malformed(&self, source: WireError) -> CallError {
        CallError::Malformed { who: self.who.clone(), source: Box::new(source) }
    }

    /// Hands a sweep in with its text, unless that is there; whether this call brought it, or made it active again.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn submit(
        &mut self,
        sweep: &Sweep,
        text: &Text,
    ) -> Result<(SweepStatus, bool), CallError> {
        self.put_corpus(text).await?;
        let request = v1::SubmitRequest { sweep: Some(sweep.to_wire()) };
        match self.client.submit(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                Ok((self.status_of(answer.status)?, answer.created))
            }
            Err(status) => Err(match self.failed(&status) {
                CallError::NameTaken { what } if sweep.contains(&self.formula(sweep.name()).await?) => {
                    CallError::GoesBeyond { what }
                }
                other => other,
            }),
        }
    }

    /// Adds the trials of `sweep` to the sweep of its name; how many were not there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn extend(&mut self, sweep: &Sweep) -> Result<(SweepStatus, u64), CallError> {
        let request = v1::ExtendRequest { sweep: Some(sweep.to_wire()) };
        let answer = self.client.extend(request).await.map_err(|status| self.failed(&status))?.into_inner();
        Ok((self.status_of(answer.status)?, answer.added_trials))
    }

    /// What a sweep asks for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn formula(&mut self, sweep: &SweepName) -> Result<Sweep, CallError> {
        let request = v1::GetSweepRequest { sweep: sweep.to_string() };
        let answer = self.client.get_sweep(request).await.map_err(|status| self.failed(&status))?;
        let sweep = answer.into_inner().sweep.ok_or(WireError::Absent { field: "GetSweepResponse.sweep" });
        sweep.and_then(Sweep::from_wire).map_err(|error| self.malformed(error))
    }

    async fn put_corpus(&mut self, text: &Text) -> Result<(), CallError> {
        let request = v1::HasCorpusRequest { sha256: text.sha256().bytes().to_vec() };
        let there =
            self.client.has_corpus(request).await.map_err(|status| self.failed(&status))?.into_inner();
        if there.present {
            return Ok(());
        }
        let bytes = text.to_ascii();
        let mut name = Some(v1::BlobName {
            kind: v1::BlobKind::Corpus as i32,
            sha256: text.sha256().bytes().to_vec(),
            size: bytes.len() as u64,
        });
        let chunks = (0..bytes.len()).step_by(CHUNK_BYTES_MAX).map(move |start| {
            let end = bytes.len().min(start + CHUNK_BYTES_MAX);
            v1::PutBlobChunk { name: name.take(), data: bytes[start..end].to_vec() }
        });
        self.client.put_corpus(tokio_stream::iter(chunks)).await.map_err(|status| self.failed(&status))?;
        Ok(())
    }

    /// What a sweep would be there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn preview(&mut self, sweep: &Sweep) -> Result<Preview, CallError> {
        let request = v1::PreviewRequest { sweep: Some(sweep.to_wire()) };
        let answer = self.client.preview(request).await.map_err(|status| self.failed(&status))?;
        Preview::from_wire(answer.into_inner()).map_err(|error| self.malformed(error))
    }

    /// All sweeps.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn statuses(&mut self) -> Result<Vec<SweepStatus>, CallError> {
        self.get_status(None).await
    }

    /// One sweep.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn status(&mut self, sweep: &SweepName) -> Result<SweepStatus, CallError> {
        let mut statuses = self.get_status(Some(sweep)).await?;
        statuses.pop().ok_or_else(|| self.malformed(WireError::Absent { field: "GetStatusResponse.sweeps" }))
    }

    async fn get_status(&mut self, sweep: Option<&SweepName>) -> Result<Vec<SweepStatus>, CallError> {
        let request = v1::GetStatusRequest { sweep: sweep.map(SweepName::to_string) };
        let answer = self.client.get_status(request).await.map_err(|status| self.failed(&status))?;
        let statuses = answer.into_inner().sweeps.into_iter().map(SweepStatus::from_wire);
        statuses.collect::<Result<_, _>>().map_err(|error| self.malformed(error))
    }

    /// How a sweep stands, at once and whenever that changes, until it is over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn watch(&mut self, sweep: &SweepName, interval: Duration) -> Result<Watch, CallError> {
        let answer = self.client.watch(watch(sweep, interval)).await;
        let updates = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(Watch { who: self.who.clone(), updates })
    }

    /// The runs of a sweep in order of number.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn runs(&mut self, wanted: &RunsWanted) -> Result<Vec<RunRow>, CallError> {
        let answer = self.client.list_runs(wanted.to_wire()).await.map_err(|status| self.failed(&status))?;
        let mut stream = answer.into_inner();
        let mut rows = Vec::new();
        while let Some(row) = stream.message().await.map_err(|status| self.failed(&status))? {
            rows.push(RunRow::from_wire(row).map_err(|error| self.malformed(error))?);
        }
        Ok(rows)
    }

    /// The trials of a sweep in the order of `results.csv`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn trials(&mut self, sweep: &SweepName) -> Result<Vec<TrialRow>, CallError> {
        let request = v1::ListTrialsRequest { sweep: sweep.to_string() };
        let answer = self.client.list_trials(request).await.map_err(|status| self.failed(&status))?;
        let mut stream = answer.into_inner();
        let mut rows = Vec::new();
        while let Some(row) = stream.message().await.map_err(|status| self.failed(&status))? {
            rows.push(TrialRow::from_wire(&row).map_err(|error| self.malformed(error))?);
        }
        Ok(rows)
    }

    /// Ends a sweep.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn cancel(&mut self, sweep: &SweepName) -> Result<SweepStatus, CallError> {
        let request = v1::CancelRequest { sweep: sweep.to_string() };
        let answer = self.client.cancel(request).await.map_err(|status| self.failed(&status))?;
        self.status_of(answer.into_inner().status)
    }

    /// Has no more runs of a sweep begun.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn pause(&mut self, sweep: &SweepName) -> Result<SweepStatus, CallError> {
        let request = v1::PauseRequest { sweep: sweep.to_string() };
        let answer = self.client.pause(request).await.map_err(|status| self.failed(&status))?;
        self.status_of(answer.into_inner().status)
    }

    /// As [`People::pause`]; the sweep says when what runs is finished.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn stop(&mut self, sweep: &SweepName) -> Result<SweepStatus, CallError> {
        let request = v1::StopRequest { sweep: sweep.to_string() };
        let answer = self.client.stop(request).await.map_err(|status| self.failed(&status))?;
        self.status_of(answer.into_inner().status)
    }

    /// Has runs of a sweep begun again.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn resume(&mut self, sweep: &SweepName) -> Result<SweepStatus, CallError> {
        let request = v1::ResumeRequest { sweep: sweep.to_string() };
        let answer = self.client.resume(request).await.map_err(|status| self.failed(&status))?;
        self.status_of(answer.into_inner().status)
    }

    /// Gives the failed runs of a sweep fresh attempts; how many there were.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn retry(&mut self, sweep: &SweepName) -> Result<u64, CallError> {
        let request = v1::RetryRequest { sweep: sweep.to_string() };
        let answer = self.client.retry(request).await.map_err(|status| self.failed(&status))?;
        Ok(answer.into_inner().runs)
    }

    /// The workers with a session, and those whose leases have not ended.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn workers(&mut self) -> Result<Vec<WorkerRow>, CallError> {
        let answer = self.client.list_workers(v1::ListWorkersRequest {}).await;
        self.worker_rows(answer.map_err(|status| self.failed(&status))?.into_inner().workers)
    }

    /// Has a worker hand back what it holds and leave; its processes that have not left yet.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn drain(&mut self, worker: &WorkerName) -> Result<Vec<WorkerRow>, CallError> {
        let request = v1::DrainRequest { worker: worker.to_string() };
        let answer = self.client.drain(request).await.map_err(|status| self.no_worker(&status))?;
        self.worker_rows(answer.into_inner().workers)
    }

    /// Has a paused worker be given runs again; its processes.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn resume_worker(&mut self, worker: &WorkerName) -> Result<Vec<WorkerRow>, CallError> {
        let request = v1::ResumeWorkerRequest { worker: worker.to_string() };
        let answer = self.client.resume_worker(request).await.map_err(|status| self.no_worker(&status))?;
        self.worker_rows(answer.into_inner().workers)
    }

    /// As [`Self::failed`], of a call that names a worker.
    fn no_worker(&self, status: &Status) -> CallError {
        match self.failed(status) {
            CallError::NotFound { who, what } => CallError::NoWorker { who, what },
            other => other,
        }
    }

    fn worker_rows(&self, rows: Vec<v1::WorkerRow>) -> Result<Vec<WorkerRow>, CallError> {
        let rows = rows.into_iter().map(WorkerRow::from_wire);
        rows.collect::<Result<_, _>>().map_err(|error| self.malformed(error))
    }

    fn status_of(&self, status: Option<v1::SweepStatus>) -> Result<SweepStatus, CallError> {
        let status = status.ok_or(WireError::Absent { field: "status" });
        status.and_then(SweepStatus::from_wire).map_err(|error| self.malformed(error))
    }
}

/// A sweep's status, again and again.
pub(crate) struct Watch {
    who: Who,
    updates: Streaming<v1::SweepStatus>,
}

impl Watch {
    /// The next one; none after the sweep is over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(crate) async fn next(&mut self) -> Result<Option<SweepStatus>, CallError> {
        let update = self.updates.message().await.map_err(|status| CallError::of(&self.who, &status))?;
        update
            .map(SweepStatus::from_wire)
            .transpose()
            .map_err(|source| CallError::Malformed { who: self.who.clone(), source: Box::new(source) })
    }
}

/// Why a connection was not made.
enum Dial {
    Address(tonic::transport::Error),
    Unreachable(tonic::transport::Error),
}

async fn dial(address: &str) -> Result<SweepServiceClient<Channel>, Dial> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(Dial::Address)?;
    let channel = endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .connect()
        .await
        .map_err(Dial::Unreachable)?;
    Ok(limited(channel))
}

fn limited(channel: Channel) -> SweepServiceClient<Channel> {
    SweepServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
