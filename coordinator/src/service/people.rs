//! What people call. Questions are put to the driver in parts that each take well under a millisecond; what is long (to
//! check a formula of ten million runs, to list them) is done beside it, and as slowly as its reader reads.

use std::sync::Arc;
use std::time::Duration;

use slalom_common::answer::{Preview, SweepStatus};
use slalom_common::id::{SweepName, WorkerName};
use slalom_common::message::CheckpointName;
use slalom_common::sweep::Sweep;
use slalom_common::trials;
use slalom_common::wire::sweep_service::{RunsWanted, sweep_name, watch_interval, worker_name};
use slalom_common::wire::{self, WireError};
use slalom_proto::v1;
use slalom_proto::v1::sweep_service_server::SweepService;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, bytes, status};
use crate::driver::Stopped;
use crate::scheduler::Scheduler;
use crate::scheduler::answers::KnownRun;
use crate::scheduler::effect::Reply;
use crate::scheduler::event::Steering;
use crate::scheduler::ledger::SweepIndex;
use crate::store::blobs::BlobKind;

/// Rows asked of the driver at once.
const ROWS_AT_ONCE: usize = 256;

/// Numbers looked through for rows at once, and recorded runs for known ones.
const NUMBERS_AT_ONCE: u32 = 1024;

/// However impatient a watcher is, it is told no more often.
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// Rows that wait for their reader.
type Rows<T> = mpsc::Sender<Result<T, Status>>;

