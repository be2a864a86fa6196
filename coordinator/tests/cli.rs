//! `slalom-coordinator` from outside: the real binary, real connections, kill -9.

#[path = "cli/disk.rs"]
mod disk;
#[path = "cli/limits.rs"]
mod limits;
#[path = "cli/load.rs"]
mod load;
#[path = "cli/peers.rs"]
mod peers;
#[path = "cli/process.rs"]
mod process;
#[path = "cli/scale.rs"]
mod scale;
#[path = "cli/trace.rs"]
mod trace;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use slalom_common::answer::{RunState, SweepState, SweepStatus, TrialRow, WorkerRow};
use slalom_common::id::{ContentHash, Incarnation};
use slalom_common::message::{Hello, LeasesHeld, WorkerMessage};
use slalom_proto::v1;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use peers::{Worker, hello, person, put_corpus, submit, sweep, text, watch};
use process::{Coordinator, PATIENCE, output, program, said};

/// Between two statuses of a watcher who wants to miss little.
const OFTEN: Duration = Duration::from_millis(20);

#[test]
fn help_names_every_flag_and_its_variable() {
    let output = output(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for flag in [
        "listen",
        "store",
        "heartbeat",
        "lease",
        "checkpoint-every",
        "progress-every",
        "insecure",
        "log-format",
        "log-dir",
        "log",
    ] {
        let variable = format!("SLALOM_{}", flag.replace('-', "_").to_uppercase());
        assert!(help.contains(&format!("--{flag}")) && help.contains(&variable), "{flag} in\n{help}");
    }
}

#[test]
fn flags_that_say_nothing_are_usage_errors_and_start_nothing() {
    let cases: [(&[&str], &str); 6] = [
        (&["--lease", "30"], "durations are such as"),
        (&["--heartbeat", "0s"], "not a whole number of milliseconds"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--heartbeat", "1m"], "`--lease 30s` is less than two of `--heartbeat 1m`"),
        (&["--log", "slalom=loud"], "a level or target=level"),
    ];
    for (flags, words) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("store");
        let output = program().args(flags).arg("--store").arg(&store).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{flags:?}: {}", said(&output));
        assert!(!store.exists(), "{flags:?}");
    }
}

#[test]
fn other_machines_are_let_in_only_on_purpose() {
    let output = output(&["--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        said(&output),
        "error: `--listen 0.0.0.0:0` can be reached from other machines, and nothing is encrypted or asks for a password\n  \
         help: add `--insecure` if that network is yours alone\n"
    );
}

#[test]
fn a_port_in_use_is_named_and_the_store_not_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let output = program().args(["--listen", &address, "--store"]).arg(&store).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.starts_with(&format!("error: cannot listen on {address}: ")), "{said}");
    assert!(said.contains("help: another program listens there"), "{said}");
    assert!(!store.exists());
}

#[tokio::test]
async fn a_store_has_one_coordinator() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Coordinator::start(dir.path()).await;
    let second = program()
        .args(["--listen", "127.0.0.1:0", "--store"])
        .arg(dir.path())
        .output()
        .expect("the program starts");
    assert_eq!(second.status.code(), Some(1));
    let said = said(&second);
    assert!(
        said.contains(&format!("{} is in use by process {}", dir.path().display(), first.pid())),
        "{said}"
    );
    assert!(said.contains("help: a store has one coordinator"), "{said}");
}

#[test]
fn a_file_that_is_no_store_is_refused_by_path_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("slalom.db");
    let garbage = "not a database at all, whatever its name says. ".repeat(200);
    std::fs::write(&file, &garbage).expect("a file");
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--store"])
        .arg(dir.path())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.contains(&file.display().to_string()) && said.contains("help: nothing was changed"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), garbage);
}

#[tokio::test]
async fn health_says_serving_and_reflection_lists_the_services() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    for service in ["", "slalom.v1.SweepService", "slalom.v1.WorkerService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(coordinator.channel()).check(request).await.expect("an answer");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(coordinator.channel());
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("an answer");
    let answer = answers.into_inner().message().await.expect("an answer").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list of services: {answer:?}");
    };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for service in ["grpc.health.v1.Health", "slalom.v1.SweepService", "slalom.v1.WorkerService"] {
        assert!(names.iter().any(|name| name == service), "{service} in {names:?}");
    }
}

