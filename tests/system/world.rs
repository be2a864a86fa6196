//! Processes, their logs, faults and waiting: what the other modules are written in.
//!
//! Nothing here sleeps. A thread a process reads its log, and whoever waits is woken by the line it waits for; when time
//! runs out it says which line was the last.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Twelve runs of a quarter of a second or so, 36 trials: long enough to be interrupted, short enough to be repeated.
pub(crate) const SWEEP: &str = r#"
name = "tiny"
corpus = { synthetic = 1, chars = 50_000 }
[grid]
nodes = [16, 32]
batch_size = [16]
unrollings = [5, 10]
epochs = [200, 1000, 3000]
seeds = 3
[training]
valid_size = 200
"#;

/// `results.csv` of [`SWEEP`] from a world without faults: what every other world must come to.
pub(crate) fn calm() -> &'static str {
    static CALM: OnceLock<String> = OnceLock::new();
    CALM.get_or_init(|| calm_results(SWEEP))
}

/// `results.csv` of this spec from a world without faults.
pub(crate) fn calm_results(spec: &str) -> String {
    let mut world = World::new(["alone-1", "alone-2"]);
    let sweep = world.submit(spec);
    world.wait_for(&event("sweep done").with("sweep", &sweep));
    world.results_csv(&sweep)
}

/// A line of a log to wait for.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
}

/// An event of this name.
pub(crate) fn event(name: &'static str) -> Expected {
    Expected { name, fields: Vec::new() }
}

impl Expected {
    /// With a field of this value.
    pub(crate) fn with(mut self, field: &'static str, value: impl std::fmt::Display) -> Self {
        self.fields.push((field, value.to_string()));
        self
    }

    pub(crate) fn is(&self, line: &Line) -> bool {
        let field = |name: &str| match line.json.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
            None => None,
        };
        field("event").as_deref() == Some(self.name)
            && self.fields.iter().all(|(name, value)| field(name).as_ref() == Some(value))
    }
}

/// One line of a process's log.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    process: String,
    text: String,
    pub(crate) json: Value,
    /// When it was read.
    pub(crate) at: Instant,
}

/// A coordinator, its workers, and everything they have logged.
pub(crate) struct World {
    folder: TempDir,
    /// The store's folder, if a file system is mounted there.
    disk: Option<PathBuf>,
    host: String,
    port: u16,
    /// Descriptors that the coordinator may have, if not as many as the test.
    descriptors: Option<u32>,
    /// How long a worker may be silent.
    lease: &'static str,
    /// Its room for checkpoints, if not the usual.
    blob_budget: Option<&'static str>,
    processes: BTreeMap<String, Child>,
    lines: (Sender<Line>, Receiver<Line>),
    seen: Vec<Line>,
    /// Lines before this one have been waited for.
    cursor: usize,
}

const COORDINATOR: &str = "coordinator";

