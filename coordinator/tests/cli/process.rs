//! The real binary as a child, its log and its end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::{Channel, Endpoint};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, without anything of this process's environment that is its to read.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slalom-coordinator"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SLALOM_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// The program with `args`, to its end.
pub(crate) fn output(args: &[&str]) -> Output {
    program().args(args).output().expect("the program starts")
}

/// What it wrote to standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program as it serves the store in `dir`, with short times.
fn serving(dir: &Path, listen: &str) -> Command {
    let mut command = program();
    command.args(["--listen", listen, "--heartbeat", "200ms", "--lease", "60s"]);
    command.arg("--store").arg(dir).stdout(Stdio::null());
    command
}

/// A living coordinator on a free port.
pub(crate) struct Coordinator {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    seen: Vec<String>,
    address: String,
}

impl Coordinator {
    /// Starts one on the store in `dir` and waits until it serves.
    pub(crate) async fn start(dir: &Path) -> Self {
        let mut command = serving(dir, "127.0.0.1:0");
        Self::of(command.args(["--log-format", "json", "--log", "debug"])).await
    }

    /// One that says on standard error, in JSON, where it listens.
    async fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                // The test may be over before the process is.
                let _ = sender.send(line);
            }
        });
        let mut coordinator = Self { child, lines, seen: Vec::new(), address: String::new() };
        let started = coordinator.wait_for("coordinator started").await;
        started["listen"].as_str().expect("an address").clone_into(&mut coordinator.address);
        coordinator
    }

    /// The same with so many descriptors.
    pub(crate) async fn start_with_descriptors(dir: &Path, count: u32) -> Self {
        let whole = serving(dir, "127.0.0.1:0");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {count}; exec \"$0\" \"$@\"")]);
        shell.arg(whole.get_program()).args(whole.get_args()).args(["--log-format", "json"]);
        for (name, _) in whole.get_envs() {
            shell.env_remove(name);
        }
        Self::of(shell.stdin(Stdio::null()).stdout(Stdio::null())).await
    }

    /// The same with a log as it is by default, which is read and not kept.
    pub(crate) async fn start_with_usual_log(dir: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = port.expect("a port").to_string();
        let mut child = serving(dir, &address).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let (serves, served) = oneshot::channel();
        std::thread::spawn(move || {
            if log.by_ref().lines().map_while(Result::ok).any(|line| line.contains("coordinator started")) {
                // The test may be over.
                let _ = serves.send(());
            }
            std::io::copy(&mut log, &mut std::io::sink())
        });
        let coordinator = Self { child, lines: mpsc::unbounded_channel().1, seen: Vec::new(), address };
        let served = tokio::time::timeout(PATIENCE, served).await;
        served.expect("it serves in time").expect("it lives");
        coordinator
    }

    /// The next line of its log that is this event.
    pub(crate) async fn wait_for(&mut self, event: &str) -> Value {
        loop {
            let Ok(Some(line)) = tokio::time::timeout(PATIENCE, self.lines.recv()).await else {
                panic!("no `{event}` came; the log was\n{}", self.seen.join("\n"));
            };
            let fields: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
            self.seen.push(line);
            if fields["event"] == event {
                return fields;
            }
        }
    }

    /// A channel to it.
    pub(crate) fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        endpoint.connect_lazy()
    }

    /// kill -9.
    pub(crate) fn kill_9(mut self) {
        self.child.kill().expect("it lives");
        self.child.wait().expect("it was started here");
    }

    /// Sends a signal by name.
    pub(crate) fn tell(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("`kill` is everywhere").success());
    }

    /// Sends a signal by name and waits for the end, while the test's connections live on.
    pub(crate) async fn signal(mut self, name: &'static str) -> ExitStatus {
        self.tell(name);
        let ended = tokio::task::spawn_blocking(move || self.child.wait().expect("it was started here"));
        ended.await.expect("waiting does not panic")
    }

    /// Waits until it ends by itself; how, and all that it said.
    pub(crate) async fn end(mut self) -> (ExitStatus, String) {
        while let Ok(Some(line)) = tokio::time::timeout(PATIENCE, self.lines.recv()).await {
            self.seen.push(line);
        }
        let log = self.seen.join("\n");
        // Its standard error is closed: it has ended, or is about to.
        let ended = tokio::task::spawn_blocking(move || self.child.wait().expect("it was started here"));
        (ended.await.expect("waiting does not panic"), log)
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn resident_mib_max(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it lives");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the system counts it");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        kib >> 10
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