async fn status_of_tiny(coordinator: &Coordinator) -> SweepStatus {
    let request = v1::GetStatusRequest { sweep: Some("tiny".to_owned()) };
    let answer = person(coordinator.channel()).get_status(request).await.expect("an answer").into_inner();
    let [only] = answer.sweeps.try_into().expect("one sweep");
    SweepStatus::from_wire(only).expect("a status")
}

/// I2 and I7.
#[tokio::test]
async fn a_submitted_sweep_survives_kill_9_and_is_the_same_sweep_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let submitted = submit(coordinator.channel(), &sweep("8,16")).await;
    assert!(submitted.created);
    coordinator.kill_9();

    let coordinator = Coordinator::start(dir.path()).await;
    let status = status_of_tiny(&coordinator).await;
    assert_eq!(status.state, SweepState::Active);
    assert_eq!((status.counts.of(RunState::Waiting), status.trials), (2, 4));
    let again = submit(coordinator.channel(), &sweep("8,16")).await;
    assert!(!again.created, "the same formula under the same name is the same sweep");

    let request = v1::GetSweepRequest { sweep: "tiny".to_owned() };
    let formula = person(coordinator.channel()).get_sweep(request).await.expect("an answer").into_inner();
    assert_eq!(formula.sweep, Some(sweep("8,16").to_wire()));
    assert_eq!(coordinator.signal("TERM").await.code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_taken_on_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let mut client = person(coordinator.channel());
    let mut refused = async |sweep: v1::Sweep| {
        let status = client.submit(v1::SubmitRequest { sweep: Some(sweep) }).await.expect_err("not a sweep");
        (status.code(), status.message().to_owned())
    };
    let corpus = text().sha256();
    let no_corpus = refused(sweep("8").to_wire()).await;
    assert_eq!(no_corpus, (Code::FailedPrecondition, format!("corpus {corpus} is not here")));

    submit(coordinator.channel(), &sweep("8,16")).await;
    let longer = v1::Sweep { corpus_chars: 10_000, ..sweep("8").to_wire() };
    let (code, words) = refused(longer).await;
    assert_eq!((code, words.contains("characters, not 10000")), (Code::FailedPrecondition, true), "{words}");
    let (code, words) = refused(sweep("8,32").to_wire()).await;
    assert_eq!(code, Code::AlreadyExists);
    assert_eq!(words, "`tiny` is another sweep here; they differ (here / given) in `nodes` (8,16 / 8,32)");
    let mut newer = sweep("8").to_wire();
    newer.family.as_mut().expect("it has one").numerics_version += 1;
    assert_eq!(refused(newer).await.0, Code::FailedPrecondition);
    let (code, words) = refused(v1::Sweep { blocks: Vec::new(), ..sweep("8").to_wire() }).await;
    assert_eq!((code, words.as_str()), (Code::InvalidArgument, "a sweep has at least one block"));

    let request = v1::GetStatusRequest { sweep: Some("tinny".to_owned()) };
    let status = person(coordinator.channel()).get_status(request).await.expect_err("no such sweep");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "no sweep is called `tinny`: there is `tiny`");
    let request = v1::ListRunsRequest {
        sweep: "tiny".to_owned(),
        r#where: Some("epochs > 1".to_owned()),
        states: Vec::new(),
    };
    let status = person(coordinator.channel()).list_runs(request).await.expect_err("a run has no epochs");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("unknown name `epochs`"), "{}", status.message());
}