impl World {
    /// A coordinator and one worker of one slot for each name.
    pub(crate) fn new<'a>(workers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut world = Self::empty();
        world.start(workers);
        world
    }

    /// The same with the store on a file system of its own, of 16 MB; nothing, loudly, where a test may not mount one.
    pub(crate) fn on_a_small_disk<'a>(
        test: &str,
        workers: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let mut world = Self::empty();
        let disk = world.folder.path().join("store");
        std::fs::create_dir(&disk).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&disk).status();
        if !mount.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED {test}: this process may not mount a file system of its own");
            return None;
        }
        world.disk = Some(disk);
        world.start(workers);
        Some(world)
    }

    /// The same with a coordinator that may have so many descriptors.
    pub(crate) fn with_descriptors<'a>(count: u32, workers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut world = Self::empty();
        world.descriptors = Some(count);
        world.start(workers);
        world
    }

    /// The same with a coordinator that has so much room for checkpoints.
    pub(crate) fn with_blob_budget<'a>(
        size: &'static str,
        workers: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut world = Self::empty();
        world.blob_budget = Some(size);
        world.start(workers);
        world
    }

    /// A coordinator that other hosts reach at this address of this one.
    pub(crate) fn listening_at(host: &str, lease: &'static str) -> Self {
        let mut world = Self::empty();
        host.clone_into(&mut world.host);
        world.lease = lease;
        world.start([]);
        world
    }

    fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            disk: None,
            host: "127.0.0.1".to_owned(),
            port: free_port(),
            descriptors: None,
            lease: "1s",
            blob_budget: None,
            processes: BTreeMap::new(),
            lines: channel(),
            seen: Vec::new(),
            cursor: 0,
        }
    }

    fn start<'a>(&mut self, workers: impl IntoIterator<Item = &'a str>) {
        self.start_coordinator();
        for worker in workers {
            self.start_worker(worker);
        }
    }

    /// Starts the coordinator, or starts it again on the same store and port.
    pub(crate) fn start_coordinator(&mut self) {
        let mut command = match self.descriptors {
            None => Command::new(binary("slalom-coordinator")),
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\"")]);
                shell.arg(binary("slalom-coordinator"));
                shell
            }
        };
        command.args([
            "--listen",
            &format!("{}:{}", self.host, self.port),
            "--insecure",
            "--log-format",
            "json",
        ]);
        command.arg("--store").arg(self.folder.path().join("store"));
        if let Some(size) = self.blob_budget {
            command.args(["--blob-budget", size]);
        }
        command.args(["--heartbeat", "200ms", "--lease", self.lease, "--checkpoint-every", "100ms"]);
        self.spawn(COORDINATOR, command);
        self.wait_for(&event("coordinator started"));
    }

    /// Starts the coordinator on the same port and an empty store.
    pub(crate) fn start_coordinator_anew(&mut self) {
        std::fs::remove_dir_all(self.folder.path().join("store")).unwrap();
        self.start_coordinator();
    }

    /// Leaves no room on the small disk.
    pub(crate) fn fill_disk(&self) {
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        let full = std::iter::repeat_with(|| file.write_all(&[b'x'; 512])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    /// Makes room again.
    pub(crate) fn empty_disk(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.disk.as_ref().unwrap().join("ballast")
    }

    /// Copies the store of the living coordinator.
    pub(crate) fn back_up(&self) {
        let mut command = Command::new(binary("slalom-coordinator"));
        command.arg("backup").arg(self.folder.path().join("copy"));
        let output = command.arg("--store").arg(self.folder.path().join("store")).output().unwrap();
        assert!(output.status.success(), "backup: {}", said(&output));
    }

    /// Starts the coordinator on the same port and the copy, in the place of its store.
    pub(crate) fn start_coordinator_on_the_copy(&mut self) {
        let store = self.folder.path().join("store");
        std::fs::remove_dir_all(&store).unwrap();
        std::fs::rename(self.folder.path().join("copy"), &store).unwrap();
        self.start_coordinator();
    }

    /// Starts a worker of one slot.
    pub(crate) fn start_worker(&mut self, name: &str) {
        let command = Command::new(binary("slalom-worker"));
        self.spawn_worker(name, command, &self.url());
    }

    /// The same, to find the coordinator at this port of this host.
    pub(crate) fn start_worker_at(&mut self, name: &str, port: u16) {
        let command = Command::new(binary("slalom-worker"));
        self.spawn_worker(name, command, &format!("http://127.0.0.1:{port}"));
    }

    /// The same, its program started by these words.
    pub(crate) fn start_worker_by(&mut self, name: &str, words: &[String]) {
        let (first, rest) = words.split_first().unwrap();
        let mut command = Command::new(first);
        command.args(rest).arg(binary("slalom-worker"));
        self.spawn_worker(name, command, &self.url());
    }

    fn spawn_worker(&mut self, name: &str, mut command: Command, coordinator: &str) {
        command.args(["--coordinator", coordinator, "--name", name, "--slots", "1", "--log-format", "json"]);
        command.arg("--cache").arg(self.folder.path().join(format!("cache-{name}")));
        self.spawn(name, command);
    }

    fn spawn(&mut self, name: &str, mut command: Command) {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (process, lines) = (name.to_owned(), self.lines.0.clone());
        std::thread::spawn(move || {
            for text in log.lines().map_while(Result::ok) {
                let json = serde_json::from_str(&text).unwrap_or(Value::Null);
                // The world may be over before its processes are.
                let _ = lines.send(Line { process: process.clone(), text, json, at: Instant::now() });
            }
        });
        let earlier = self.processes.insert(name.to_owned(), child);
        assert!(earlier.is_none_or(|mut earlier| earlier.try_wait().unwrap().is_some()), "{name} still runs");
    }

    /// The port that the coordinator listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the coordinator had resident at most, in KB.
    pub(crate) fn resident_kb_max(&self) -> u64 {
        let status = self.of_coordinator("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// What the coordinator has used of a processor.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = self.of_coordinator("stat");
        // After the name, in parentheses, the state is field 3; user and system time are fields 14 and 15, in hundredths.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    fn of_coordinator(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.processes[COORDINATOR].id())).unwrap()
    }

    /// Where the coordinator listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Hands a spec to the coordinator; its name.
    pub(crate) fn submit(&mut self, spec: &str) -> String {
        let path = self.folder.path().join("spec.toml");
        std::fs::write(&path, spec).unwrap();
        let output = self.slalom(&["submit", path.to_str().unwrap(), "--output", "quiet"]);
        assert!(output.status.success(), "submit: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What `plan` says of a spec.
    pub(crate) fn plan(&self, spec: &str) -> Value {
        let path = self.folder.path().join("planned.toml");
        std::fs::write(&path, spec).unwrap();
        self.asks(&["plan", path.to_str().unwrap()])
    }

    /// Bytes of all checkpoints that the coordinator keeps.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        let folder = self.folder.path().join("store/blobs/checkpoints");
        let files = std::fs::read_dir(folder).unwrap();
        // One may be renamed or dropped while it is looked at.
        files.filter_map(|file| file.unwrap().metadata().ok()).map(|file| file.len()).sum()
    }

    /// Runs a verb against this world's coordinator.
    pub(crate) fn slalom(&self, arguments: &[&str]) -> Output {
        self.verb(arguments).output().unwrap()
    }

    /// The one JSON value that a verb prints.
    pub(crate) fn asks(&self, arguments: &[&str]) -> Value {
        let output = self.verb(arguments).args(["--output", "json"]).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a verb whose standard error the test reads itself.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.verb(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn verb(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("slalom"));
        command.args(arguments).env("SLALOM_COORDINATOR", self.url());
        command.env("SLALOM_CACHE", self.folder.path().join("cache-client"));
        command.current_dir(self.folder.path());
        command
    }

    /// The sweep's table as a file would hold it.
    pub(crate) fn results_csv(&self, sweep: &str) -> String {
        let output = self.slalom(&["results", sweep, "--format", "csv"]);
        assert!(output.status.success(), "results: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The next line that is the expected one, after all that were waited for before.
    pub(crate) fn wait_for(&mut self, expected: &Expected) -> Line {
        self.wait_for_either(expected, expected)
    }

    /// The next line that is one of two.
    pub(crate) fn wait_for_either(&mut self, expected: &Expected, other: &Expected) -> Line {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(line) = self.seen.get(self.cursor) {
                self.cursor += 1;
                if expected.is(line) || other.is(line) {
                    return line.clone();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.1.recv_timeout(left) else {
                panic!(
                    "waited {PATIENCE:?} for {expected:?} or {other:?}; the last lines were\n{}",
                    self.last_lines()
                );
            };
            self.seen.push(line);
        }
    }

    /// Takes in what is logged for so long, whatever it is.
    pub(crate) fn listen(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(line) = self.lines.1.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
    }

    /// The lines so far that are this event.
    pub(crate) fn all(&mut self, expected: &Expected) -> Vec<Line> {
        self.seen.extend(self.lines.1.try_iter());
        self.seen.iter().filter(|line| expected.is(line)).cloned().collect()
    }

    /// The leases of a sweep's runs that are no copies: on a machine that is busy, one worker may seem so much faster than another.
    pub(crate) fn first_leases(&mut self, sweep: &str) -> Vec<Line> {
        let mut leased = self.all(&event("run leased").with("sweep", sweep));
        leased.retain(|line| line.json["kind"].is_null());
        leased
    }

    /// How many lines so far are this event.
    pub(crate) fn count(&mut self, expected: &Expected) -> usize {
        self.all(expected).len()
    }

    fn last_lines(&self) -> String {
        let last = self.seen.iter().skip(self.seen.len().saturating_sub(40));
        last.map(|line| [&line.process, ": ", &line.text].concat()).collect::<Vec<_>>().join("\n")
    }

    /// kill -9 of a worker.
    pub(crate) fn kill_9(&mut self, name: &str) {
        let mut child = self.processes.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// kill -9 of the coordinator.
    pub(crate) fn kill_9_coordinator(&mut self) {
        self.kill_9(COORDINATOR);
    }

    /// SIGTERM, and how the process ended.
    pub(crate) fn terminate(&mut self, name: &str) -> ExitStatus {
        let mut child = self.processes.remove(name).unwrap();
        signal(&child, "TERM");
        child.wait().unwrap()
    }

    /// How a process ended that is told to by somebody else.
    pub(crate) fn ended(&mut self, name: &str) -> ExitStatus {
        self.processes.remove(name).unwrap().wait().unwrap()
    }

    /// SIGSTOP: frozen, its connections open.
    pub(crate) fn freeze(&self, name: &str) {
        signal(&self.processes[name], "STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self, name: &str) {
        signal(&self.processes[name], "CONT");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(disk) = &self.disk {
            let _ = Command::new("umount").arg(disk).status();
        }
    }
}

/// Sends a signal by name: `kill` is everywhere that these tests run, and needs no unsafe code.
pub(crate) fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {signal}");
}

/// A program of this workspace, built by the same command as this test.
pub(crate) fn binary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_slalom")).parent().unwrap();
    let path = folder.join(name);
    assert!(path.exists(), "{} is not built: run `cargo test --workspace`", path.display());
    path
}

/// All that a command printed, for a failing assertion.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nstdout:\n{}\nstderr:\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