#[tonic::async_trait]
impl SweepService for Service {
    type WatchStream = ReceiverStream<Result<v1::SweepStatus, Status>>;
    type ListRunsStream = ReceiverStream<Result<v1::RunRow, Status>>;
    type ListTrialsStream = ReceiverStream<Result<v1::TrialRow, Status>>;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let sweep = read_sweep("SubmitRequest.sweep", request.into_inner().sweep).await?;
        self.check_corpus(&sweep).await?;
        let given = sweep.clone();
        match self.driver.submit(sweep).await.map_err(status::of_stopped)? {
            Reply::Submitted { sweep, created } => {
                let status = self.status(&sweep).await?.to_wire();
                Ok(Response::new(v1::SubmitResponse { status: Some(status), created }))
            }
            other => Err(refused(other, given.name(), Some(&given))),
        }
    }

    async fn extend(
        &self,
        request: Request<v1::ExtendRequest>,
    ) -> Result<Response<v1::ExtendResponse>, Status> {
        let given = Arc::new(read_sweep("ExtendRequest.sweep", request.into_inner().sweep).await?);
        let name = given.name();
        let sweep = self.find(name).await?;
        let added_trials = loop {
            let formula = self.formula(sweep).await?;
            let trials_before = formula.size().trials;
            let by = Arc::clone(&given);
            let extended = tokio::task::spawn_blocking(move || {
                formula.extended_by(&by).map_err(|error| status::not_extended(&error, &formula, &by))
            });
            let extended = extended.await.map_err(|_| status::defect())??;
            let added = extended.size().trials - trials_before;
            match self.driver.extend(extended).await.map_err(status::of_stopped)? {
                Reply::Extended { sweep: _ } => break added,
                // Another call has changed it meanwhile: on top of that, then.
                Reply::Outdated => (),
                other => return Err(refused(other, name, None)),
            }
        };
        let status = Some(self.status(name).await?.to_wire());
        Ok(Response::new(v1::ExtendResponse { status, added_trials }))
    }

    async fn preview(
        &self,
        request: Request<v1::PreviewRequest>,
    ) -> Result<Response<v1::PreviewResponse>, Status> {
        let sweep = Arc::new(read_sweep("PreviewRequest.sweep", request.into_inner().sweep).await?);
        let measured = Arc::clone(&sweep);
        let work =
            tokio::task::spawn_blocking(move || measured.work()).await.map_err(|_| status::defect())?;
        let [mut known_runs, mut resumed_runs, mut dropped_runs] = [0; 3];
        let mut known_s = 0.0;
        let blobs = Arc::clone(self.driver.blobs());
        let is_here = |one: &CheckpointName| blobs.contains(BlobKind::Checkpoint, one.blob).unwrap_or(false);
        let mut next = 0;
        let (slots, speed) = loop {
            let (ids, sweep) = (next..next + NUMBERS_AT_ONCE, Arc::clone(&sweep));
            next = ids.end;
            let part = self.driver.read(move |scheduler, _| {
                let more = ids.end < scheduler.ledger().run_count();
                let (_, slots) = scheduler.workers_and_slots();
                (scheduler.known_runs(&sweep, ids), (!more).then(|| (slots, scheduler.speed(&work))))
            });
            let (known, last) = part.await.map_err(status::of_stopped)?;
            for run in known {
                match run {
                    KnownRun::Answered(seconds) => {
                        known_runs += 1;
                        known_s += seconds;
                    }
                    KnownRun::Trained(checkpoints) => {
                        match checkpoints.iter().find(|(checkpoint, _)| is_here(checkpoint)) {
                            Some((_, seconds)) => {
                                resumed_runs += 1;
                                known_s += seconds;
                            }
                            None => dropped_runs += 1,
                        }
                    }
                }
            }
            if let Some(fleet) = last {
                break fleet;
            }
        };
        Ok(Response::new(Preview { known_runs, resumed_runs, dropped_runs, known_s, slots, speed }.to_wire()))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let statuses = if let Some(name) = request.into_inner().sweep {
            vec![self.status(&named("GetStatusRequest.sweep", &name)?).await?]
        } else {
            let all = self.driver.read(|scheduler, now| {
                let sweeps = scheduler.ledger().sweeps();
                sweeps.map(|(index, _)| scheduler.status(now, index)).collect()
            });
            all.await.map_err(status::of_stopped)?
        };
        let sweeps = statuses.iter().map(SweepStatus::to_wire).collect();
        Ok(Response::new(v1::GetStatusResponse { sweeps }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let wanted = request.into_inner();
        let name = named("WatchRequest.sweep", &wanted.sweep)?;
        let interval = watch_interval(&wanted).map_err(|error| status::of_wire(&error))?;
        // Whoever watches waits for a full disk as for everything else.
        let service = Self { driver: self.driver.clone().waiting_while_stalled(), ..self.clone() };
        let sweep = service.find(&name).await?;
        Ok(self.stream(1, async move |rows| {
            service.send_changes(sweep, interval.max(WATCH_INTERVAL_MIN), rows).await
        }))
    }

    async fn get_sweep(
        &self,
        request: Request<v1::GetSweepRequest>,
    ) -> Result<Response<v1::GetSweepResponse>, Status> {
        let name = named("GetSweepRequest.sweep", &request.into_inner().sweep)?;
        let sweep = self.formula(self.find(&name).await?).await?;
        Ok(Response::new(v1::GetSweepResponse { sweep: Some(sweep.to_wire()) }))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<Self::ListRunsStream>, Status> {
        let wanted = RunsWanted::from_wire(request.into_inner()).map_err(|error| status::of_wire(&error))?;
        let sweep = self.find(&wanted.sweep).await?;
        let service = self.clone();
        Ok(self.stream(ROWS_AT_ONCE, async move |rows| service.send_runs(sweep, wanted, rows).await))
    }

    async fn list_trials(
        &self,
        request: Request<v1::ListTrialsRequest>,
    ) -> Result<Response<Self::ListTrialsStream>, Status> {
        let name = named("ListTrialsRequest.sweep", &request.into_inner().sweep)?;
        let sweep = self.find(&name).await?;
        let service = self.clone();
        Ok(self.stream(ROWS_AT_ONCE, async move |rows| service.send_trials(sweep, rows).await))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        let name = named("CancelRequest.sweep", &request.into_inner().sweep)?;
        match self.driver.cancel(name.clone()).await.map_err(status::of_stopped)? {
            Reply::Cancelled { sweep } => {
                let status = Some(self.status(&sweep).await?.to_wire());
                Ok(Response::new(v1::CancelResponse { status }))
            }
            other => Err(refused(other, &name, None)),
        }
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Result<Response<v1::PauseResponse>, Status> {
        let name = named("PauseRequest.sweep", &request.into_inner().sweep)?;
        let status = Some(self.steer(name, Steering::Pause).await?.to_wire());
        Ok(Response::new(v1::PauseResponse { status }))
    }

    async fn stop(&self, request: Request<v1::StopRequest>) -> Result<Response<v1::StopResponse>, Status> {
        let name = named("StopRequest.sweep", &request.into_inner().sweep)?;
        let status = Some(self.steer(name, Steering::Stop).await?.to_wire());
        Ok(Response::new(v1::StopResponse { status }))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        let name = named("ResumeRequest.sweep", &request.into_inner().sweep)?;
        let status = Some(self.steer(name, Steering::Resume).await?.to_wire());
        Ok(Response::new(v1::ResumeResponse { status }))
    }

    async fn retry(&self, request: Request<v1::RetryRequest>) -> Result<Response<v1::RetryResponse>, Status> {
        let name = named("RetryRequest.sweep", &request.into_inner().sweep)?;
        match self.driver.retry(name.clone()).await.map_err(status::of_stopped)? {
            Reply::Retried { runs } => Ok(Response::new(v1::RetryResponse { runs })),
            other => Err(refused(other, &name, None)),
        }
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        let name = worker_name("DrainRequest.worker", &request.into_inner().worker);
        let name = name.map_err(|error| status::of_wire(&error))?;
        match self.driver.drain(name.clone()).await.map_err(status::of_stopped)? {
            Reply::Draining { worker } => {
                Ok(Response::new(v1::DrainResponse { workers: self.rows_of(&worker).await? }))
            }
            other => Err(worker_refused(other, &name)),
        }
    }

    async fn resume_worker(
        &self,
        request: Request<v1::ResumeWorkerRequest>,
    ) -> Result<Response<v1::ResumeWorkerResponse>, Status> {
        let name = worker_name("ResumeWorkerRequest.worker", &request.into_inner().worker);
        let name = name.map_err(|error| status::of_wire(&error))?;
        match self.driver.resume_worker(name.clone()).await.map_err(status::of_stopped)? {
            Reply::WorkerResumed { worker } => {
                Ok(Response::new(v1::ResumeWorkerResponse { workers: self.rows_of(&worker).await? }))
            }
            other => Err(worker_refused(other, &name)),
        }
    }

    async fn list_workers(
        &self,
        _request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let rows = self.driver.read(Scheduler::worker_rows).await.map_err(status::of_stopped)?;
        let workers = rows.iter().map(slalom_common::answer::WorkerRow::to_wire).collect();
        Ok(Response::new(v1::ListWorkersResponse { workers }))
    }

    async fn has_corpus(
        &self,
        request: Request<v1::HasCorpusRequest>,
    ) -> Result<Response<v1::HasCorpusResponse>, Status> {
        let corpus = wire::hash("HasCorpusRequest.sha256", &request.into_inner().sha256);
        let corpus = corpus.map_err(|error| status::of_wire(&error))?;
        let present = bytes::corpus_chars(self, corpus).await?.is_some();
        Ok(Response::new(v1::HasCorpusResponse { present }))
    }

    async fn put_corpus(
        &self,
        request: Request<Streaming<v1::PutBlobChunk>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        bytes::put(self, request.into_inner(), bytes::Allowed::Corpora).await.map(Response::new)
    }
}

impl Service {
    /// The processes of one worker.
    async fn rows_of(&self, worker: &WorkerName) -> Result<Vec<v1::WorkerRow>, Status> {
        let rows = self.driver.read(Scheduler::worker_rows).await.map_err(status::of_stopped)?;
        let named = rows.iter().filter(|row| row.worker == *worker);
        Ok(named.map(slalom_common::answer::WorkerRow::to_wire).collect())
    }

    /// Looks a sweep up. It stays where it is: sweeps are never removed.
    async fn find(&self, name: &SweepName) -> Result<SweepIndex, Status> {
        let asked = name.clone();
        let found = self.driver.read(move |scheduler, _| {
            let ledger = scheduler.ledger();
            let known = || ledger.sweeps().map(|(_, entry)| entry.sweep.name().clone()).collect::<Vec<_>>();
            ledger.find_sweep(&asked).ok_or_else(known)
        });
        let found = found.await.map_err(status::of_stopped)?;
        found.map_err(|known| status::no_such_sweep(name, &known))
    }

    async fn status(&self, name: &SweepName) -> Result<SweepStatus, Status> {
        let sweep = self.find(name).await?;
        let status = self.driver.read(move |scheduler, now| scheduler.status(now, sweep));
        status.await.map_err(status::of_stopped)
    }

    async fn steer(&self, name: SweepName, steering: Steering) -> Result<SweepStatus, Status> {
        match self.driver.steer(name.clone(), steering).await.map_err(status::of_stopped)? {
            Reply::Steered { sweep } => self.status(&sweep).await,
            other => Err(refused(other, &name, None)),
        }
    }

    async fn formula(&self, sweep: SweepIndex) -> Result<Sweep, Status> {
        let formula = self.driver.read(move |scheduler, _| scheduler.ledger().sweep(sweep).sweep.clone());
        formula.await.map_err(status::of_stopped)
    }

    /// A sweep is taken on only with its corpus: a worker could train none of its runs.
    async fn check_corpus(&self, sweep: &Sweep) -> Result<(), Status> {
        let (corpus, said) = (sweep.family().corpus, sweep.draft().corpus.chars);
        match bytes::corpus_chars(self, corpus).await? {
            None => Err(status::no_corpus(corpus)),
            Some(found) if found != said => Err(status::other_length(corpus, said, found)),
            Some(_) => Ok(()),
        }
    }

    /// A response whose rows `send` makes in a task of its own, at most `ahead` of them before they are read. It ends when all
    /// are sent, the reader goes away, or the coordinator stops.
    fn stream<T: Send + 'static, F>(
        &self,
        ahead: usize,
        send: impl FnOnce(Rows<T>) -> F,
    ) -> Response<ReceiverStream<Result<T, Status>>>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (rows, sent) = mpsc::channel(ahead);
        let sending = send(rows.clone());
        let stopping = self.stopping.clone();
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = sending => outcome,
                () = rows.closed() => Ok(()),
                () = stopping.cancelled() => Err(status::of_stopped(Stopped)),
            };
            if let Err(status) = outcome {
                // A reader that went away needs no status.
                let _ = rows.send(Err(status)).await;
            }
        });
        Response::new(ReceiverStream::new(sent))
    }

    async fn send_changes(
        &self,
        sweep: SweepIndex,
        interval: Duration,
        rows: Rows<v1::SweepStatus>,
    ) -> Result<(), Status> {
        let (mut changes, mut ends) = (self.driver.changes(), self.driver.ends());
        let mut last = None;
        loop {
            changes.borrow_and_update();
            ends.borrow_and_update();
            let status = self.driver.read(move |scheduler, now| scheduler.status(now, sweep));
            let status = status.await.map_err(status::of_stopped)?;
            let at = Instant::now();
            let over = status.state.is_over();
            if last.as_ref() != Some(&status) {
                send(&rows, status.to_wire()).await?;
                last = Some(status);
            }
            if over {
                return Ok(());
            }
            let changed = async {
                tokio::time::sleep_until(at + interval).await;
                changes.changed().await
            };
            // That it is over is told at once: whoever waits for it has nothing else to do.
            let next = tokio::select! {
                changed = changed => changed,
                ended = ends.changed() => ended,
            };
            next.map_err(|_| status::of_stopped(Stopped))?;
        }
    }

    async fn send_runs(
        &self,
        sweep: SweepIndex,
        wanted: RunsWanted,
        rows: Rows<v1::RunRow>,
    ) -> Result<(), Status> {
        let end = self.formula(sweep).await?.numbers();
        let wanted = Arc::new(wanted);
        for start in (0..end).step_by(NUMBERS_AT_ONCE as usize) {
            let numbers = start..end.min(start + u64::from(NUMBERS_AT_ONCE));
            let wanted = Arc::clone(&wanted);
            let part = self.driver.read(move |scheduler, _| {
                scheduler.run_rows(sweep, numbers, &wanted.states, wanted.filter.as_ref())
            });
            let part = part.await.map_err(status::of_stopped)?;
            for row in part.map_err(|error| status::of_eval(&error))? {
                send(&rows, row.to_wire()).await?;
            }
        }
        Ok(())
    }

    async fn send_trials(&self, sweep: SweepIndex, rows: Rows<v1::TrialRow>) -> Result<(), Status> {
        let formula = self.formula(sweep).await?;
        let mut trials = trials::in_order(&formula);
        loop {
            let part: Vec<_> = trials.by_ref().take(ROWS_AT_ONCE).collect();
            if part.is_empty() {
                return Ok(());
            }
            let part = self.driver.read(move |scheduler, _| {
                let rows = part.into_iter().filter_map(|(at, epochs)| scheduler.trial_row(sweep, at, epochs));
                rows.collect::<Vec<_>>()
            });
            for row in part.await.map_err(status::of_stopped)? {
                send(&rows, row.to_wire()).await?;
            }
        }
    }
}