#[tokio::test]
async fn bytes_that_are_not_what_they_are_said_to_be_are_refused_and_not_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let refused = async |name: ContentHash, bytes: &[u8]| {
        let status = put_corpus(coordinator.channel(), name.bytes(), bytes).await.expect_err("no corpus");
        let request = v1::HasCorpusRequest { sha256: name.bytes().to_vec() };
        let answer = person(coordinator.channel()).has_corpus(request).await.expect("an answer");
        assert!(!answer.into_inner().present);
        (status.code(), status.message().to_owned())
    };
    let (code, words) = refused(ContentHash::of(b"snow"), b"rain").await;
    assert_eq!((code, words.contains("hash to")), (Code::InvalidArgument, true), "{words}");
    let (code, words) = refused(ContentHash::of(b"the Snow"), b"the Snow").await;
    assert_eq!((code, words.contains("byte 0x53 at offset 4")), (Code::InvalidArgument, true), "{words}");

    let status = put_corpus(coordinator.channel(), b"short", b"snow").await.expect_err("no hash");
    assert_eq!(status.code(), Code::InvalidArgument);
    let name = |kind: v1::BlobKind, size| v1::BlobName {
        kind: kind as i32,
        sha256: ContentHash::of(b"snow").bytes().to_vec(),
        size,
    };
    let chunk = |name, data: &[u8]| v1::PutBlobChunk { name, data: data.to_vec() };
    let cases = [
        (vec![], Code::InvalidArgument),
        (vec![chunk(None, b"snow")], Code::InvalidArgument),
        (vec![chunk(Some(name(v1::BlobKind::Checkpoint, 4)), b"snow")], Code::InvalidArgument),
        (vec![chunk(Some(name(v1::BlobKind::Corpus, 5)), b"snow")], Code::InvalidArgument),
        (vec![chunk(Some(name(v1::BlobKind::Corpus, 3)), b"snow")], Code::InvalidArgument),
        (vec![chunk(Some(name(v1::BlobKind::Corpus, (1 << 30) + 1)), b"snow")], Code::ResourceExhausted),
        (
            vec![chunk(Some(name(v1::BlobKind::Corpus, 2 << 20)), &vec![b'a'; (1 << 20) + 1])],
            Code::InvalidArgument,
        ),
    ];
    for (chunks, code) in cases {
        let put = person(coordinator.channel()).put_corpus(tokio_stream::iter(chunks)).await;
        let status = put.expect_err("no corpus");
        assert_eq!(status.code(), code, "{}", status.message());
    }
}

#[tokio::test]
async fn bytes_come_back_in_chunks_as_they_were_put() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let state: Vec<u8> = (0..3_000_001_u32).map(|index| (index % 251) as u8).collect();
    for chunk in [1 << 20, 77_777] {
        let name = peers::put_checkpoint(coordinator.channel(), &state, chunk).await.expect("stored");
        let chunks = peers::get_blob(coordinator.channel(), name).await.expect("it is there");
        assert!(chunks.iter().all(|chunk| chunk.len() <= 1 << 20), "no chunk is larger than 1 MiB");
        assert!(chunks.concat() == state, "other bytes");
    }
    let absent =
        peers::get_blob(coordinator.channel(), ContentHash::of(b"ice")).await.expect_err("not there");
    assert_eq!(absent.code(), Code::NotFound);
}

#[tokio::test]
async fn a_worker_is_welcomed_granted_and_acknowledged_until_the_sweep_is_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8,16")).await;
    let mut changes = person(coordinator.channel()).watch(watch(OFTEN)).await.expect("a watch").into_inner();

    let (mut worker, welcome) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    assert_eq!(welcome.heartbeat.as_millis(), 200);
    assert_eq!(welcome.acknowledged, None);
    let mut waiting = worker.grants().await;
    assert_eq!(waiting[0].run.shape.nodes, 16, "the longest expected run first");
    let rows = person(coordinator.channel()).list_workers(v1::ListWorkersRequest {}).await.expect("rows");
    let rows: Vec<WorkerRow> =
        rows.into_inner().workers.into_iter().map(|row| WorkerRow::from_wire(row).expect("a row")).collect();
    assert_eq!((rows.len(), rows[0].worker.as_str(), rows[0].connected), (1, "hill-3", true));

    while let Some(lease) = waiting.pop() {
        let number = worker.finish(&lease).await;
        waiting.extend(worker.acknowledged(number).await);
        if waiting.is_empty() && status_of_tiny(&coordinator).await.state == SweepState::Active {
            waiting = worker.grants().await;
        }
    }
    coordinator.wait_for("sweep done").await;
    assert_eq!(status_of_tiny(&coordinator).await.counts.of(RunState::Done), 2);

    let mut last = None;
    while let Some(change) = changes.message().await.expect("the watch lives") {
        last = Some(SweepStatus::from_wire(change).expect("a status"));
    }
    assert_eq!(last.expect("at least one").state, SweepState::Done, "a watch ends when the sweep is done");

    let request = v1::ListTrialsRequest { sweep: "tiny".to_owned() };
    let mut rows = person(coordinator.channel()).list_trials(request).await.expect("rows").into_inner();
    let mut trials = Vec::new();
    while let Some(row) = rows.message().await.expect("a row") {
        let row = TrialRow::from_wire(&row).expect("a row");
        trials.push((row.at.shape.nodes, row.epochs, row.perplexity));
    }
    let expected = |nodes, epochs| (nodes, epochs, Some(peers::made_up(nodes, epochs)));
    assert_eq!(trials, [expected(8, 10), expected(8, 20), expected(16, 10), expected(16, 20)]);

    // A second life knows what the first acknowledged, and the worker's next stream goes on in it.
    coordinator.kill_9();
    let coordinator = Coordinator::start(dir.path()).await;
    assert_eq!(status_of_tiny(&coordinator).await.state, SweepState::Done);
}

#[tokio::test]
async fn runs_are_listed_by_state_and_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8,16,32")).await;
    let listed = async |states: &[RunState], filter: Option<&str>| {
        let request = v1::ListRunsRequest {
            sweep: "tiny".to_owned(),
            states: states.iter().map(|state| state.to_wire() as i32).collect(),
            r#where: filter.map(str::to_owned),
        };
        let mut rows = person(coordinator.channel()).list_runs(request).await.expect("rows").into_inner();
        let mut numbers = Vec::new();
        while let Some(row) = rows.message().await? {
            numbers.push(row.run);
        }
        Ok::<_, tonic::Status>(numbers)
    };
    assert_eq!(listed(&[], None).await.expect("rows"), [0, 1, 2]);
    assert_eq!(listed(&[RunState::Waiting], Some("nodes >= 16")).await.expect("rows"), [1, 2]);
    assert_eq!(listed(&[RunState::Failed], None).await.expect("rows"), [0; 0]);
    let divided = listed(&[], Some("nodes / (nodes - 16) > 0")).await.expect_err("a division by zero");
    assert_eq!(divided.code(), Code::InvalidArgument);

    let request = v1::CancelRequest { sweep: "tiny".to_owned() };
    person(coordinator.channel()).cancel(request.clone()).await.expect("cancelled");
    person(coordinator.channel()).cancel(request).await.expect("twice is no error");
    assert_eq!(listed(&[RunState::Cancelled], None).await.expect("rows"), [0, 1, 2]);
}

#[tokio::test]
async fn a_worker_of_another_build_is_refused_in_words_and_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = Coordinator::start(dir.path()).await;
    let greeted = Worker::greet(coordinator.channel(), peers::hello_of_other_numerics()).await;
    let status = greeted.err().expect("another build");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("would give other bits"), "{}", status.message());
    assert_eq!(coordinator.wait_for("message refused").await["worker"], "hill-3");
}

/// Whoever waits for the end of a sweep has nothing else to do.
#[tokio::test]
async fn the_end_of_a_sweep_is_told_at_once_however_seldom_a_watcher_wants_to_be_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8")).await;
    let seldom = watch(Duration::from_secs(3_600));
    let mut changes = person(coordinator.channel()).watch(seldom).await.expect("a watch").into_inner();
    let mut next = async || {
        let next = tokio::time::timeout(PATIENCE, changes.message()).await.expect("it is told in time");
        next.expect("the watch lives").map(|status| SweepStatus::from_wire(status).expect("a status").state)
    };
    assert_eq!(next().await, Some(SweepState::Active));
    let (mut worker, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let leases = worker.grants().await;
    worker.finish(&leases[0]).await;
    assert_eq!((next().await, next().await), (Some(SweepState::Done), None));
}

#[tokio::test]
async fn a_worker_whose_known_run_comes_to_other_bits_is_refused_in_words_and_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = Coordinator::start(dir.path()).await;
    let greeted = Worker::greet(coordinator.channel(), peers::hello_of_other_bits()).await;
    let status = greeted.err().expect("other bits");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("its known run came to"), "{}", status.message());
    assert!(status.message().contains("test the memory of its machine"), "{}", status.message());
    assert_eq!(coordinator.wait_for("message refused").await["worker"], "hill-3");
}

#[tokio::test]
async fn a_worker_that_does_not_say_what_its_known_run_came_to_is_refused_in_words_and_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = Coordinator::start(dir.path()).await;
    let greeted = Worker::greet(coordinator.channel(), peers::hello_without_known_run()).await;
    let status = greeted.err().expect("a build that is too old");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("its build is too old"), "{}", status.message());
    assert_eq!(coordinator.wait_for("message refused").await["worker"], "hill-3");
}