/// Hands a row to its reader; waits for a slow one. One that went away is no error: the task is about to be dropped.
async fn send<T>(rows: &Rows<T>, row: T) -> Result<(), Status> {
    // The select in `stream` sees the closed channel too; whichever comes first ends the task.
    rows.send(Ok(row)).await.or(Ok(()))
}

/// The sweep in a message. Its check counts every run, which may take seconds: it has a thread of its own.
async fn read_sweep(field: &'static str, wire: Option<v1::Sweep>) -> Result<Sweep, Status> {
    let wire = wire.ok_or_else(|| status::of_wire(&WireError::Absent { field }))?;
    let read = tokio::task::spawn_blocking(move || Sweep::from_wire(wire));
    read.await.map_err(|_| status::defect())?.map_err(|error| status::of_wire(&error))
}

fn named(field: &'static str, name: &str) -> Result<SweepName, Status> {
    sweep_name(field, name).map_err(|error| status::of_wire(&error))
}

/// The status for an answer that is not the one hoped for.
fn refused(reply: Reply, asked: &SweepName, given: Option<&Sweep>) -> Status {
    match (reply, given) {
        (Reply::NameTaken { existing }, Some(given)) => status::name_taken(&existing, given),
        (Reply::OtherNumerics { wanted, ours }, _) => status::other_numerics(wanted, ours),
        (Reply::TakesNoOther { only }, _) => status::takes_no_other(&only),
        (Reply::NoSuchSweep { known }, _) => status::no_such_sweep(asked, &known),
        (Reply::IsCancelled { sweep }, _) => status::is_cancelled(&sweep),
        // The scheduler answers each call by its own replies.
        (
            Reply::Submitted { .. }
            | Reply::Extended { .. }
            | Reply::Outdated
            | Reply::Cancelled { .. }
            | Reply::Steered { .. }
            | Reply::Draining { .. }
            | Reply::WorkerResumed { .. }
            | Reply::KeepsItsWorker { .. }
            | Reply::NoSuchWorker { .. }
            | Reply::Retried { .. }
            | Reply::NameTaken { .. },
            _,
        ) => status::defect(),
    }
}

/// The status for an answer about a worker that is not the one hoped for.
fn worker_refused(reply: Reply, asked: &WorkerName) -> Status {
    match reply {
        Reply::NoSuchWorker { known } => status::no_such_worker(asked, &known),
        Reply::KeepsItsWorker { only } => status::keeps_its_worker(&only),
        // The scheduler answers each call by its own replies.
        Reply::Submitted { .. }
        | Reply::Extended { .. }
        | Reply::Outdated
        | Reply::IsCancelled { .. }
        | Reply::NameTaken { .. }
        | Reply::OtherNumerics { .. }
        | Reply::TakesNoOther { .. }
        | Reply::Cancelled { .. }
        | Reply::Steered { .. }
        | Reply::Retried { .. }
        | Reply::Draining { .. }
        | Reply::WorkerResumed { .. }
        | Reply::NoSuchSweep { .. } => status::defect(),
    }
}