#[tokio::test]
async fn a_worker_on_which_three_runs_in_a_row_fail_is_paused_across_kill_9_until_a_person_resumes_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut coordinator = Coordinator::start(dir.path()).await;
    submit(coordinator.channel(), &sweep("8,16,32,64")).await;
    let one = Hello { slots: 1, ..hello() };
    let (mut poison, _) = Worker::greet(coordinator.channel(), one.clone()).await.expect("a welcome");
    let mut failed = BTreeSet::new();
    let mut leases = poison.grants().await;
    while let Some(lease) = leases.pop().filter(|_| failed.len() < 3) {
        let number = poison.fail(&lease).await;
        failed.insert(lease.run.key());
        leases.extend(poison.acknowledged(number).await);
    }
    assert_eq!(failed.len(), 3);
    let paused = coordinator.wait_for("worker paused").await;
    assert_eq!((&paused["worker"], &paused["reason"]), (&"hill-3".into(), &"panic".into()));
    coordinator.kill_9();

    let mut coordinator = Coordinator::start(dir.path()).await;
    let anew = Hello { incarnation: Incarnation::new(8), ..one };
    let (mut poison, _) = Worker::greet(coordinator.channel(), anew).await.expect("a welcome");
    coordinator.wait_for("worker paused").await;
    let mut people = person(coordinator.channel());
    let rows = people.list_workers(v1::ListWorkersRequest {}).await.expect("an answer").into_inner().workers;
    assert!(rows.iter().any(|row| row.connected && row.paused), "{rows:?}");
    let request = |name: &str| v1::ResumeWorkerRequest { worker: name.to_owned() };
    let nobody = people.resume_worker(request("hill-33")).await.expect_err("no such worker");
    assert_eq!(
        (nobody.code(), nobody.message()),
        (Code::NotFound, "no worker is called `hill-33`: there is `hill-3`")
    );
    people.resume_worker(request("hill-3")).await.expect("an answer");
    coordinator.wait_for("worker resumed").await;
    assert!(!poison.grants().await.is_empty());
}

#[tokio::test]
async fn a_stream_that_is_not_of_the_protocol_is_ended_by_name_and_others_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let (mut bystander, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");

    let early = WorkerMessage::Heartbeat(LeasesHeld::default());
    let status = Worker::open(coordinator.channel(), early).await.err().expect("no hello");
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut other = hello();
    other.incarnation = slalom_common::id::Incarnation::new(8);
    let (mut rude, _) = Worker::greet(coordinator.channel(), other.clone()).await.expect("a welcome");
    rude.say(WorkerMessage::Hello(other)).await;
    let status = rude.receive().await.expect_err("two hellos");
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "a stream has one hello"));

    submit(coordinator.channel(), &sweep("8")).await;
    assert_eq!(bystander.grants().await.len(), 1, "the other worker is served on");
}

#[tokio::test]
async fn a_newer_stream_of_the_same_worker_takes_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let coordinator = Coordinator::start(dir.path()).await;
    let (mut former, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let (mut newer, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
    let status = former.receive().await.expect_err("superseded");
    assert_eq!(status.code(), Code::Unavailable);
    submit(coordinator.channel(), &sweep("8")).await;
    assert_eq!(newer.grants().await.len(), 1);
}

#[tokio::test]
async fn a_signal_ends_streams_and_the_process_with_its_code() {
    for (signal, code) in [("TERM", 0), ("INT", 130)] {
        let dir = tempfile::tempdir().expect("a directory");
        let coordinator = Coordinator::start(dir.path()).await;
        submit(coordinator.channel(), &sweep("8")).await;
        let mut changes =
            person(coordinator.channel()).watch(watch(OFTEN)).await.expect("a watch").into_inner();
        changes.message().await.expect("the watch lives").expect("a first status");
        let (mut worker, _) = Worker::greet(coordinator.channel(), hello()).await.expect("a welcome");
        worker.grants().await;

        let ended = tokio::spawn(coordinator.signal(signal));
        let status = worker.receive().await.expect_err("it stops");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let ending = loop {
            match changes.message().await {
                Ok(Some(_)) => (),
                ended => break ended,
            }
        };
        assert_eq!(ending.expect_err("it stops").code(), Code::Unavailable);
        assert_eq!(ended.await.expect("it ends").code(), Some(code), "{signal}");
    }
}
